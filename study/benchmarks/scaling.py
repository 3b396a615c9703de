"""How the cost of forward and backward grows with circuits, layers and rows: fast against statevector.

    python benchmarks/scaling.py

Three sweeps from one middle point, the other two sizes held: circuits 1 … 13 and layers 1 … 7 at 128
rows, rows 16 … 1024. The slope is that of a straight line through the points in log-log axes: 1 means
proportional to the size, 0 free. "last slope" is that of the two largest sizes alone, where fixed costs
weigh least. For the layers the table also says which plan the engine chose.
"""

import common
import numpy as np

from qdm_lib.circuits import ANSATZE
from qdm_lib.engine.plan import decide

SWEEPS = {
    "circuits": (1, 2, 4, 7, 10, 13),
    "layers": (1, 2, 3, 4, 5, 6, 7),
    "rows": (16, 32, 64, 128, 256, 512, 1024),
}
MIDDLE = {"circuits": 4, "layers": 3, "rows": 128}
BACKENDS = ("fast", "statevector")


def slope(sizes: list[int], times: list[float]) -> float | None:
    """Exponent p of the power law time ~ size^p that fits best; None for fewer than two points."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0]) if len(sizes) > 1 else None


def sweep(ansatz: str, along: str, sizes: list[int], options) -> list[dict]:
    """Every size and backend of one sweep; both backends of one size take turns."""
    rows_of = []
    for size in sizes:
        case = {"ansatz": ansatz, **MIDDLE, along: size}
        work = case["circuits"] * case["rows"]
        contenders = [
            common.Entrant(
                f"{backend}, {size}",
                "contenders:build",
                {"name": backend, **case, "device": options.device},
                "",
                common.KEEP_MEMORY,
            )
            for backend in BACKENDS
            if backend == "fast" or work <= options.limit
        ]
        new = common.measure(
            contenders, rounds=options.rounds, seconds=options.seconds, budget=options.budget, threads=options.threads
        )
        plan = sorted({part.chosen.kind for part in decide(ANSATZE[ansatz](case["layers"])).components})
        more = {"along": along, "size": size, "plan": ", ".join(plan), **case}
        rows_of += [row | {"backend": row["arguments"]["name"], **more} for row in new]
    return rows_of


def fits(rows: list[dict]) -> list[dict]:
    """The slopes of each ansatz, sweep and backend."""
    found = []
    for key in dict.fromkeys((row["ansatz"], row["along"], row["backend"]) for row in rows):
        mine = [row for row in rows if (row["ansatz"], row["along"], row["backend"]) == key and "median_s" in row]
        sizes, times = [row["size"] for row in mine], [row["median_s"] for row in mine]
        ansatz, along, backend = key
        found.append({"ansatz": ansatz, "along": along, "backend": backend, "slope": slope(sizes, times),
                      "last_slope": slope(sizes[-2:], times[-2:])})  # fmt: skip
    return found


def show(rows: list[dict], slopes: list[dict]) -> str:
    """One table for each ansatz and sweep: a line for each backend."""
    text = []
    for ansatz, along in dict.fromkeys((row["ansatz"], row["along"]) for row in rows):
        mine = [row for row in rows if (row["ansatz"], row["along"]) == (ansatz, along)]
        sizes = list(dict.fromkeys(row["size"] for row in mine))
        lines = []
        for fit in (fit for fit in slopes if (fit["ansatz"], fit["along"]) == (ansatz, along)):
            times = {row["size"]: common.time_text(row) for row in mine if row["backend"] == fit["backend"]}
            numbers = ["–" if fit[key] is None else f"{fit[key]:.2f}" for key in ("slope", "last_slope")]
            lines.append([fit["backend"], *(times.get(size, "–") for size in sizes), *numbers])
        if along == "layers":
            plans = {row["size"]: row["plan"] for row in mine}
            lines.append(["plan of the fast engine", *plans.values(), "", ""])
        rest = ", ".join(f"{value} {key}" for key, value in MIDDLE.items() if key != along)
        text.append(f"{ansatz}, {rest}\n\n{common.table([along, *sizes, 'slope', 'last slope'], lines)}")
    return "\n\n".join(text)


def figure(rows: list[dict], slopes: list[dict], path) -> None:
    """Three panels, one for each sweep: colour is the ansatz, a dashed line the statevector."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sweeps = list(dict.fromkeys(row["along"] for row in rows))
    ansatze = list(dict.fromkeys(row["ansatz"] for row in rows))
    fig, axes = plt.subplots(
        1, len(sweeps), figsize=(4 * len(sweeps), 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, along in zip(axes[0], sweeps, strict=True):
        for fit in (fit for fit in slopes if fit["along"] == along):
            mine = [row for row in rows if all(row[key] == fit[key] for key in ("ansatz", "along", "backend"))]
            mine = [row for row in mine if "median_s" in row]
            fast, k = fit["backend"] == "fast", ansatze.index(fit["ansatz"])
            label = f"{fit['ansatz']}, {fit['backend']}" + (
                "" if fit["slope"] is None else f": slope {fit['slope']:.2f}"
            )
            ax.errorbar(
                [row["size"] for row in mine], [1e3 * row["median_s"] for row in mine],
                [500 * row["iqr_s"] for row in mine], color=common.COLOURS[k], marker="os"[k % 2],
                linestyle="-" if fast else "--", mfc=None if fast else "white", label=label,
            )  # fmt: skip
        sizes = sorted({row["size"] for row in rows if row["along"] == along})
        rest = ", ".join(f"{value} {key}" for key, value in MIDDLE.items() if key != along)
        ax.set(xscale="log", yscale="log", xlabel=along, title=rest)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    axes[0][0].set_ylabel("forward and backward, ms")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0], rounds=5, budget=10)
    parser.add_argument("--ansatz", nargs="+", default=["hqconv", "fqconv"], help="(%(default)s)")
    parser.add_argument("--along", nargs="+", default=list(SWEEPS), choices=SWEEPS, help="(%(default)s)")
    parser.add_argument("--sizes", nargs="+", type=int, help="sizes of the sweep, for a single --along")
    parser.add_argument(
        "--limit", type=int, default=1024, help="circuits x rows of the statevector's runs (%(default)s)"
    )
    options = parser.parse_args()
    if options.sizes and len(options.along) != 1:
        parser.error("--sizes needs one --along.")
    rows = []
    for ansatz in options.ansatz:
        for along in options.along:
            print(f"{ansatz} along {along}", flush=True)
            rows += sweep(ansatz, along, options.sizes or SWEEPS[along], options)
    slopes = fits(rows)
    print("\n" + show(rows, slopes))
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    content = {"benchmark": "scaling", "machine": common.machine(), "settings": settings, "middle": MIDDLE}
    common.write_json(options.out / "scaling.json", {**content, "rows": rows, "slopes": slopes})
    figure(rows, slopes, options.out / "scaling.png")
    print(f"\nWrote {options.out}/scaling.json and scaling.png")


if __name__ == "__main__":
    main()
