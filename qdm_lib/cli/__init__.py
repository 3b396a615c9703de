"""The command line, ``python -m qdm_lib …`` or ``qdm …``: `main` runs one command.

Behind it: `commands` (what can be typed), `demo` (the few minutes from nothing to images), `doctor` (what a bug report
needs), `presets` (the table of models), `paths` (files and folders as they are typed), `words` (its name, commands to
copy, streams that may close). Nothing here loads torch before a command needs it, so that ``--help`` answers at once.
"""

from qdm_lib.cli.commands import main as main
from qdm_lib.cli.doctor import report as report
