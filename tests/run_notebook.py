"""Execute one notebook as a test wants it: offline, every warning an error; then say what it took.

    python tests/run_notebook.py NOTEBOOK FOLDER [--timeout SECONDS] [--keep FILE]

FOLDER is the kernel's working directory; FILE gets the notebook with what this run shows. The last line printed is
JSON: seconds, processor time of the kernel and its largest memory, and what it wrote. The notebook on disk stays as it
is; a cell that prevents connections and turns warnings into errors is put before its first one.
"""

import argparse
import json
import resource
import sys
import time

import nbformat
from nbclient import NotebookClient

GUARD = """
import socket, warnings
warnings.simplefilter("error")
for machinery in ("ipykernel", "zmq", "tornado", "traitlets", "jupyter_client", "asyncio"):  # the kernel's own
    warnings.filterwarnings("default", module=machinery)
# What matplotlib meets when it is handed a torch tensor, up to torch 2.15 at least; nothing a notebook could do.
warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword", DeprecationWarning)

def _local(address):
    return isinstance(address, (str, bytes)) or address[0] in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")

def _guarded(method):
    def connect(self, address, *rest):
        if not _local(address):
            raise OSError(f"This test runs without a network, and a cell asked for {address!r}.")
        return method(self, address, *rest)
    return connect

def _no_names(host, *rest, **options):
    if host not in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()):
        raise OSError(f"This test runs without a network, and a cell asked for {host!r}.")
    return _lookup(host, *rest, **options)

_lookup, socket.getaddrinfo = socket.getaddrinfo, _no_names
socket.socket.connect = _guarded(socket.socket.connect)
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook")
    parser.add_argument("folder")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for a cell (%(default)s)")
    parser.add_argument("--keep", help="file for the executed notebook")
    options = parser.parse_args()
    book = nbformat.read(options.notebook, as_version=4)
    book.cells.insert(0, nbformat.v4.new_code_cell(GUARD))
    start = time.perf_counter()
    client = NotebookClient(
        book, timeout=options.timeout, kernel_name="python3", resources={"metadata": {"path": options.folder}},
        coalesce_streams=True,
    )  # fmt: skip
    client.execute()
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if options.keep:
        del book.cells[0]
        nbformat.write(book, options.keep)
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_s": used.ru_utime + used.ru_stime,
                "peak_gb": used.ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30),
                "stderr": "".join(output.text for output in outputs if output.get("name") == "stderr"),
                "printed": "".join(output.text for output in outputs if output.get("name") == "stdout"),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
