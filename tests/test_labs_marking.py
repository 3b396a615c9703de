"""Marking: a term of hand-ins of known quality, hostile hand-ins, names of learning platforms, tables, feedback."""

import csv
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from lab_answers import answered, answers, expected_points

from qdm_labs import hand_in, marker
from qdm_labs.catalogue import find_lab
from qdm_labs.confine import Limits
from qdm_labs.notebook import release
from qdm_labs.variant import Variant

ROOT = Path(__file__).parent.parent
SEED = "2026"
LAB = find_lab("02")
V = LAB.conventions(Variant(SEED))
NEW = nbformat.v4.new_code_cell
PRINTED = [nbformat.v4.new_output("stream", text="rotation: 3 of 3 points\ncorrect\n")]
ROTATION = f"""
def rotation(axis, angle):
    pauli = {{"X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]]}}[axis]
    return torch.cos(angle / 2) * torch.eye(2) + {V.sign}j * torch.sin(angle / 2) * torch.tensor(pauli)
"""  # the one answer that stands here: three lines, to have something right among the hostile


def load_tool():
    """tools/labs.py as a module."""
    spec = importlib.util.spec_from_file_location("labs_tool", ROOT / "tools" / "labs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tool(*argv):
    """tools/labs.py as typed."""
    return load_tool().main([str(a) for a in argv])


def book(**bodies):
    """The released notebook with functions in the place of stubs, name=source."""
    notebook = release("02", SEED)
    for cell in notebook.cells:
        for name, source in bodies.items():
            if cell.cell_type == "code" and f"def {name}(" in cell.source:
                cell.source = source
    return notebook


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


# ------------------------------------------------------------------------------------------- hostile


def looping_cell(first=True):
    stubborn = "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
    notebook = book(rotation=ROTATION)
    notebook.cells.insert(2 if first else len(notebook.cells), NEW(stubborn))
    return notebook


def edited_checks():
    notebook = book()
    for cell in notebook.cells:
        if cell.source.startswith("check("):
            cell.source, cell.outputs = "print('rotation: 3 of 3 points')", PRINTED
    return notebook


def renamed():
    notebook = book(rotation=ROTATION.replace("def rotation", "def rotations"))
    return notebook


def without_set_up():
    notebook = book(rotation=ROTATION)
    notebook.cells = [cell for cell in notebook.cells if "open_lab(" not in cell.source]
    return notebook


SPY = """
import os, socket
import torch
from pathlib import Path
found = [p for p in Path({folder!r}).rglob("*") if p.is_file()]
if found:
    exec("".join("".join(c["source"]) for c in __import__("json").loads(found[0].read_text())["cells"]))
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=2)
    open("reached", "w").write("yes")
    rotation = None
except OSError:
    pass
"""
PLANTED = ("import qdm_labs.task as t, torch\nt.Task.points = 100\ntorch.equal = torch.allclose = lambda *a: True\n"
           "def rotation(axis, angle):\n    return torch.zeros(2, 2)")  # fmt: skip


def hand_ins(folder, port):
    """file name -> (what is written there, points that it earns)."""
    endless = "def apply_gate(state, U, wire):\n    while True:\n        pass"
    library = "from qdm_lib.simulator import rotation as r\ndef rotation(axis, a):\n    return r(axis, a)"
    module = "import qdm_lib.simulator as s\ndef rotation(axis, angle):\n    return s.rotation(axis, {}angle)"
    cleared = book(rotation=ROTATION)
    return {
        "untouched.ipynb": (book(), 0),
        "smithdan_88123_4471_lab02.ipynb": (book(rotation=ROTATION), 3),
        "jonesann_LATE_88124_4472_lab02-1.ipynb": (book(rotation=ROTATION), 3),
        "Ada Lovelace_123_assignsubmission_file_/lab02.ipynb": (book(rotation=ROTATION), 3),
        "Ada Lovelace_124_assignsubmission_file_/lab02.ipynb": (book(), 0),
        "Bob Empty_125_assignsubmission_file_/notes.txt": ("no notebook", 0),
        "plain/homework.ipynb": (cleared, 3),
        "broken.ipynb": ("{'cells': [", 0),
        "html.ipynb": ("<!doctype html><html></html>", 0),
        "nothing.ipynb": ("", 0),
        "pdf.pdf": ("%PDF", 0),
        "syntax.ipynb": (book(rotation=ROTATION, apply_gate="def apply_gate(state, U, wire:\n    return"), 3),
        "loop_cell.ipynb": (looping_cell(), 3),
        "loop_function.ipynb": (book(rotation=ROTATION, apply_gate=endless), 3),
        "memory.ipynb": (book(rotation=ROTATION, apply_gate="hog = bytearray(2 * 10**9)"), 3),
        "exit.ipynb": (book(rotation=ROTATION, apply_gate="import os\nos._exit(0)"), 3),
        "prints.ipynb": (book(rotation="print('rotation: 3 of 3 points')\nprint('correct')"), 0),
        "edited.ipynb": (edited_checks(), 0),
        "renamed.ipynb": (renamed(), 0),
        "deleted_set_up.ipynb": (without_set_up(), 0),
        "library.ipynb": (book(rotation=library), 0),
        "library_module.ipynb": (book(rotation=module.format("-" if V.sign > 0 else "")), 0),
        "planted.ipynb": (book(rotation=PLANTED), 0),
        "spy.ipynb": (book(rotation=SPY.format(folder=str(folder), port=port)), 0),
    }  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "in"
    table = folder.parent / "marks.csv"
    with socket.create_server(("127.0.0.1", 0)) as door:
        given = hand_ins(folder, door.getsockname()[1])
        for name, (content, _) in given.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content) if isinstance(content, str) else write(content, path)
        assert tool("grade", "02", folder, "--variant", SEED, "--csv", table, "--patience", 0.4, "--jobs", 2) == 0
    return given, {row["student"]: row for row in read(table)}, folder.parent / "marks-feedback"


STUDENT = {"smithdan_88123_4471_lab02.ipynb": "smithdan", "jonesann_LATE_88124_4472_lab02-1.ipynb": "jonesann",
           "Ada Lovelace_123_assignsubmission_file_/lab02.ipynb": "Ada Lovelace (123)",
           "Ada Lovelace_124_assignsubmission_file_/lab02.ipynb": "Ada Lovelace (124)",
           "Bob Empty_125_assignsubmission_file_/notes.txt": "Bob Empty", "plain/homework.ipynb": "plain"}  # fmt: skip


def test_every_hand_in_has_one_row_with_its_points(hostile):
    given, rows, _ = hostile
    expected = {STUDENT.get(name, Path(name).stem): f"{points:g}" for name, (_, points) in given.items()}
    assert {name: row["points"] for name, row in rows.items()} == expected
    assert all(row["lab"] == "02" and row["of"] == f"{LAB.points:g}" for row in rows.values())
    assert rows["smithdan"]["id"] == "88123" and rows["Ada Lovelace (123)"]["id"] == "123"


def test_what_one_student_handed_in_is_one_submission(tmp_path):
    """Canvas names every file, Moodle makes a folder for files and one for text: a second row would hold 0 points."""
    names = ["smithdan_88123_4471_lab02.ipynb", "smithdan_88123_4472_notes.pdf", "smithdan_88123_4473_lab01.ipynb",
             "jonesann_LATE_88124_4474_lab02.pdf", "jonesann_LATE_88124_4475_lab02.txt", "ada.ipynb", "bob.ipynb",
             "Ada Lovelace_123_assignsubmission_file_/lab02.ipynb",
             "Ada Lovelace_123_assignsubmission_onlinetext_/onlinetext.html",
             "Bob Empty_88123_assignsubmission_onlinetext_/onlinetext.html"]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {(s.platform, s.id or s.student): s for s in marker.find(tmp_path, "02")}
    assert {key: s.file and s.file.name for key, s in found.items()} == {
        ("canvas", "88123"): names[0], ("canvas", "88124"): names[3], ("moodle", "123"): "lab02.ipynb",
        ("moodle", "88123"): None, ("", "ada"): "ada.ipynb", ("", "bob"): "bob.ipynb",
    }  # fmt: skip
    assert found["canvas", "88123"].remark == f"Of 2 notebooks {names[0]} was marked."
    assert found["canvas", "88124"].remark == "The platform calls it late."
    assert found["moodle", "88123"].remark == "There is no notebook (.ipynb) in the folder."
    assert found["moodle", "123"].student == "Ada Lovelace"  # one student, so no id beside the name


@pytest.mark.parametrize(("factor", "points"), [(1, 0), (3, 3)])
def test_patience_lengthens_what_a_call_may_take(factor, points, tmp_path):
    """A right answer whose first call needs two seconds, where its task allows one."""
    late = ROTATION.replace("):\n", "):\n    time.sleep(0 if slept else 2)\n    slept.append(1)\n", 1)
    write(book(rotation=f"import time\nslept = []\n{late}"), tmp_path / "lab02.ipynb")
    lab = replace(LAB, tasks=tuple(replace(task, seconds=1) for task in LAB.tasks if task.name == "rotation"))
    limits = Limits.patient(factor)
    (marks,) = marker.mark_all(lab, marker.find(tmp_path, "02"), SEED, "salt", limits=limits)
    assert marks.points == points and ("after 1 s" in marks.results[0].verdicts[0].sentence) == (points == 0)


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ("broken", "cannot be read"), ("html", "web page"), ("nothing", "empty"), ("pdf", "no notebook"),
        ("syntax", "SyntaxError in line 1"), ("loop_cell", "still running after"),
        ("loop_function", "still running after"),
        ("memory", "MemoryError"), ("exit", "ended the process"), ("renamed", "is rotations meant?"),
        ("memory", "There is no function apply_gate when the cells have run.<"),
        ("deleted_set_up", "NameError"), ("library", "qdm_lib.simulator.rotation does what this lab asks"),
        ("library_module", "qdm_lib.simulator.rotation does what this lab asks"), ("untouched", "Not answered"),
    ],
)  # fmt: skip
def test_the_page_says_what_happened(hostile, student, words):
    page = (hostile[2] / f"{student}.html").read_text(encoding="utf-8")
    assert words in page
    assert "Traceback" not in page and "qdm_labs" not in page and "agree(" not in page


CONFINED = """
import ctypes, os, socket, sys, tempfile
from qdm_labs.confine import Limits, confine
hidden, port = sys.argv[1], int(sys.argv[2])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as if it had never been root: /proc/self is its own
held = confine(Limits(processes=5), [hidden], tempfile.mkdtemp())
children = 0
try:
    while children < 40:
        if os.fork() == 0:
            __import__("time").sleep(2)
            os._exit(0)
        children += 1
except OSError:
    pass
ctypes.CDLL(None).umount2(hidden.encode(), 2)  # try to look behind it
try:
    line = socket.socket()
    line.settimeout(2)
    line.connect(("127.0.0.1", port))
    reached = True
except OSError:
    reached = False
print(*held, "|", children, len(os.listdir(hidden)), reached)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_an_ordinary_user_confines_a_hand_in_wholly():
    """Few processes, no network, no sight of the other hand-ins, not even for who unmounts what hides them."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are closed to other users
    (folder / "in").mkdir()
    (folder / "in" / "other.ipynb").write_text("{}")
    folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as door:
        command = [sys.executable, "-c", CONFINED, str(folder / "in"), str(door.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ | {"TMPDIR": "/tmp"})
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    held, seen = done.stdout.split("|")
    if "network" not in held:
        pytest.skip(f"this system gives an ordinary user no namespaces: held are {held}")
    assert set(held.split()) == {"network", "files", "processes", "memory", "time"}
    children, files, reached = seen.split()
    assert int(children) < 5 and files == "0" and reached == "False"


# ------------------------------------------------------------------------------------- a whole term


def known_class(n):
    """n students; for each task a right answer, a usual mistake, or none: in an order that is always the same."""
    for k in range(n):
        choices, wrong = {}, answers("02").wrong(V)
        for j, task in enumerate(LAB.tasks):
            mistakes = len(wrong[task.name])
            turn = (k * (j + 2) + j) % (mistakes + 4)
            choices[task.name] = "right" if turn < 3 else "unanswered" if turn == 3 else turn - 4
        yield f"s{k:02d}", choices


def named(k, student):
    """As the two platforms name hand-ins, half of them each."""
    if k % 2:
        return f"{student}_{1000 + k}_{9000 + k}_lab02{'-1' if k % 3 else ''}.ipynb"
    return f"{student}_{1000 + k}_assignsubmission_file_/lab02.ipynb"


@pytest.mark.parametrize("n", [30])
def test_a_term_of_known_hand_ins_gets_the_known_marks(n, tmp_path, monkeypatch):
    """The command as typed; the answers are made from the library, so this copy of the lab forbids nothing."""
    students, module = dict(known_class(n)), load_tool()
    for k, (student, choices) in enumerate(students.items()):
        write(answered(book(), LAB, SEED, choices), tmp_path / "in" / named(k, student))
    monkeypatch.setattr(module, "find_lab", lambda number: replace(LAB, forbidden=()))
    table = tmp_path / "marks.csv"
    assert (
        module.main(["grade", "02", str(tmp_path / "in"), "--variant", SEED, "--csv", str(table), "--jobs", "2"]) == 0
    )
    rows = read(table)
    got = {row["student"]: float(row["points"]) for row in rows}
    assert got == {student: expected_points(LAB, SEED, choices) for student, choices in students.items()}
    assert len(set(got.values())) > 8
    assert not any("Traceback" in row["remark"] or "running" in row["remark"] for row in rows)
    canvas, moodle = read(tmp_path / "marks-canvas.csv"), read(tmp_path / "marks-moodle.csv")
    assert {row["Student"]: float(row["Lab 02"]) for row in canvas} == {s: got[s] for s in list(students)[1::2]}
    assert {row["ID"] for row in canvas} == {str(1000 + k) for k in range(1, n, 2)}
    assert {row["Identifier"]: float(row["Grade"]) for row in moodle} == {
        f"Participant {1000 + k}": got[f"s{k:02d}"] for k in range(0, n, 2)
    }
    assert {page.stem for page in (tmp_path / "marks-feedback").iterdir()} == set(students)
    for platform, key in (
        ("canvas", r"_(\d+)_\d+_lab02(-1)?\.html"),
        ("moodle", r"\w+_(\d+)_assignsubmission_file/.+"),
    ):
        with zipfile.ZipFile(tmp_path / f"marks-{platform}.zip") as file:
            pages = {re.search(key, name)[1]: file.read(name).decode() for name in file.namelist()}
        assert len(pages) == n / 2
        for number, page in pages.items():
            student = f"s{int(number) - 1000:02d}"
            assert f"{student}: <strong>{got[student]:g} of" in page


def read(path):
    """The rows of a table, as dictionaries."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_variants_for_each_student(tmp_path):
    (tmp_path / "ids").write_text("ada\nbob\n")
    assert tool("release", "02", "--variant", SEED, "--students", tmp_path / "ids", "--out", tmp_path / "out") == 0
    texts = {p.parent.name: p.read_text(encoding="utf-8") for p in (tmp_path / "out").rglob("*.ipynb")}
    assert set(texts) == {"ada", "bob"} and texts["ada"] != texts["bob"]
    v = LAB.conventions(Variant.of(SEED, "ada"))
    notebook = json.loads(texts["ada"])
    answer = ROTATION.replace(f"+ {V.sign}j", f"+ {v.sign}j")
    for cell in notebook["cells"]:
        if "def rotation(" in "".join(cell["source"]):
            cell["source"] = answer
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "lab02.ipynb").write_text(json.dumps(notebook))
    table = tmp_path / "marks.csv"
    assert tool("grade", "02", tmp_path / "in", "--variant", SEED, "--per-student", "--csv", table) == 0
    (row,) = read(table)
    assert (row["student"], row["points"], row["remark"]) == ("ada", "3", "")


@pytest.mark.parametrize("ids", ["", "\n \n", 'ada\nb"ob\n', "ada\nada\n"])
def test_a_class_is_released_whole_or_not_at_all(ids, tmp_path, capsys):
    (tmp_path / "ids").write_text(ids)
    assert tool("release", "02", "--variant", SEED, "--students", tmp_path / "ids", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_release_holds_no_outputs_and_overwrites_nothing(tmp_path, capsys):
    assert tool("release", "02", "--variant", SEED, "--out", tmp_path) == 0
    (path,) = tmp_path.iterdir()
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("raise NotImplementedError" in cell.source for cell in code) == len(LAB.tasks)
    assert "{{" not in nbformat.writes(notebook) and SEED in nbformat.writes(notebook)
    assert tool("release", "02", "--variant", SEED, "--out", tmp_path) == 2
    assert tool("release", "17", "--variant", SEED, "--out", tmp_path / "new") == 2
    assert tool("grade", "02", tmp_path / "missing", "--variant", SEED, "--csv", tmp_path / "m.csv") == 2
    said = capsys.readouterr().err
    assert "is there already" in said and "no lab '17'" in said and "is no folder" in said


def test_a_release_is_a_whole_notebook_or_none(tmp_path, monkeypatch, capsys):
    def full(book, path):
        Path(path).write_text("{half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(nbformat, "write", full)
        assert tool("release", "02", "--variant", SEED, "--out", tmp_path) == 2
    assert "No space left" in capsys.readouterr().err and not (tmp_path / "lab02.ipynb").exists()
    assert tool("release", "02", "--variant", SEED, "--out", tmp_path) == 0


def test_students_are_named_as_they_are_and_stay_in_their_folder(tmp_path, capsys):
    def release_to(text, name):
        (tmp_path / "ids").write_bytes(text)
        return tool("release", "02", "--variant", SEED, "--students", tmp_path / "ids", "--out", tmp_path / name)

    assert release_to("\ufeffzoë müller\r\n李雷\r\n".encode(), "out") == 0  # as Notepad saves it
    assert {p.parent.name for p in (tmp_path / "out").rglob("*.ipynb")} == {"zoë müller", "李雷"}
    for ids in (b"..\n", b"../ada\n", b"/ada\n", b".\n", b"ada\nada\n", b"z\xff\n"):
        assert release_to(ids, "new/deeper") == 2
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr().err.count("error: ") == 6


def test_what_a_student_writes_is_any_text(tmp_path):
    """Half a surrogate pair, as an escape of JSON gives it, or a file's name in another encoding, ended the marking."""
    names = ["a+b", "a=b", "A_B", "n" * 240, "\udcff", "=cmd|x", "\t=1+1"]
    marks = []
    for name in names:
        one = marker.Marks(marker.Submission(name, "", None), [marker._nothing(t, "\ud800") for t in LAB.tasks])
        one.remarks.append("Code cell 1: Exception: \ud83d")
        marks.append(one)
    marks[0].submission = marker.Submission("a+b", "1", Path("a+b_1_2_\udcff.ipynb"), platform="canvas")
    marker.write_csv(tmp_path / "marks.csv", LAB, marks)
    assert [path.name for path in marker.write_gradebooks(tmp_path / "marks.csv", LAB, marks)] == [
        "marks-canvas.csv", "marks-canvas.zip"]  # fmt: skip
    marker.write_feedback(tmp_path / "pages", LAB, marks)
    with (tmp_path / "marks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["student"] for row in rows][:3] == ["a+b", "a=b", "A_B"] and len(rows) == len(names)
    assert [row["student"] for row in rows][-2:] == ["'=cmd|x", "'\t=1+1"]  # no formulas
    assert len(list((tmp_path / "pages").iterdir())) == len(names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--csv", "FOLDER"], "is a folder; give the name"),
        (["--csv", "FILE/marks.csv"], "Cannot write into the folder"),
        (["--csv", "marks.csv", "--feedback", "FILE"], "Cannot write into the folder"),
        (["--csv", "marks.csv", "--patience", "nan"], "--patience must be"),
        (["--csv", "marks.csv", "--patience", "-1"], "--patience must be"),
        (["--csv", "marks.csv", "--jobs", "0"], "--jobs must be"),
    ],
)
def test_a_marking_that_cannot_end_well_does_not_begin(options, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(marker, "mark", lambda *_: pytest.fail("a hand-in was marked"))
    write(book(), tmp_path / "in" / "ada.ipynb")
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FILE").touch()
    assert tool("grade", "02", tmp_path / "in", "--variant", SEED, *options) == 2
    assert words in capsys.readouterr().err


def test_what_a_hand_in_writes_is_gone_afterwards(monkeypatch):
    made, make = [], hand_in.tempfile.mkdtemp

    def noted(**options):  # multiprocessing makes one, too
        folder = make(**options)
        made.extend([folder] if options["prefix"] == "lab-" else [])
        return folder

    monkeypatch.setattr(hand_in.tempfile, "mkdtemp", noted)
    cells = ["open('mine', 'w').write('1')", "import os\ndef look():\n    return len(os.listdir('.'))"]
    one = hand_in.HandIn(hand_in.server(), cells, [], [], Limits())
    try:
        one.start()
        assert not one.errors and one.ask("look", (), None, 10) == 1
        assert (Path(made[-1]) / "mine").is_file()
    finally:
        one.stop()
    assert made and not any(Path(folder).exists() for folder in made)
