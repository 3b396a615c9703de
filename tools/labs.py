"""Labs: hand one out, mark what comes back, or make an nbgrader course of them.

    python tools/labs.py list                 # with --outcomes the table of docs/teaching.md
    python tools/labs.py release 02 --variant 2026 --out handed-out
    python tools/labs.py release 02 --variant 2026 --students ids.txt --out handed-out    # a variant for each
    python tools/labs.py grade 02 handed-in --variant 2026 --csv marks.csv
    python tools/labs.py nbgrader 02 --variant 2026 --out COURSE

docs/teaching.md says what each does, and what it does not protect from.
"""

import argparse
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import nbformat  # noqa: E402

from qdm_labs.catalogue import find_lab, numbers  # noqa: E402
from qdm_labs.notebook import for_nbgrader, release  # noqa: E402
from qdm_labs.variant import Variant  # noqa: E402
from qdm_lib.checks import whole  # noqa: E402

FULL = {"network", "files", "processes", "memory", "time"}


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        sys.stdout.reconfigure(errors="replace")  # names and texts of students are any text
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="the labs with points and minutes")
    listing.add_argument("--outcomes", action="store_true", help="every task with its outcome, as a Markdown table")
    listing.set_defaults(run=_list)
    out = commands.add_parser("release", help="write the student's notebook")
    out.add_argument("number", help="of the lab, such as 02")
    out.add_argument("--variant", required=True, metavar="SEED", help="any name, such as the term")
    out.add_argument("--students", type=Path, help="a text file, one id a line: each gets a folder and a variant")
    out.add_argument("--out", type=Path, required=True, help="folder for the notebooks")
    out.set_defaults(run=_release)
    grade = commands.add_parser("grade", help="mark what came back")
    grade.add_argument("number", help="of the lab, such as 02")
    grade.add_argument("folder", type=Path, help="a file or a folder for each student; names of Canvas and Moodle too")
    grade.add_argument("--variant", required=True, metavar="SEED", help="as it was released")
    grade.add_argument("--per-student", action="store_true", help="variants were drawn for each student (--students)")
    grade.add_argument(
        "--csv",
        type=Path,
        required=True,
        help="one row for each student; beside it a table for the gradebook of Canvas or Moodle, if names are theirs",
    )
    grade.add_argument("--feedback", type=Path, help="folder for a page for each student; by default beside the table")
    grade.add_argument(
        "--jobs",
        type=int,
        help="hand-ins at the same time, each up to 2 GB; by default as many as there are cores for this process",
    )
    grade.add_argument(
        "--patience", type=float, default=1, metavar="FACTOR", help="times all limits of time; 2 on a slow machine"
    )
    grade.add_argument("--salt", help="repeat the draws of an earlier run, which printed it")
    grade.set_defaults(run=_grade)
    course = commands.add_parser("nbgrader", help="make an nbgrader course of labs")
    course.add_argument("numbers", nargs="*", help="of the labs; all by default")
    course.add_argument("--variant", required=True, metavar="SEED", help="one for the whole course, such as the term")
    course.add_argument("--out", type=Path, required=True, help="a new folder for the course")
    course.set_defaults(run=_nbgrader)
    return parser


def outcomes() -> str:
    """The table outcome → lab → check of docs/teaching.md, in Markdown."""
    rows = [(number, task) for number in numbers() for task in find_lab(number).tasks]
    lines = ["| lab | function | afterwards one can | points |", "|---|---|---|--:|"]
    return "\n".join(lines + [f"| {number} | `{t.name}` | {t.outcome} | {t.points:g} |" for number, t in rows])


def _list(options: argparse.Namespace) -> int:
    if options.outcomes:
        print(outcomes())
        return 0
    for number in numbers():
        lab = find_lab(number)
        print(f"{number}  {lab.title}: {len(lab.tasks)} tasks, {lab.points:g} points, {lab.minutes} minutes")
    return 0


def _release(options: argparse.Namespace) -> int:
    lab = find_lab(options.number)
    name = f"lab{lab.number}.ipynb"
    if options.students is None:
        targets = {options.out / name: options.variant}
    else:
        ids = [line.strip() for line in options.students.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        targets = {options.out / student / name: Variant.of(options.variant, student).seed for student in ids}
        if not ids or len(targets) < len(ids) or not all(Path(student).name == student != ".." for student in ids):
            raise ValueError(f"{options.students} has to hold different ids, one a line, that can name a folder.")
    there = [path for path in targets if path.exists()]
    if there:
        raise ValueError(f"{there[0]} is there already; choose another --out.")
    books = {path: release(lab.number, seed) for path, seed in targets.items()}  # all of them, before any is written
    for path, book in books.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(book, path)
        print(path)
    return 0


def _write(book: nbformat.NotebookNode, path: Path) -> None:
    """The whole notebook or none: nobody shall be handed half of one."""
    temporary = path.with_name(f".{path.name}.tmp")
    nbformat.write(book, temporary)
    os.replace(temporary, path)


def _grade(options: argparse.Namespace) -> int:
    from qdm_labs import marker  # it loads torch and what a process of a hand-in needs
    from qdm_labs.confine import Limits
    from qdm_lib.machine import usable_cores
    from qdm_lib.runs import check_writable

    lab, start = find_lab(options.number), time.perf_counter()
    submissions = marker.find(options.folder, lab.number)
    salt = options.salt or secrets.token_hex(8)
    if not 0 < options.patience <= 1000:
        raise ValueError(f"--patience must be a positive number up to 1000; got {options.patience:g}.")
    jobs = usable_cores() if options.jobs is None else whole("--jobs", options.jobs)
    pages = options.feedback or options.csv.with_name(f"{options.csv.stem}-feedback")
    if options.csv.is_dir():
        raise ValueError(f"{options.csv} is a folder; give the name of a file.")
    for folder in (options.csv.parent, pages):  # before the work, not after it
        check_writable(folder)
    marks = marker.mark_all(lab, submissions, options.variant, salt, per_student=options.per_student,
                            jobs=jobs, hidden=[options.folder], limits=Limits.patient(options.patience))  # fmt: skip
    marker.write_csv(options.csv, lab, marks)
    tables = [options.csv, *marker.write_gradebooks(options.csv, lab, marks)]
    marker.write_feedback(pages, lab, marks)
    for m in marks:
        print(f"{m.submission.student}: {m.points:g} of {lab.points:g}" + "".join(f"\n  {text}" for text in m.remarks))
    missing = FULL - set.intersection(*({*m.held} for m in marks if m.held), FULL)
    if missing and any(m.held for m in marks):
        print(f"Not limited on this machine: {', '.join(sorted(missing))}. Mark in a container.", file=sys.stderr)
    seconds = time.perf_counter() - start
    files = ", ".join(map(str, [*tables, pages]))
    print(f"{len(marks)} hand-in{'s' * (len(marks) > 1)} in {seconds:.0f} s; {files}; draws from --salt {salt}")
    return 0


def _nbgrader(options: argparse.Namespace) -> int:
    if options.out.exists():
        raise ValueError(f"{options.out} is there already; choose another --out.")
    books = {find_lab(n).number: for_nbgrader(n, options.variant) for n in options.numbers or numbers()}
    for number, book in books.items():
        path = options.out / "source" / f"lab{number}" / f"lab{number}.ipynb"
        path.parent.mkdir(parents=True)
        _write(book, path)
    shutil.copy(ROOT / "labs" / "nbgrader_config.py", options.out)
    labs = [f"lab{number}" for number in books]
    print(f"{options.out}: {', '.join(labs)}. There: nbgrader generate_assignment {labs[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
