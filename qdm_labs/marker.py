"""Mark the hand-ins of a lab: who handed in what, points from our own checks, one row and one page for each student."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from qdm_labs.confine import Limits
from qdm_labs.hand_in import Gone, HandIn, answer_to, server
from qdm_labs.task import Lab, Mistake, Result, Task, Verdict, judge
from qdm_labs.variant import Variant

MOODLE = re.compile(r"^(?P<student>.+)_(?P<id>\d+)_assignsubmission_\w*$")
CANVAS = re.compile(r"^(?P<student>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_\d+_.+$")
LARGEST_FILE = 20e6  # bytes
GRADEBOOKS = {  # platform -> columns of the CSV that it imports, with English names; a row of them; a page's file name
    "canvas": (["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lab {number}"],
               lambda m: [m.submission.student, m.submission.id, "", "", "", f"{m.points:g}"],
               lambda m: f"{m.submission.file.stem}.html"),  # the ids in the hand-in's name lead it back to the student
    "moodle": (["Identifier", "Full name", "Grade", "Last modified (grade)"],
               lambda m: [f"Participant {m.submission.id}", m.submission.student, f"{m.points:g}", "-"],
               lambda m: f"Participant_{m.submission.id}_assignsubmission_file/feedback.html"),
}  # fmt: skip


@dataclass
class Submission:
    """One student's: the name and id that the learning platform gave, and the file (None where there is none).

    platform: "canvas" or "moodle", where the name is one of theirs.
    """

    student: str
    id: str
    file: Path | None
    remark: str = ""
    platform: str = ""


@dataclass
class Marks:
    """What came out for one submission."""

    submission: Submission
    results: list[Result] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    @property
    def points(self) -> float:
        return sum(result.points for result in self.results)


# ---------------------------------------------------------------------------------------- who and what


def find(folder: Path, number: str) -> list[Submission]:
    """A submission for every student: the folder's folders or files, as they are or as Canvas and Moodle name them.

    What has the id of one student on one platform is one submission. Raises ValueError where there is no folder or
    nothing in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; wanted one with a file or a folder for each student.")
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__")))
    of_one: dict[tuple[str, str], list[Path]] = {}
    for entry in entries:
        platform, known = _platform(entry)
        of_one.setdefault((platform, known["id"] if known else entry.name), []).append(entry)
    found = [_one(entries, number) for entries in of_one.values()]
    if not found:
        raise ValueError(f"There is nothing in {folder}.")
    names = [s.student for s in found]
    for submission in found:  # two students of one name
        if names.count(submission.student) > 1:
            submission.student += f" ({submission.id or submission.file or len(names)})"
    return found


def _platform(entry: Path) -> tuple[str, re.Match | None]:
    """("canvas" or "moodle", what its name says), or ("", None)."""
    known = MOODLE.match(entry.name) if entry.is_dir() else CANVAS.match(entry.name)
    return ("" if not known else "moodle" if entry.is_dir() else "canvas"), known


def _one(entries: list[Path], number: str) -> Submission:
    """Of what one student handed in: the newest notebook with the lab's name, else the newest notebook."""
    platform, known = _platform(entries[0])
    student, key = (known["student"], known["id"]) if known else (_plain_name(entries[0], number), "")
    late = ["The platform calls it late."] if known and known.groupdict().get("late") else []
    files = [file for entry in entries for file in _files(entry)]
    books = [p for p in files if p.suffix == ".ipynb"]
    if not books and entries == files:  # no folder: that one file is no notebook, `read_cells` says why
        return Submission(student, key, files[0], " ".join(late), platform)
    if not books:
        none = "There is no notebook (.ipynb) in the folder."
        return Submission(student, key, None, " ".join([*late, none]), platform)
    best = [p for p in books if f"lab{number}" in p.name.lower()] or books
    chosen = max(best, key=lambda p: (p.stat().st_mtime, p.name))
    more = [f"Of {len(books)} notebooks {chosen.name} was marked."] if len(books) > 1 else []
    return Submission(student, key, chosen, " ".join([*late, *more]), platform)


def _files(entry: Path) -> list[Path]:
    """The files of an entry, without hidden ones."""
    if not entry.is_dir():
        return [entry]
    inside = (p for p in sorted(entry.rglob("*")) if p.is_file())
    return [p for p in inside if not any(part.startswith((".", "__")) for part in p.relative_to(entry).parts)]


def _plain_name(entry: Path, number: str) -> str:
    """ada_lab02.ipynb, lab02_ada.ipynb, ada.ipynb, ada/ → ada."""
    stem = entry.name if entry.is_dir() else entry.stem
    rest = re.sub(rf"(?i)[ _-]*lab[ _-]?{number}[ _-]*", "", stem)
    return rest or stem


def read_cells(path: Path) -> tuple[list[str], list[int]]:
    """The sources of a notebook's code cells that have to run, and their numbers; ValueError says why it is none."""
    if path.suffix != ".ipynb":
        raise ValueError(f"{path.name} is no notebook (.ipynb).")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path.name} is larger than {LARGEST_FILE / 1e6:.0f} MB.")
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise ValueError("The file is empty.")
    if text.lstrip().startswith("<"):
        raise ValueError("This is a web page (HTML), no notebook; export it as .ipynb.")
    try:
        book = json.loads(text)
        cells = [c for c in book["cells"] if c["cell_type"] == "code"]
        sources = [c["source"] if isinstance(c["source"], str) else "".join(c["source"]) for c in cells]
        tags = [list(c.get("metadata", {}).get("tags", [])) for c in cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("The file cannot be read as a notebook.") from None
    kept = [k for k, t in enumerate(tags) if "demo" not in t]
    return [sources[k] for k in kept], [k + 1 for k in kept]


# --------------------------------------------------------------------------------------------- marking


def mark_all(lab: Lab, submissions: Iterable[Submission], term: str, salt: str, *, per_student: bool = False,
             jobs: int = 2, limits: Limits | None = None, hidden: Iterable[Path] = ()) -> list[Marks]:  # fmt: skip
    """Mark every submission, `jobs` at a time; the draws come from the salt, which nobody knows before.

    hidden: folders that a hand-in must not see, such as the one with the other hand-ins.
    """
    context, limits = server(), limits or Limits()
    paths = [os.fspath(path.resolve()) for path in hidden]

    def one(submission: Submission) -> Marks:
        seed = Variant.of(term, submission.id or submission.student).seed if per_student else term
        return mark(lab, submission, seed, salt, context, limits, paths)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, submissions))


def mark(lab: Lab, submission: Submission, seed: str, salt: str, context, limits: Limits, hidden: list[str]) -> Marks:
    """Mark one: run its cells in a process of their own, then check every task there."""
    marks = Marks(submission, remarks=[submission.remark] if submission.remark else [])
    try:
        if submission.file is None:
            raise ValueError("Nothing was marked.")
        cells, numbers = read_cells(submission.file)
    except (ValueError, OSError) as error:
        marks.remarks.append(str(error))
        marks.results = [_nothing(task, str(error)) for task in lab.tasks]
        return marks
    calls = re.findall(r"open_lab\(\s*[\"']\w+[\"']\s*,\s*([\"'])(.*?)\1", "\n".join(cells))  # O'Brien has a quote
    said = [variant for _, variant in calls]
    if said and seed not in said:
        marks.remarks.append(f"The notebook is of variant {said[0]!r}; it was marked as {seed!r}.")
    hand_in = HandIn(context, cells, list(lab.forbidden), hidden, limits)
    try:
        hand_in.start()
    except Gone as gone:
        marks.remarks.append(str(gone))
    v = lab.conventions(Variant(seed))
    for task in lab.tasks:
        try:
            marks.results.append(judge(task, answer_to(task, hand_in, lab.tasks), v, f"{salt}|{seed}"))
        except Mistake as mistake:
            marks.results.append(_nothing(task, str(mistake)))
    hand_in.stop()
    marks.remarks += [
        f"Code cell {numbers[k]}: {text}"
        for k, text in sorted(hand_in.errors.items())
        if not cells[k].startswith("check(")
    ]  # it finds no function; that stands with the task
    marks.held = hand_in.held
    return marks


def _nothing(task: Task, why: str) -> Result:
    return Result(task.name, tuple(Verdict(p.name, 0, p.points, why) for p in task.properties), answered=False)


# ---------------------------------------------------------------------------------------------- output


def write_csv(path: Path, lab: Lab, marks: Iterable[Marks]) -> None:
    """One row for each student: student, id, lab, points, of, remark, and a column for each task."""
    rows = []
    for m in marks:
        each = [f"{result.points:g}" for result in m.results]
        row = [m.submission.student, m.submission.id, lab.number, f"{m.points:g}", f"{lab.points:g}"]
        rows.append([*row, *each, " ".join(m.remarks)])
    _write_table(path, ["student", "id", "lab", "points", "of", *[t.name for t in lab.tasks], "remark"], rows)


def write_gradebooks(path: Path, lab: Lab, marks: Iterable[Marks]) -> list[Path]:
    """Beside the table, for hand-ins that a platform named, marks-canvas.csv and marks-canvas.zip, or -moodle; which.

    The CSV has the points: Canvas takes it under Grades, Import; Moodle under Upload grading worksheet. The ZIP has the
    pages of `feedback`: Canvas takes it under Upload Submissions, Moodle under Upload multiple feedback files in a zip.
    """
    made = []
    for platform, (columns, row, name) in GRADEBOOKS.items():
        theirs = [m for m in marks if m.submission.platform == platform]
        if theirs:
            table, pages = (path.with_name(f"{path.stem}-{platform}.{kind}") for kind in ("csv", "zip"))
            _write_table(table, [c.format(number=lab.number) for c in columns], [row(m) for m in theirs])
            temporary = pages.with_name(f"{pages.name}.tmp")
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
                for m in theirs:
                    plain = name(m).encode(errors="replace").decode()  # a file's name is any bytes
                    file.writestr(plain, feedback(lab, m).encode(errors="replace"))
            os.replace(temporary, pages)
            made += [table, pages]
    return made


def _write_table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:  # what students write is any text
        csv.writer(file).writerows([columns, *[[_cell(entry) for entry in row] for row in rows]])
    os.replace(temporary, path)


def _cell(text: str) -> str:
    """No spreadsheet may take a student's file name for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and text != "-" else text


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}
li.right::marker {{ content: "✓  " }} li.open::marker {{ content: "○  " }}</style></head>
<body><h1>{title}</h1><p>{student}: <strong>{points:g} of {of:g} points</strong></p>
{body}</body></html>
"""


def feedback(lab: Lab, marks: Marks) -> str:
    """A page for the student: every property with its sentence, and no code of the checks."""
    parts = [f"<p>{_html(text)}</p>" for text in marks.remarks]
    for task, result in zip(lab.tasks, marks.results, strict=True):
        parts.append(f"<h2>{html.escape(task.title)}: {result.points:g} of {result.of:g}</h2>")
        if not result.answered:
            why = result.verdicts[0].sentence
            parts.append(f"<p>Not answered. {_html(why)}</p>")
            continue
        rows = [f'<li class="{"open" if v.sentence else "right"}">{_html(v.property)}'
                f"{': ' + _html(v.sentence) if v.sentence else ''}</li>" for v in result.verdicts]  # fmt: skip
        parts.append(f"<ul>{''.join(rows)}</ul>")
    title = html.escape(f"Lab {lab.number} · {lab.title}")
    who = html.escape(marks.submission.student)
    return PAGE.format(title=title, student=who, points=marks.points, of=lab.points, body="\n".join(parts))


def _html(text: str) -> str:
    """Escaped, with `code` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def write_feedback(folder: Path, lab: Lab, marks: Iterable[Marks]) -> None:
    """One HTML file for each student, named after the student as far as a file can be, and numbered where two agree."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for m in marks:
        name = plain = re.sub(r"[^\w. ()-]", "_", m.submission.student)[:60]
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{plain} {number}"
        taken.add(name.lower())
        (folder / f"{name}.html").write_text(feedback(lab, m), encoding="utf-8", errors="replace")
