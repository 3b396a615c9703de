"""``python -m qdm_lib …``"""

import os

# Two threads that wait for each other by spinning stand still when another program takes a core; torch's OpenMP
# reads this when it loads, so it has to be set before. A value that the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from qdm_lib.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
