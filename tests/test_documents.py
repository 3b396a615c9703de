"""The documents: links lead somewhere, and REPORT's numbers of single runs are those of results/."""

import re
from pathlib import Path

import pytest

from study.results import read_results

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("study/**/*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoints/*/*/README.md")]
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_row_of_a_table_is_one_line(path):
    """A row that is broken over two lines ends the table there: its first cells and the rest become running text."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = [row.replace(r"\|", "") for row in table.splitlines()]
        assert all(row.endswith("|") and row.count("|") == rows[0].count("|") for row in rows), rows


def rows_of_runs(text: str):
    """(protocol and data set, cell, seed, entry) of each filled field of REPORT's tables with a column for each seed.

    The first field of such a table's head is the protocol, of Fashion-MNIST, or "protocol, data set".
    """
    seeds, protocol = [], None
    for line in text.splitlines():
        fields = [field.strip() for field in line.strip("|").split("|")] if line.startswith("|") else []
        if any(field.startswith("seed ") for field in fields):
            protocol, _, dataset = fields[0].partition(", ")
            protocol = f"{protocol}-{dataset or 'fashion-mnist'}"
            seeds = [int(field[5:]) for field in fields[1:]]
        elif not fields:
            seeds = []
        elif seeds and fields[0].startswith("`"):
            yield from (
                (protocol, fields[0].strip("`"), seed, f) for seed, f in zip(seeds, fields[1:], strict=True) if f
            )


def test_the_reports_scores_are_those_of_the_results():
    groups = {group.name: group for group in read_results(ROOT / "study" / "results")}
    found = list(rows_of_runs((ROOT / "study" / "REPORT.md").read_text(encoding="utf-8")))
    assert len(found) >= 8
    for protocol, cell, seed, entry in found:
        score = groups[protocol].cells[cell][seed].last.scores["fid"]
        assert entry == f"{score['value']:.1f}", (cell, seed)


def test_the_rows_of_the_report_are_those_of_the_results():
    """The tables of one seed with a column for each score; their heads begin with the group of the results."""
    columns = {"FID": "fid", "KID": "kid", "IS": "is", "CNN accuracy": "cnn_accuracy", "class TV": "class_tv"}
    groups, seen = {group.name: group for group in read_results(ROOT / "study" / "results")}, 0
    group = keys = None
    for line in (ROOT / "study" / "REPORT.md").read_text(encoding="utf-8").splitlines():
        first, *fields = [field.strip(" *`") for field in line.strip("|").split("|")]
        if first in groups:
            group, keys = groups[first], [columns.get(field[:-2], field[:-2]) for field in fields]
        elif not line.startswith("|"):
            group = None
        elif group and not first.startswith("-"):
            for key, field in zip(keys, fields, strict=True):
                half = 0.501 * 10 ** -len(field.partition(".")[2])  # of the last digit
                real = first.endswith("real images")
                value = group.floor(key) if real else group.cells[first][0].last.scores[key]["value"]
                assert abs(float(field.replace("−", "-")) - value) <= half, (first, key)
                seen += 1
    assert seen >= 100


def test_docstrings_speak_one_dialect():
    """What goes in, what comes out and what is raised stand in sentences, nowhere in blocks headed "Args:"."""
    heads = re.compile(r"^ *(Args|Arguments|Parameters|Returns|Raises|Yields|Attributes):$", re.MULTILINE)
    folders = ("qdm_lib", "qdm_course", "qdm_labs", "study", "tools")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    assert not [path.relative_to(ROOT) for path in sources if heads.search(path.read_text(encoding="utf-8"))]
