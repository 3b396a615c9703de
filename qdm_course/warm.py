"""Jupyter kernels that share their imports: four open notebooks in the memory of two.

torch, PennyLane and matplotlib take some 400 MB of a kernel before it has computed anything. One warm process imports
them once. A kernel is a copy that it makes of itself (fork(2)): both share the same pages of memory until one of them
writes to them. A kernel that starts this way is also ready at once.

    python -m qdm_course.warm --serve             the warm process; binder/start runs it
    python -m qdm_course.warm -f CONNECTION_FILE  what Jupyter starts in place of ipykernel; `kernel_spec` says so

The second asks the first for a kernel and lives exactly as long as that kernel. Where nobody answers, it becomes an
ordinary kernel. For Linux, and on the CPU: a process that has started CUDA or threads cannot be copied like this.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from qdm_lib.machine import release_memory

IMPORTS = (
    "torch", "torch._dynamo", "torchmetrics", "pennylane", "matplotlib.pyplot", "ipykernel.kernelapp", "ipywidgets",
    "qdm_lib.audit", "qdm_lib.checkpoint", "qdm_lib.cli", "qdm_lib.engine", "qdm_lib.metrics", "qdm_lib.plots",
    "qdm_course.figures", "qdm_course.moving", "qdm_course.widgets",
)  # fmt: skip

TIDY = "get_ipython().events.register('post_run_cell', __import__('qdm_course.warm', fromlist=['tidy']).tidy)"


def tidy(_=None) -> None:
    """After a cell: free what only reference cycles hold, and hand free memory back to the system."""
    gc.collect()
    release_memory()


def address() -> str:
    """The socket of the warm process, in a folder that is the user's own."""
    return str(Path(os.environ.get("QDM_WARM_SOCKET") or Path(jupyter_runtime_dir(), "qdm-warm.sock")))


def kernel_spec() -> dict:
    """Jupyter's description of such a kernel, for share/jupyter/kernels/python3/kernel.json."""
    command = [sys.executable, "-m", "qdm_course.warm", "-f", "{connection_file}"]
    return {"argv": command, "display_name": "Python 3 (ipykernel)", "language": "python", "interrupt_mode": "message"}


# ------------------------------------------------------------------------------------------ the warm process


def serve() -> None:
    """Import, listen, and copy this process for everybody who asks; never returns."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # read when matplotlib is imported
    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector no longer visits, and so never writes to, what all kernels share
    Path(address()).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    Path(address()).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as waiting:
        listener.bind(address())
        listener.listen()
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that the end of a kernel wakes `select`
        woken = _wake_up_pipe()
        kernels: dict[int, socket.socket] = {}  # process → who asked for it
        for source in (listener, woken):
            waiting.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is listener:
                    asker, _ = listener.accept()
                    if pid := _new_kernel(asker):
                        kernels[pid] = asker
                        waiting.register(asker, selectors.EVENT_READ, pid)
                elif key.fileobj is woken:
                    woken.recv(4096)
                else:  # the asker is gone, and its kernel goes with it
                    os.kill(key.data, signal.SIGKILL)
                    waiting.unregister(key.fileobj)
            for pid, code in _ended():
                asker = kernels.pop(pid)
                with contextlib.suppress(KeyError):
                    waiting.unregister(asker)
                with contextlib.suppress(OSError):
                    asker.sendall(bytes([code]))
                asker.close()


def _wake_up_pipe() -> socket.socket:
    """A socket that can be read after a signal; `select` alone would go on sleeping."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return reader


def _ended():
    """(process, exit code from 0 to 255) of every kernel that has ended."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], os.waitstatus_to_exitcode(found[1]) & 255


def _new_kernel(asker: socket.socket) -> int | None:
    """Copy this process and run a kernel in the copy; returns the copy's process id, None where nothing was asked."""
    message, files, _, _ = socket.recv_fds(asker, 1 << 20, 3)
    if not message:
        asker.close()
        return None
    if pid := os.fork():
        for file in files:
            os.close(file)
        return pid
    try:
        wanted = json.loads(message)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()  # a group of its own: an interrupt reaches the kernel and what it started, nobody else
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.closerange(3, 256)  # the sockets of the warm process and of other kernels
        os.chdir(wanted["folder"])
        os.environ.clear()
        os.environ.update(wanted["environment"])
        # A kernel whose warm process is gone ends too; each cell hands back the memory that it no longer needs.
        _run_kernel(wanted["arguments"], parent_handle=os.getppid(), exec_lines=[TIDY])
    except BaseException:  # a copy must never go on as the warm process
        traceback.print_exc()
    finally:
        os._exit(1)


def _run_kernel(arguments: list[str], **settings) -> None:
    """ipykernel's own start, to the end of the process."""
    from ipykernel.kernelapp import IPKernelApp

    sys.path[0] = ""  # as in every kernel: the notebook's own folder comes first
    try:
        IPKernelApp.launch_instance(argv=arguments, **settings)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 0)
    os._exit(0)


# ------------------------------------------------------------------------------------------ what Jupyter starts


def ask(arguments: list[str]) -> int | None:
    """Ask for a kernel and wait until it has ended; returns its exit code, None where there is no warm process."""
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(address())
        except OSError:
            return None
        wanted = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        socket.send_fds(asked, [json.dumps(wanted).encode()], [0, 1, 2])
        asked.settimeout(1)
        parent = os.getppid()
        while True:
            try:
                code = asked.recv(1)
                return code[0] if code else 1
            except TimeoutError:
                if os.getppid() != parent:  # Jupyter is gone without a word
                    return 1


def main(arguments: list[str]) -> int:
    if arguments == ["--serve"]:
        serve()
    code = ask(arguments)
    return _run_kernel(arguments) if code is None else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
