"""The paper as data: complete, right in its mathematics, shown in a box, and named where it says it is."""

import math
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from torch.testing import assert_close

from qdm_lib import paper
from qdm_lib.audit import audit_circuit
from qdm_lib.circuits import fqconv, hqconv
from qdm_lib.diffusion import NoiseSchedule, cosine_betas
from qdm_lib.unet import PRESETS, build_unet, count_parameters

ROOT = Path(__file__).parent.parent
ENTRIES = [
    *paper.EQUATIONS.values(), *paper.BLOCKS.values(), *paper.FIGURES.values(), *paper.TABLES.values()
]  # fmt: skip
CLAIMS = [paper.Entry("claim", claim["key"], claim["says"], tuple(claim["where"])) for claim in paper.CLAIMS]


def test_nothing_of_the_paper_is_left_out():
    assert list(paper.EQUATIONS) == list(range(1, 11)) and list(paper.FIGURES) == list(range(1, 15))
    assert list(paper.TABLES) == [1, 2] and list(paper.BLOCKS) == list("ABCD")


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_a_box_has_its_heading_and_balanced_latex(entry):
    box = entry._repr_mimebundle_()
    assert box["text/markdown"].startswith(f"> **{entry.name}** · ") and box["text/plain"].startswith(entry.name)
    assert re.fullmatch(r"Paper, (eq\. \d+|block [A-D]|Fig\. \d+|Table \d)", entry.name)
    for latex in (entry.paper, entry.ours):
        bare = re.sub(r"\\[{}]", "", latex)
        assert bare.count("{") == bare.count("}") and latex.count(r"\big(") == latex.count(r"\big)")
    assert all(line.startswith(">") for line in box["text/markdown"].splitlines())  # one quotation, not several


@pytest.mark.parametrize("call, wrong", [(paper.equation, 11), (paper.figure, 0), (paper.table, 3), (paper.block, "E")])
def test_a_wrong_number_is_refused(call, wrong):
    with pytest.raises(ValueError, match=r"paper"):
        call(wrong)


def test_equation_7_is_the_posterior_mean_of_the_unclamped_guess():
    """Both forms of the box, at every step, for a random prediction."""
    schedule, g = NoiseSchedule(cosine_betas()), torch.Generator().manual_seed(0)
    x_t, eps = (torch.randn(schedule.T, 1, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.arange(schedule.T)
    alpha, abar = (1 - schedule.betas)[:, None], schedule.alphas_cumprod[:, None]
    theirs = (x_t - (1 - alpha) / (1 - abar).sqrt() * eps) / alpha.sqrt()
    ours, _ = schedule.q_posterior(schedule.predict_x0(x_t, t, eps), x_t, t)
    assert_close(theirs, ours)


def test_equation_10_in_our_form_has_the_coefficients_of_the_four_term_rule():
    """c = (1 ± √2)/(4√2), as the box says, solves the two conditions for the frequencies ½ and 1."""
    c = [(1 + math.sqrt(2)) / (4 * math.sqrt(2)), (1 - math.sqrt(2)) / (4 * math.sqrt(2))]
    for frequency in (0.5, 1.0):
        wave = sum(2 * k * math.sin(frequency * s) for k, s in zip(c, (math.pi / 2, 3 * math.pi / 2), strict=True))
        assert math.isclose(wave, frequency)


def test_the_blocks_in_our_form_are_the_gates_of_the_library():
    """The joins that the boxes of blocks A to D name, in their order."""
    a = [(4 * c + (i + 1) % 4, 4 * c + i) for c in (2, 1, 0) for i in (3, 2, 1, 0)]
    gates = [(g.block, g.name, g.wires) for g in hqconv(1).gates[12:]]
    pairs = [("A", w) for w in a] + [("B", (4, 8)), ("B", (0, 4))]
    assert gates == [(block, name, wires) for block, wires in pairs for name in ("CRZ", "CRX")]
    gates = [(g.block, g.name, g.wires) for g in fqconv(1).gates[12:]]
    assert gates == [
        (block, name, ((b + 4 + i) % 12, b + i))
        for b in (8, 4, 0) for block, name in (("C", "CRZ"), ("D", "CRX")) for i in (3, 2, 1, 0)
    ]  # fmt: skip


def test_counts_are_those_of_the_models_but_for_the_quanvolution():
    for preset, count in paper.COUNTS.items():
        reading = {"paper_count": True} if preset == "quanv-hqconv" else {}
        assert count_parameters(build_unet(preset, seed=0, **reading)) == count
    assert set(paper.CHANGE) <= set(PRESETS)
    for preset, change in paper.CHANGE.items():  # the paper's percentages are those of its counts, to a hundredth or so
        exact = 100 * (paper.COUNTS[preset] / paper.COUNTS["unet"] - 1)
        assert abs(float(change.replace("−", "-").removesuffix(" %")) - exact) < 0.011, preset


def test_scores_have_every_cell_of_the_tables_and_the_controls():
    scores = paper.scores()
    for dataset in paper.HAND_OVER:
        cells = [*scores["scores"][dataset].values(), scores["classical_transfer"][dataset]]
        assert len(cells) == 7 and all({"fid", "kid", "is"} <= set(cell) for cell in cells)


def test_the_written_table_is_the_data():
    assert (ROOT / "docs" / "paper.md").read_text(encoding="utf-8") == paper.course_table(), (
        "run python -m qdm_lib.paper > docs/paper.md"
    )


NAMING = ["00", "01", "02", "03", "04", "05", "06", "07", "08"]  # the notebooks that name what of the paper they build


def said_in(notebook: str) -> str:
    """Everything that a notebook says: its text and what its cells have shown, without the index of notebook 00."""
    book = nbformat.read(ROOT / "notebooks" / f"{paper.NOTEBOOKS[notebook]}.ipynb", as_version=4)
    said = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    for output in (output for cell in book.cells for output in cell.get("outputs", ())):
        text = output.get("data", {}).get("text/markdown", "")
        said += [text] if "| Paper, eq. 1 |" not in text else []
    return "\n".join(said)


@pytest.mark.parametrize("notebook", NAMING)
def test_a_notebook_names_what_the_table_says_it_has(notebook):
    said = said_in(notebook)
    for entry in ENTRIES:
        if any(place.partition("/")[0] == notebook for place in entry.where):
            assert re.search(rf"{re.escape(entry.name)}\b", said), f"{notebook} does not name {entry.name}"


def test_sections_that_the_table_names_are_there():
    for place in {place for entry in [*ENTRIES, *CLAIMS] for place in entry.where}:
        notebook, _, section = place.partition("/")
        text = (ROOT / "notebooks" / "src" / f"{paper.NOTEBOOKS[notebook]}.py").read_text(encoding="utf-8")
        assert not section or re.search(rf"^# ## {section} · ", text, re.MULTILINE), place


def test_the_index_in_notebook_00_has_everything_with_what_it_shows():
    book = nbformat.read(ROOT / "notebooks" / "00_welcome.ipynb", as_version=4)
    shown = "".join(o.get("data", {}).get("text/markdown", "") for c in book.cells for o in c.get("outputs", ()))
    for entry in ENTRIES:
        assert f"| {entry.name} | {entry.title} |" in shown


@pytest.mark.parametrize("turned, seen, exact", [("", [12] * 12, 20), ("A", [12] * 9 + [10] * 3, 4)])
def test_with_the_texts_direction_three_layers_do_not_join_everything(turned, seen, exact):
    """HQConv as the code has it, and with block A as the paper's text has it: inputs behind outputs, two-term rule."""
    circuit = hqconv(3)
    gates = tuple(replace(g, wires=g.wires[::-1]) if g.block == turned else g for g in circuit.gates)
    circuit = replace(circuit, gates=gates)
    audit = audit_circuit(circuit)
    assert [len(audit.inputs_of(w)) for w in range(12)] == seen
    weights = [(k, g) for k, g in enumerate(gates) if g.param[0] == "weight"]
    assert sum(all(g.controls[0] not in h.targets for h in gates[k + 1 :]) for k, g in weights) == exact
