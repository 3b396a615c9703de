"""One training step and one sampling step: the plain U-Net, the faster forms, and every model of the paper.

    python benchmarks/training_step.py                      # all but the curves
    python benchmarks/training_step.py --only curves        # losses of single precision and bfloat16
    python benchmarks/training_step.py --only forms --compile

A training step is one `next` of `qdm_lib.training.train` on a batch of Fashion-MNIST: noise, forward,
backward, the norm of the gradient, Adam, moving average. A sampling step is one `next` of `ddpm_sample`.
Every part replaces its own rows in the JSON and keeps the others, so a stopped benchmark is taken up
with --only.

- forms: the classical U-Net as `qdm_lib.blocks` writes it down ("plain"), and as it runs by default.
- presets: every model, its circuits on the fast engine.
- backends: 1hqconv with its circuits on the other backends (PennyLane's takes some 7 GB of memory).
- sampling: the forms again, without gradients.
- limit: floating-point operations of a step against a large matrix product on the same threads.
- curves: the loss over the first steps in single precision and in bfloat16, same weights, images and noise.
"""

import itertools
import json
import time
from collections.abc import Callable
from contextlib import nullcontext

import common
import torch
from torch.utils.flop_counter import FlopCounterMode

from qdm_lib.blocks import FilmNorm
from qdm_lib.data import batches, load_images
from qdm_lib.diffusion import NoiseSchedule, ddpm_sample
from qdm_lib.quantum import BACKENDS
from qdm_lib.training import EMA, make_optimizer, train
from qdm_lib.unet import PRESETS, build_unet

PARTS = ("forms", "presets", "backends", "sampling", "limit", "curves")
DEFAULT_ALLOCATOR = {}
BF16 = torch.bfloat16


# ---- the contenders, each built in its own process -------------------------------------------------


def build(preset: str, form: str, device: str, backend: str = "fast") -> torch.nn.Module:
    """A model in one of the forms: "plain" or "default", with "compiled" before it if asked for."""
    forms = "plain" if form.endswith("plain") else "fast"
    model = build_unet(preset, backend=backend, forms=forms, seed=0).to(device)
    if form.startswith("compiled"):
        model.compile()
    return model


def training_step(preset: str, form: str, batch: int, device: str, bf16: bool, backend: str = "fast") -> Callable:
    """The function that makes the next training step."""
    model = build(preset, form, device, backend)
    images = load_images("fashion-mnist", bundled=True)
    steps = train(
        model,
        NoiseSchedule(),
        batches(images, batch, seed=0),
        make_optimizer(model),
        EMA(model),
        generator=torch.Generator().manual_seed(0),
        autocast=BF16 if bf16 else None,
    )
    return with_info(lambda: next(steps), model)


def with_info(call: Callable, model: torch.nn.Module) -> Callable:
    """The same function, saying in its row which forms the model really uses."""
    call.info = {"plain_forms": type(model.last_block.norm1) is FilmNorm}
    return call


def sampling_step(form: str, batch: int, device: str, bf16: bool) -> Callable:
    """The function that makes the next reverse step for a batch of images."""
    model = build("unet", form, device).eval()

    def predict(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, BF16) if bf16 else nullcontext():
            return model(x_t, t).float()

    generator = torch.Generator().manual_seed(0)
    schedule, shape = NoiseSchedule(), (batch, 1, 28, 28)
    runs = (ddpm_sample(predict, schedule, shape, generator=generator, device=device) for _ in itertools.count())
    states = itertools.chain.from_iterable(runs)
    return with_info(lambda: next(states), model)


# ---- the parts -------------------------------------------------------------------------------------


def forms_of(options) -> list[tuple[str, str, bool, dict]]:
    """(name, form, bf16, environment) of the contenders of "forms" and "sampling"."""
    found = [
        ("plain, glibc's default", "plain", False, DEFAULT_ALLOCATOR),
        ("plain", "plain", False, common.KEEP_MEMORY),
        ("default, glibc's default", "default", False, DEFAULT_ALLOCATOR),
        ("default", "default", False, common.KEEP_MEMORY),
        ("plain, bfloat16", "plain", True, common.KEEP_MEMORY),
        ("default, bfloat16", "default", True, common.KEEP_MEMORY),
    ]
    if options.compile:
        found += [
            ("plain, compiled", "compiled plain", False, common.KEEP_MEMORY),
            ("default, compiled", "compiled", False, common.KEEP_MEMORY),
            ("default, compiled, bfloat16", "compiled", True, common.KEEP_MEMORY),
        ]
    return found


def timed(contenders: list[common.Entrant], options, baseline: str) -> list[dict]:
    """Measure, and divide by the baseline's median."""
    limits = {"rounds": options.rounds, "seconds": options.seconds, "budget": options.budget}
    return common.measure_against(contenders, baseline, at_once=4, threads=options.threads, **limits)


def forms(options) -> list[dict]:
    """The classical U-Net's training step in every form."""
    fixed = {"preset": "unet", "batch": options.batch, "device": options.device}
    contenders = [
        common.Entrant(name, "training_step:training_step", {**fixed, "form": form, "bf16": bf16}, "", environment)
        for name, form, bf16, environment in forms_of(options)
    ]
    return timed(contenders, options, "plain")


def presets(options) -> list[dict]:
    """The training step of every model."""
    return steps_of([(preset, "fast") for preset in PRESETS], options)


def backends(options) -> list[dict]:
    """The training step of 1hqconv on every backend of its circuits."""
    return steps_of([("unet", "fast"), *(("1hqconv", backend) for backend in BACKENDS)], options)


def steps_of(names: list[tuple[str, str]], options) -> list[dict]:
    """The training step of models (preset, backend), against that of the first."""
    fixed = {"form": "default", "batch": options.batch, "device": options.device, "bf16": False}
    contenders = [
        common.Entrant(
            preset if backend == "fast" else f"{preset}, {backend}",
            "training_step:training_step",
            {**fixed, "preset": preset, "backend": backend},
            "",
            common.KEEP_MEMORY,
        )
        for preset, backend in names
    ]
    return timed(contenders, options, "unet")


def sampling(options) -> list[dict]:
    """A sampling step in every form, at two batch sizes."""
    rows = []
    for batch in (64, 128):
        fixed = {"batch": batch, "device": options.device}
        contenders = [
            common.Entrant(name, "training_step:sampling_step", {**fixed, "form": form, "bf16": bf16}, "", environment)
            for name, form, bf16, environment in forms_of(options)
        ]
        rows += [row | {"batch": batch} for row in timed(contenders, options, "plain")]
    return rows


def limit(options) -> list[dict]:
    """Operations of one training step, counted by torch, and the rate of a large product on the same threads."""
    torch.set_num_threads(options.threads)
    a = torch.randn(2048, 2048, device=options.device)
    rate = 2 * 2048**3 / min(timeit(lambda: a @ a) for _ in range(10))
    rows = [{"name": "product of two 2048 × 2048", "gflop_per_s": rate / 1e9}]
    for form in ("default", "plain"):
        model = build("unet", form, options.device)
        x = torch.randn(options.batch, 1, 28, 28, device=options.device)
        t = torch.zeros(options.batch, dtype=torch.int64, device=options.device)
        with FlopCounterMode(display=False) as counter:
            model(x, t).square().mean().backward()
        flop = counter.get_total_flops()
        by_kind = {str(op): n / 1e9 for op, n in counter.get_flop_counts()["Global"].items()}
        rows.append({"name": form, "gflop": flop / 1e9, "seconds_at_that_rate": flop / rate, "gflop_by_kind": by_kind})
    return rows


def timeit(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def curves(options) -> list[dict]:
    """Losses of the first steps in both precisions."""
    torch.set_num_threads(options.threads)
    rows = []
    for bf16 in (False, True):
        name = "bfloat16" if bf16 else "single precision"
        call = training_step("unet", "default", options.batch, options.device, bf16)
        losses = [call().loss for _ in range(options.curve_steps)]
        rows.append({"name": name, "loss": losses})
        print(f"  {name}: mean loss of the last 50 steps {sum(losses[-50:]) / len(losses[-50:]):.5f}", flush=True)
    return rows


# ---- tables and figures ----------------------------------------------------------------------------


def show(part: str, rows: list[dict]) -> str:
    """The table of one part."""
    if part == "limit":
        cells = [[r["name"], f"{r['gflop']:.1f}", f"{1e3 * r['seconds_at_that_rate']:.0f} ms"] for r in rows[1:]]
        rate = f"A large product runs at {rows[0]['gflop_per_s']:.0f} GFLOP/s here.\n"
        return rate + common.table(["training step", "GFLOP", "at that rate"], cells)
    if part == "curves":
        return common.table(["precision", "steps"], [[row["name"], len(row["loss"])] for row in rows])
    relative = "× unet" if part in ("presets", "backends") else "× plain"
    lines = []
    for row in rows:
        name = row["name"] + (f", batch {row['batch']}" if part == "sampling" else "")
        if "median_s" not in row:
            lines.append([name, row["error"][:60], *["–"] * 4])
            continue
        ratio = f"{row['relative']:.3f}" if row["relative"] else "–"
        memory, process = f"{row['peak_mb']:.0f} MB", f"{row['process_mb']:.0f} MB"
        lines.append([name, common.time_text(row), ratio, memory, process, f"{row['first_call_s']:.2g} s"])
    return common.table(["contender", "one step", relative, "memory", "process", "first call"], lines)


def figure(content: dict, path) -> None:
    """Bars of the timed parts that are there, one panel each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parts = [part for part in ("forms", "presets", "backends", "sampling") if part in content["parts"]]
    if not parts:
        return
    rows = {part: [r for r in content["parts"][part]["rows"] if "median_s" in r] for part in parts}
    heights = [0.8 + 0.28 * len(rows[part]) for part in parts]
    size, ratios = (8, sum(heights)), {"height_ratios": heights}
    fig, axes = plt.subplots(len(parts), 1, figsize=size, gridspec_kw=ratios, squeeze=False, layout="constrained")
    for ax, part, colour in zip(axes[:, 0], parts, common.COLOURS, strict=False):
        names = [r["name"] + (f", batch {r['batch']}" if part == "sampling" else "") for r in rows[part]]
        seconds, spread = ([r[key] for r in rows[part]] for key in ("median_s", "iqr_s"))
        bars = ax.barh(range(len(names)), seconds, xerr=[s / 2 for s in spread], color=colour, alpha=0.8)
        ax.bar_label(bars, [common.time_text(r) for r in rows[part]], padding=4, fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.invert_yaxis()
        ax.set(xlabel="seconds", title=f"{part}: one step", xlim=(0, 1.3 * max(seconds)))
        if part == "backends":  # PennyLane takes many times longer than the rest
            ax.set(xscale="log", xlim=(min(seconds) / 2, 5 * max(seconds)))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def curve_figure(rows: list[dict], path) -> None:
    """Both losses, smoothed over 20 steps, and what bfloat16 adds to each step's loss."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
    losses = [torch.tensor(row["loss"]) for row in rows]
    window = min(20, len(losses[0]))
    for row, loss, colour, style in zip(rows, losses, common.COLOURS, ("-", "--"), strict=False):
        smooth = loss.unfold(0, window, 1).mean(1)
        top.plot(range(window, len(loss) + 1), smooth, style, color=colour, label=row["name"])
    top.set(yscale="log", ylabel=f"loss, mean of {window} steps")
    top.legend()
    bottom.plot(range(1, len(losses[0]) + 1), losses[1] - losses[0], color=common.COLOURS[2], lw=0.8)
    bottom.axhline(0, color="black", lw=0.6)
    bottom.set(xlabel="step", ylabel="bfloat16 − single")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0], budget=40)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS[:-1]), help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="of the training step (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="compiled forms too; compiling takes minutes")
    parser.add_argument("--curve-steps", type=int, default=300, help="of the loss curves (%(default)s)")
    options = parser.parse_args()
    path = options.out / "training_step.json"
    content = json.loads(path.read_text()) if path.exists() else {"benchmark": "training_step", "parts": {}}
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "only")}
    for part in options.only:
        print(f"\n{part}, batch {'64 and 128' if part == 'sampling' else options.batch}", flush=True)
        rows = globals()[part](options)
        content["parts"][part] = {"machine": common.machine("pennylane"), "settings": settings, "rows": rows}
        print("\n" + show(part, rows), flush=True)
        common.write_json(path, content)
        if part == "curves":
            curve_figure(rows, options.out / "training_step_curves.png")
    figure(content, options.out / "training_step.png")
    print(f"\nWrote {path} and its figures.")


if __name__ == "__main__":
    main()
