"""``python -m qdm_lib …``"""

import os

# Threads wait for each other by spinning, and stand still when another program takes a core. This makes them give
# up the core after a short spin. OpenMP (GNU's, as torch for Linux has it) reads it when torch loads, so it is set
# before. A value that the user has set is kept.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from qdm_lib.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
