"""Plant one fault after the other in the library's mathematics, and see that the tests notice.

    python tools/mutants.py            # all of them, some minutes
    python tools/mutants.py ddim p2    # those whose name holds one of these words

Each fault is one small change: a wrong sign, an index off by one, a swapped axis, a dropped term. It is planted in a
copy of the repository, where the tests of that file run until the first one fails. Exit code 1 if a fault survives: a
test is missing then. Not part of `make test`: it takes as long as those tests, once for each fault.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Fault(NamedTuple):
    """`old`, which stands once in the file `qdm_lib/<file>.py`, becomes `new`; `tests` have to notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault("hqconv: ring the other way", "circuits", "(i + 1) % 4, 4 * c + i", "(i - 1) % 4, 4 * c + i", "circuits"),
    Fault("hqconv: channels first to last", "circuits", "for c in (2, 1, 0)", "for c in (0, 1, 2)", "circuits"),
    Fault("hqconv: block B control and target", "circuits", '((4, 8), "B")', '((8, 4), "B")', "circuits"),
    Fault("fqconv: no wrap", "circuits", "(base + 4 + i) % 12, base + i", "(base + 8 + i) % 12, base + i", "circuits"),
    Fault("both: layers share weights", "circuits", '("weight", k), TWO_PI', '("weight", k % len(layer)), TWO_PI',
          "circuits"),
    Fault("basic: one layer less", "circuits", "layer * wires + q), block", "0 * wires + q), block", "circuits"),
    Fault("simulator: RX sign", "simulator", "(o, -s, -s, o)", "(o, s, s, o)", "simulator"),
    Fault("simulator: control off", "simulator", "torch.stack([off, on]", "torch.stack([on, off]", "simulator"),
    Fault("cosine: offset dropped", "diffusion", "(tau + s) / (1 + s)", "tau", "diffusion"),
    Fault("posterior: variance at t = 0", "diffusion", "torch.ones(1, dtype=torch.float64)",
          "self.alphas_cumprod[:1]", "diffusion"),
    Fault("posterior mean: alphas", "diffusion", "self.alphas.sqrt() * left", "self.alphas * left", "diffusion"),
    Fault("q_sample: variance for deviation", "diffusion", "(1 - self.alphas_cumprod).sqrt(),",
          "(1 - self.alphas_cumprod),", "diffusion"),
    Fault("ddim: sigma's last factor", "diffusion", "(1 - a_t / a_u)", "(1 - a_u / a_t + 2)", "diffusion"),
    Fault("ddim: first step skipped", "diffusion", "torch.linspace(T - 1, 0", "torch.linspace(T - 2, 0", "diffusion"),
    Fault("ddpm: mean forgets the clamp", "diffusion", "return x_0.clamp(-1, 1) if clip else x_0", "return x_0",
          "diffusion"),
    Fault("dpm-solver: half step", "diffusion", "(1 + 0.5 / r) * x_0", "(1 + 1.0 / r) * x_0", "diffusion"),
    Fault("times: T counts as a step", "diffusion", "low < 0 or high >= T", "low < 0 or high > T", "diffusion"),
    Fault("p2: gamma's sign", "diffusion", "(k + self.snr) ** -gamma", "(k + self.snr) ** gamma", "diffusion"),
    Fault("ema: off by one", "training", "(step + 1) % self.config.ema_every", "step % self.config.ema_every",
          "training"),
    Fault("ema: weights swapped", "training", "lerp_(value, 1 - decay)", "lerp_(value, decay)", "training"),
    Fault("ema: power", "training", "1 - since**-self.config.ema_power", "1 - since**-1.0", "training"),
    Fault("loss: weight dropped", "training", "p2_weight(t, k, gamma).to(mse.dtype) * mse",
          "p2_weight(t, 1.0, 0.0) * mse", "training"),
    Fault("fid: cross term once", "metrics", "cov_b.trace() - 2 * cross", "cov_b.trace() - cross", "metrics"),
    Fault("interval: not centred", "metrics", "(replicates - replicates.mean()).numpy() + value", "replicates.numpy()",
          "metrics"),
    Fault("attention: no 1/sqrt(d)", "blocks", "q.softmax(-2) / math.sqrt(self.head_dim)", "q.softmax(-2)", "blocks"),
    Fault("film: scale without one", "blocks", "h * (1 + scale[:, :, None, None])", "h * scale[:, :, None, None]",
          "blocks"),
    Fault("quanvolution: pixels transposed", "blocks", "permute(0, 3, 5, 1, 2, 4, 6)", "permute(0, 3, 5, 1, 2, 6, 4)",
          "blocks"),
]  # fmt: skip


def survives(fault: Fault, copy: Path) -> bool:
    """Whether all tests of the file pass with the fault in it."""
    path = copy / "qdm_lib" / f"{fault.file}.py"
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.old!r} stands {text.count(fault.old)} times in {path.name}, not once.")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/test_{fault.tests}.py"]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    finally:
        path.write_text(text, encoding="utf-8")
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{fault.name}: pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return done.returncode == 0


def main() -> int:
    words = sys.argv[1:]
    faults = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        ignored = shutil.ignore_patterns(".git", ".venv", "runs", "checkpoints", "notebooks", "study", "_site")
        shutil.copytree(ROOT, copy, ignore=ignored)
        alive = []
        for fault in faults:
            alive += [fault.name] if survives(fault, copy) else []
            print(f"{'SURVIVES' if fault.name in alive else 'noticed '}  {fault.file}: {fault.name}", flush=True)
    print(f"{len(faults) - len(alive)} of {len(faults)} faults were noticed.")
    return bool(alive)


if __name__ == "__main__":
    raise SystemExit(main())
