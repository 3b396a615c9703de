"""The processor's share: what a container allows, how many threads torch takes then, what a step costs."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qdm_lib import machine
from qdm_lib.cli.doctor import thread_advice
from qdm_lib.machine import Pace, cpu_quota, usable_cores

ROOT = Path(__file__).resolve().parent.parent


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A fake /proc and /sys."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def v1(group: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": str(quota), f"{group}/cpu.cfs_period_us": str(period)}


HYBRID = "4:memory:/a\n1:cpu,cpuacct:/a\n0::/system.slice"


@pytest.mark.parametrize(
    "groups, files, quota",
    [
        ("0::/", {}, math.inf),  # the top of version 2 has no cpu.max
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/", {"cpu.max": "100000 100000"}, 1.0),
        ("0::/", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/", {"cpu.max": "5000 10000"}, 0.5),
        ("0::/pod/box", {"pod/cpu.max": "200000 100000", "pod/box/cpu.max": "max 100000"}, 2.0),  # only the outer one
        ("0::/pod/box", {"pod/cpu.max": "400000 100000", "pod/box/cpu.max": "100000 100000"}, 1.0),
        ("0::/pod/box", {"pod/cpu.max": "100000 100000", "pod/box/cpu.max": "300000 100000"}, 1.0),
        ("0::/pod/box", {"other/cpu.max": "100000 100000"}, math.inf),  # another group's limit
        ("0::/docker/of/the/host", {"cpu.max": "100000 100000"}, 1.0),  # a container that sees its own group as the top
        ("1:cpu:/", v1("cpu", -1), math.inf),
        ("1:cpu:/a", v1("cpu", -1) | v1("cpu/a", 150_000), 1.5),
        ("2:cpuacct,cpu:/a/b", v1("cpu,cpuacct/a", 50_000) | v1("cpu,cpuacct/a/b", -1), 0.5),
        ("1:cpu:/docker/abc", v1("cpu", 200_000), 2.0),
        ("1:cpuacct:/a", v1("cpu/a", 50_000), math.inf),  # no line for cpu: not our group
        (HYBRID, v1("cpu,cpuacct/a", 100_000) | {"unified/system.slice/cpu.max": "300000 100000"}, 1.0),
        ("0::/", {"cpu.max": "nonsense"}, math.inf),
        ("0::/", {"cpu.max": "100000 0"}, math.inf),
        ("0::/", {"cpu.max": ""}, math.inf),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "100000"}, math.inf),  # its period is missing
        ("", {}, math.inf),
    ],
)
def test_quota_of_a_fake_tree(groups, files, quota, tmp_path):
    assert cpu_quota(tree(tmp_path, groups, files)) == quota


def test_no_control_groups_are_no_limit(tmp_path):
    assert cpu_quota(tmp_path) == math.inf  # as on macOS and Windows


@pytest.mark.parametrize(
    "quota, cores, usable",
    [("max", 16, 16), (1.0, 16, 1), (2.5, 16, 2), (0.5, 16, 1), (0.01, 16, 1), (8.0, 4, 4), (3.99, 16, 3)],
)  # fmt: skip
def test_usable_cores_round_down_and_are_at_least_one(quota, cores, usable, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "affinity", lambda: cores)
    text = "max 100000" if quota == "max" else f"{int(quota * 100_000)} 100000"
    assert usable_cores(tree(tmp_path, "0::/", {"cpu.max": text})) == usable


def test_affinity_is_what_the_system_allows():
    assert 1 <= machine.affinity() <= os.cpu_count()


# What torch does, each time in a process of its own. A machine of 16 cores is faked; the quota is a fake tree's.
PROBE = """
import os, sys, threading
sys.path.insert(0, {root!r})
from qdm_lib import machine
machine.affinity = lambda: 16
{before}
machine.share_processor({tree!r})
import torch
{after}
def say(): print(torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
say(); thread = threading.Thread(target=say); thread.start(); thread.join()
"""


def probe(
    tmp_path: Path, quota: str = "100000 100000", before: str = "", after: str = "", **environment: str
) -> list[str]:
    code = PROBE.format(
        root=str(ROOT), tree=str(tree(tmp_path, "0::/", {"cpu.max": quota})), before=before, after=after
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_torch_that_is_loaded_later_keeps_to_the_share_in_every_thread(tmp_path):
    assert probe(tmp_path) == ["1 1", "1 1"]


def test_torch_that_was_loaded_before_keeps_to_it_too(tmp_path):
    assert probe(tmp_path, quota="300000 100000", before="import torch; torch.set_num_threads(16)") == ["3 3"] * 2


@pytest.mark.parametrize(
    "options, said",
    [
        ({"OMP_NUM_THREADS": "5", "before": "import torch; torch.set_num_threads(5)"}, "5 5"),
        ({"MKL_NUM_THREADS": "5", "before": "import torch; torch.set_num_threads(5)"}, "5 None"),
        ({"after": "torch.set_num_threads(7)"}, "7 1"),
        (
            {"quota": "300000 100000", "before": "import torch; torch.set_num_threads(2)"},
            "2 3",
        ),  # fewer
        ({"quota": "max 100000", "before": "import torch; torch.set_num_threads(6)"}, "6 None"),  # nothing to keep to
        ({"quota": "1600000 100000", "before": "import torch; torch.set_num_threads(6)"}, "6 None"),
    ],
)
def test_what_the_user_set_stays(options, said, tmp_path):
    assert probe(tmp_path, **options)[0] == said


@pytest.mark.parametrize("entry", ["import qdm_lib.unet", "import qdm_lib.cli.commands", "import qdm_lib.__main__"])
@pytest.mark.parametrize("own, found", [(None, "20000"), ("7", "7")])
def test_waiting_threads_give_up_their_core_however_it_is_started(entry, own, found):
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    code = f"import os; {entry}; print(os.environ['GOMP_SPINCOUNT'])"
    env = clean | ({} if own is None else {"GOMP_SPINCOUNT": own})
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout == f"{found}\n", done.stderr


def test_every_part_that_computes_asks_for_the_share():
    """The package does it, so no module can be imported without it; and it does not load torch for that."""
    code = "import sys, qdm_lib; sys.exit('torch' in sys.modules or not callable(qdm_lib.share_processor))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ------------------------------------------------------------------------------------- a real quota

STEP = """
import os, statistics, sys, threading, time
open({procs!r}, "w").write(str(os.getpid()))
sys.path.insert(0, {root!r})
{first}
import torch
from qdm_lib.unet import build_unet
model = build_unet("1hqconv", seed=0, verbose=False)
x, t = torch.zeros(16, 1, 28, 28), torch.zeros(16, dtype=torch.int64)
def step(threads):
    torch.set_num_threads(threads)
    began = time.perf_counter()
    model(x, t).square().mean().backward()
    return time.perf_counter() - began
chosen = torch.get_num_threads()
step(1)
times = [(step(chosen), step(1)) for _ in range(3)]
print(chosen, *(statistics.median(column) for column in zip(*times)))
"""


@pytest.fixture
def one_core():
    """The file to write a process id to, so that it gets the time of one core; a group of the system's own."""
    name = f"qdm-test-{os.getpid()}"
    for top, files in (
        ("/sys/fs/cgroup/cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
        ("/sys/fs/cgroup", {"cpu.max": "100000 100000"}),
    ):
        group = Path(top) / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for file, text in files.items():
                (group / file).write_text(text)
            yield group / "cgroup.procs"
            return
        except OSError:
            continue
        finally:
            time.sleep(0.1)  # until the system has noticed that its last process is gone
            group.rmdir()
    pytest.skip("no control group with a quota can be made here: that needs root, and a cpu controller that is free")


@pytest.mark.skipif(machine.affinity() < 2, reason="one core: nothing to choose")
@pytest.mark.parametrize("first", ["", "import torch"], ids=["library first", "torch first"])
def test_a_step_under_a_real_quota_is_no_slower_than_on_one_thread(first, one_core):
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    code = STEP.format(procs=str(one_core), root=str(ROOT), first=first or "import qdm_lib")
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    threads, with_them, with_one = map(float, done.stdout.split())
    assert threads == 1
    assert with_them < 1.5 * with_one, f"{with_them:.2f} s with {threads:.0f} threads, {with_one:.2f} s with one"


# ------------------------------------------------------------------------------------- doctor and pace


def test_doctor_warns_where_threads_and_share_disagree():
    assert (
        thread_advice(1, 1, 16, 40.0) == []
        and thread_advice(2, 2, 16, 3.0) == []
        and thread_advice(4, 4, 4, None) == []
    )
    assert "OMP_NUM_THREADS=1" in thread_advice(16, 1, 16, 0.0)[0]
    assert "WARNING" in thread_advice(4, 2, 16, 0.0)[0]
    busy = thread_advice(2, 2, 16, 31.0)
    assert "busy" in busy[0] and "31 programs" in busy[0] and "OMP_NUM_THREADS=1" in busy[0]


def pace_of(durations, threads=2, **options):
    """What Pace says after each of these steps."""
    now = [0.0]
    pace = Pace(clock=lambda: now[0], **options)
    said = []
    for seconds in durations:
        now[0] += seconds
        said.append(pace.step(threads))
    return said


def test_pace_says_once_that_steps_became_many_times_slower():
    said = pace_of([9.0, 3.0] + [0.5] * 20 + [4.0] * 20)
    spoken = [(k, line) for k, line in enumerate(said) if line]
    assert len(spoken) == 1 and spoken[0][0] == 24  # after three slow steps: the median of five
    line = spoken[0][1]
    assert "4.0 s" in line and "0.50 s" in line and "--threads 1" in line and "\n" not in line
    one = [line for line in pace_of([0.5] * 9 + [4.0] * 9, threads=1) if line]
    assert len(one) == 1 and "--threads" not in one[0]


@pytest.mark.parametrize(
    "durations",
    [
        [0.5] * 40,
        [30.0, 10.0] + [0.5] * 30,  # slow at first: it compiles or reads
        [0.5] * 10 + [9.0, 9.0] + [0.5] * 30,  # two checkpoints on a slow disk
        [0.5] * 10 + [1.5] * 30,  # three times slower: as on any shared machine
        [0.002] * 10 + [0.05] * 30,  # 25 times, but nobody waits for it
        [0.5] * 4,
        [0.5] * 3 + [9.0] * 40,  # slow before the first measure was taken: the median is of slow steps
    ],
)
def test_pace_is_silent_otherwise(durations):
    assert not any(pace_of(durations))


def test_a_training_run_prints_what_pace_says(tmp_path, monkeypatch, capsys):
    from qdm_lib.runs import RunConfig, train_run
    from qdm_lib.runs import run as run_file
    from qdm_lib.training import TrainConfig

    class Slow(Pace):
        def step(self, threads=1):
            return "steps are slow"

    monkeypatch.setenv("QDM_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(run_file, "Pace", Slow)
    train_run(RunConfig("unet", steps=1, recipe=TrainConfig(batch_size=2)), tmp_path / "run", device="cpu")
    assert "steps are slow\n" in capsys.readouterr().err
