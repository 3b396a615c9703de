"""Kernels that share their imports: they behave as any kernel, and four open notebooks fit into Binder's memory."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient
from test_notebooks import ROOT

from qdm_course.warm import kernel_spec

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="measured by Linux's /proc")
VISIT = ("00_welcome", "01_ddpm", "02_variational_circuits", "03_hqconv_fqconv")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of Jupyter's with the kernel in place of the usual one, and the variables that lead there."""
    folder = tmp_path_factory.mktemp("w")
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(kernel_spec()))
    variables = {"JUPYTER_PATH": str(folder), "QDM_WARM_SOCKET": str(folder / "warm.sock"), "PYTHONPATH": str(ROOT),
                 "QDM_DATA_DIR": "", "OMP_NUM_THREADS": "1", "QDM_SIZE": "binder"}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def warm(place):
    """The warm process."""
    process = subprocess.Popen([sys.executable, "-m", "qdm_course.warm", "--serve"], cwd=ROOT)
    while not (place / "warm.sock").exists():
        assert process.poll() is None
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def memory(process: int) -> float:
    """Megabytes, a page that several processes share counted by halves, thirds, quarters: PSS of proc(5)."""
    return int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.M)[1]) / 1024


def soon(condition) -> bool:
    """Whether it becomes true within some seconds."""
    end = time.monotonic() + 30
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return bool(found)


def gone(process: int) -> bool:
    """Whether a process has ended, be it that nobody has asked for its exit code yet."""
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def kernel(place):
    """Start a kernel, and shut it down at the end."""
    started = []

    def start():
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(cwd=str(place))
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        started.append((manager, client))
        return manager, client

    yield start
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def printed(client, code: str) -> str:
    texts = []
    reply = client.execute_interactive(
        code, timeout=60, output_hook=lambda m: texts.append(m["content"].get("text", "")), store_history=False
    )
    return "".join(texts).strip() if reply["content"]["status"] == "ok" else reply["content"]["ename"]


def test_the_warm_process_has_one_thread_so_that_it_can_be_copied(warm):
    assert len(list(Path(f"/proc/{warm.pid}/task").iterdir())) == 1


def test_a_kernel_is_a_copy_with_its_own_folder_and_variables(warm, kernel, place, monkeypatch):
    monkeypatch.setenv("QDM_TEST_WORD", "mine")
    _, client = kernel()
    assert printed(client, "import os, sys; print(os.getppid(), os.getcwd(), os.environ['QDM_TEST_WORD'])") == (
        f"{warm.pid} {place} mine"
    )
    assert printed(client, "print('torch' in sys.modules, repr(sys.path[0]))") == "True ''"
    assert "figure" in printed(client, "import matplotlib.pyplot as plt; print(type(plt.figure()).__name__.lower())")
    assert "inline" in printed(client, "print(plt.get_backend())")
    assert "tidy" in printed(client, "print(get_ipython().events.callbacks['post_run_cell'])")


def test_an_interrupt_ends_the_cell_and_not_the_kernel(warm, kernel):
    manager, client = kernel()
    endless = "import time\nfor _ in range(600): time.sleep(0.1)"
    asked = client.execute(endless, stop_on_error=False)  # else what is asked right after the interrupt may be aborted
    time.sleep(1)
    manager.interrupt_kernel()
    while (reply := client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != asked:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert printed(client, "print(1 + 1)") == "2"


@pytest.mark.parametrize("how", ["asked", "killed", "exit"])
def test_a_kernel_ends_with_what_asked_for_it(how, warm, kernel):
    assert soon(lambda: not children(warm.pid))  # those of earlier tests
    manager, client = kernel()
    (copy,) = children(warm.pid)
    asker = manager.provisioner.pid
    if how == "exit":
        client.execute("import os; os._exit(3)")
    else:
        manager.shutdown_kernel(now=how == "killed")
    assert soon(lambda: gone(copy)) and soon(lambda: not manager.is_alive()) and soon(lambda: gone(asker))
    assert soon(lambda: not children(warm.pid)) and warm.poll() is None


def test_without_a_warm_process_it_is_an_ordinary_kernel(kernel, monkeypatch):
    monkeypatch.setenv("QDM_WARM_SOCKET", "/nowhere/warm.sock")
    manager, client = kernel()
    assert printed(client, "import os, sys; print(os.getpid(), 'torch' in sys.modules)") == (
        f"{manager.provisioner.pid} False"
    )


def test_kernels_end_with_the_warm_process(kernel, place, monkeypatch):
    monkeypatch.setenv("QDM_WARM_SOCKET", str(place / "second.sock"))
    second = subprocess.Popen([sys.executable, "-m", "qdm_course.warm", "--serve"], cwd=ROOT)
    while not (place / "second.sock").exists():
        assert second.poll() is None
        time.sleep(0.1)
    manager, _ = kernel()
    (copy,) = children(second.pid)
    second.kill()
    second.wait()
    assert soon(lambda: gone(copy)) and soon(lambda: gone(manager.provisioner.pid))


def test_four_open_notebooks_of_a_visit_take_less_than_1600_megabytes(warm):
    """00 to 03 at Binder's size, one after the other, each left open."""
    clients, stack = [], []
    try:
        for name in VISIT:
            book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
            where = {"metadata": {"path": str(ROOT / "notebooks")}}
            client = NotebookClient(book, timeout=600, kernel_name="python3", resources=where)
            client.create_kernel_manager()
            open_kernel = client.setup_kernel()
            open_kernel.__enter__()
            stack.append(open_kernel)
            clients.append(client)
            for number, cell in enumerate(book.cells):
                client.execute_cell(cell, number)
            outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
            assert not [output.text for output in outputs if output.get("name") == "stderr"]
        assert soon(lambda: len(children(warm.pid)) == len(VISIT))
        kernels, askers = children(warm.pid), [client.km.provisioner.pid for client in clients]
        parts = {"warm process": memory(warm.pid), "kernels": [round(memory(pid)) for pid in kernels],
                 "askers": sum(map(memory, askers))}  # fmt: skip
        total = parts["warm process"] + sum(parts["kernels"]) + parts["askers"]
        print(f"{total:.0f} MB: {parts}")
        assert total < 1600, parts
    finally:
        for open_kernel in reversed(stack):
            open_kernel.__exit__(None, None, None)
