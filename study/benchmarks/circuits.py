"""Forward and backward of the paper's circuits: the fast engine against the simulators you would pick instead.

    python benchmarks/circuits.py              # everything that is installed
    python benchmarks/circuits.py --sizes 13x128 --ansatz fqconv --only fast "default.qubit, torch"
    python benchmarks/circuits.py --ansatz fqconv --keep   # the other ansatz as measured before

Every contender computes ⟨Z⟩ of 12 wires and the gradients in inputs and weights, in single precision
where it can, and is checked against the plain statevector in double precision before it is timed.
Sizes are circuits × rows: 1x128 and 13x128 are the vertex at batch 128 (one circuit, and the full
vertex), 1x6272 is the quanvolution (49 patches of 128 images). A contender that would need minutes
is measured on a smaller piece, which the table states: the time is the piece's, never scaled up, and
the columns "µs a row" and "× fast" divide by the rows that were run. "first call" holds planning and
compilation; a JAX program that was compiled for one size is read from a cache for the next.
"""

import json
import tempfile
from pathlib import Path

import common
import numpy as np
from contenders import CHUNK, CONTENDERS, missing, piece

PACKAGES = (
    "pennylane", "pennylane-lightning", "jax", "jaxlib", "tensorcircuit-ng", "torchquantum-ng", "flagquantum",
    "deepquantum", "pyqtorch", "mindquantum",
)  # fmt: skip
SIZES = [(1, 128), (13, 128), (1, 6272)]
WRONG = 1e-3  # relative error of a gradient in single precision from which a result counts as wrong


def size(text: str) -> tuple[int, int]:
    """ "13x128" → (13, 128)."""
    circuits, rows = (int(part) for part in text.split("x"))
    return circuits, rows


def errors(got: dict, want: dict, circuits: int, rows: int) -> dict:
    """Largest error of ⟨Z⟩, and of each gradient relative to its largest entry."""
    by_theta = want["arr_2"][: -(-rows // CHUNK), :circuits].sum(0)
    pairs = {
        "error_out": (got["arr_0"], want["arr_0"][:rows, :circuits]),
        "error_x": (got["arr_1"], want["arr_1"][:rows, :circuits]),
        "error_theta": (got["arr_2"], by_theta),
    }
    found = {
        key: float(np.abs(a - b).max() / (1 if key == "error_out" else np.abs(b).max()))
        for key, (a, b) in pairs.items()
    }
    if not all(value < WRONG for value in found.values()):  # NaN is wrong too
        raise common.WorkerError(f"wrong result: {found}")
    return found


def compare(ansatz: str, circuits: int, rows: int, names: list[str], options, folder: Path) -> list[dict]:
    """All contenders on one ansatz and size; one row for each."""
    print(f"\n{ansatz}, {options.layers} layers, {circuits} x {rows}", flush=True)
    case = {"ansatz": ansatz, "layers": options.layers, "circuits": circuits, "rows": rows}
    reference = common.Entrant("float64", "contenders:reference", case)
    worker = common.Worker(reference, options.threads)
    worker.ask("save", path=str(folder / "want.npz"))
    worker.close()
    want = dict(np.load(folder / "want.npz"))

    def check(worker: common.Worker) -> dict:
        worker.ask("save", path=str(folder / "got.npz"))
        run = piece(worker.contender.name, circuits, rows)
        return {"run": run, **errors(dict(np.load(folder / "got.npz")), want, *run)}

    setting = {**common.KEEP_MEMORY, "JAX_COMPILATION_CACHE_DIR": str(folder / "jax")}  # compiled once for all sizes
    contenders = [
        common.Entrant(
            name, "contenders:build", {"name": name, **case, "device": options.device}, CONTENDERS[name].note, setting
        )
        for name in names
        if ansatz in CONTENDERS[name].ansatze
    ]
    rows_of = common.measure_against(
        contenders,
        "fast",
        rounds=options.rounds,
        seconds=options.seconds,
        budget=options.budget,
        threads=options.threads,
        check=check,
    )
    timed = [row for row in rows_of if "median_s" in row]
    for row in rows_of:
        row |= case | {"size": f"{circuits}x{rows}"}
    for row in timed:
        row["us_per_row"] = 1e6 * row["median_s"] / float(np.prod(row["run"]))
        base = row["baseline_median_s"]  # fast always runs whole
        row["times_fast"] = row["us_per_row"] / (1e6 * base / (circuits * rows)) if base else None
    return rows_of


def show(rows: list[dict]) -> str:
    """The table of one ansatz and size; contenders measured on a piece are marked with *."""
    header = ["contender", "ran", "time", "µs a row", "× fast", "memory", "first call", "error ⟨Z⟩", "∂x", "∂θ"]
    lines = []
    for row in rows:
        if "median_s" not in row:
            lines.append([row["name"], row["error"][:60], *["–"] * 8])
            continue
        run = "{}x{}".format(*row["run"])
        ratio = f"{row['times_fast']:.3g}" if row["times_fast"] else "–"
        error = [f"{row[key]:.0e}" for key in ("error_out", "error_x", "error_theta")]
        first = f"{row['first_call_s']:.2g} s"
        memory = f"{row['peak_mb']:.0f} MB"
        cells = [common.time_text(row), f"{row['us_per_row']:.3g}", ratio, memory, first, *error]
        lines.append([row["name"], run + "*" * (run != row["size"]), *cells])
    return common.table(header, lines)


def figure(rows: list[dict], path: Path) -> None:
    """Time and memory of every contender, one row of panels for each ansatz; hollow: measured on a piece."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if "median_s" in row]
    ansatze, sizes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("ansatz", "size"))
    names = [name for name in CONTENDERS if any(row["name"] == name for row in rows)][::-1]
    height = 1.3 + 0.32 * len(names) * len(ansatze)
    fig, axes = plt.subplots(len(ansatze), 2, figsize=(10, height), sharey=True, squeeze=False, layout="constrained")
    quantities = {"us_per_row": "time for one row of one circuit, µs", "peak_mb": "memory of one call, MB"}
    for ax_row, ansatz in zip(axes, ansatze, strict=True):
        for ax, (key, label) in zip(ax_row, quantities.items(), strict=True):
            for colour, marker, size in zip(common.COLOURS, "os^Dv", sizes, strict=False):
                for row in (row for row in rows if (row["ansatz"], row["size"]) == (ansatz, size)):
                    full = "{}x{}".format(*row["run"]) == size
                    ax.plot(max(row[key], 0.1), names.index(row["name"]), marker, color=colour, ms=7, mew=1.5,
                            mfc=colour if full else "white", label=size)  # fmt: skip
            ax.set(xscale="log", xlabel=label, title=ansatz, ylim=(-0.6, len(names) - 0.4))
            ax.set_yticks(range(len(names)), names)
            ax.grid(alpha=0.3)
    handles = dict(zip(*axes[0][0].get_legend_handles_labels()[::-1], strict=True))  # one for each size
    fig.legend(handles.values(), handles, title="circuits × rows (hollow: a piece of them)", loc="outside upper center",
               ncols=len(handles))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def kept(old: dict, new: dict, options) -> list[dict]:
    """An earlier run's rows that this one will not measure again, if machine and settings are the same."""
    same = ("rounds", "seconds", "budget", "threads", "layers", "device")
    if old["machine"] != new["machine"] or any(old["settings"][key] != new["settings"][key] for key in same):
        raise SystemExit(f"--keep: {options.out / 'circuits.json'} is of another machine, other versions or settings.")
    again = {(ansatz, f"{circuits}x{rows}") for ansatz in options.ansatz for circuits, rows in options.sizes}
    return [row for row in old["rows"] if (row["ansatz"], row["size"]) not in again]


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0], budget=30)
    parser.add_argument("--ansatz", nargs="+", default=["hqconv", "fqconv"], help="(%(default)s)")
    parser.add_argument("--sizes", nargs="+", type=size, default=SIZES, help="circuits x rows, as 13x128")
    parser.add_argument("--layers", type=int, default=3, help="(%(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=f"some of {', '.join(CONTENDERS)}"
    )
    parser.add_argument("--keep", action="store_true", help="keep what the JSON holds of other ansätze and sizes")
    options = parser.parse_args()
    names = []
    for name in options.only or CONTENDERS:
        if missing(name):
            print(f"{name} is left out: not installed. To include it: pip install {CONTENDERS[name].install}")
        else:
            names.append(name)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "keep")}
    content = {"benchmark": "circuits", "machine": common.machine(*PACKAGES), "settings": settings, "rows": []}
    path = options.out / "circuits.json"
    if options.keep and path.exists():
        content["rows"] = kept(json.loads(path.read_text()), content, options)
    with tempfile.TemporaryDirectory() as folder:
        for ansatz in options.ansatz:
            for circuits, rows in options.sizes:
                new = compare(ansatz, circuits, rows, names, options, Path(folder))
                print("\n" + show(new), flush=True)
                content["rows"] += new
                common.write_json(path, content)  # so far: the whole takes a while
    figure(content["rows"], options.out / "circuits.png")
    print(f"\n* measured on this piece only. Wrote {options.out}/circuits.json and circuits.png")


if __name__ == "__main__":
    main()
