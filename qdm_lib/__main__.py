"""``python -m qdm_lib …``"""

from qdm_lib.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
