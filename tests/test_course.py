"""The course's sizes, and the trainings that Binder's size goes on from."""

import sys

import jupytext
import pytest
import torch

from qdm_course import size
from qdm_course.recorded import RECORDED, go_on_from, record
from qdm_lib.checkpoint import load_checkpoint
from qdm_lib.data import batches, load_images
from qdm_lib.diffusion import NoiseSchedule, cosine_betas
from qdm_lib.training import EMA, make_optimizer, train
from qdm_lib.unet import build_unet

from test_notebooks import ROOT, SOURCES  # isort: skip

sys.path.insert(0, str(ROOT / "tools"))
import record_training  # noqa: E402

SCHEDULE = NoiseSchedule(cosine_betas())


@pytest.mark.parametrize("word, found", [(None, "full"), ("", "full"), ("test", "test"), ("binder", "binder")])
def test_one_variable_says_the_size(word, found, monkeypatch):
    monkeypatch.delenv("QDM_SIZE", raising=False) if word is None else monkeypatch.setenv("QDM_SIZE", word)
    assert size.course_size() == found


@pytest.mark.parametrize("word", ["fast", "1", "Full"])
def test_another_word_is_refused(word, monkeypatch):
    monkeypatch.setenv("QDM_SIZE", word)
    with pytest.raises(ValueError, match=f"one of test, binder, full, not '{word}'"):
        size.course_size()


@pytest.mark.parametrize(
    "word, binder, begins",
    [("full", "Less.", None), ("binder", "", None), ("binder", "Less.", "> **Binder's size.** Less."),
     ("test", "Less.", "> **Test size.**"), ("test", "", "> **Test size.**")],
)  # fmt: skip
def test_the_page_says_so_where_a_size_is_not_full(word, binder, begins, monkeypatch):
    shown = []
    monkeypatch.setenv("QDM_SIZE", word)
    monkeypatch.setattr(size, "display", lambda text: shown.append(text.data))
    assert size.show_size(binder) == word
    assert shown == [] if begins is None else shown[0].startswith(begins) and "QDM_SIZE=full" in shown[0]


def test_every_notebook_reads_the_size_there_and_nowhere_else():
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        assert text.count("show_size(") == 1 and "environ" not in text


class Run:
    """A model in training, with batches of so many images."""

    def __init__(self, preset: str, batch: int) -> None:
        model = build_unet(preset, seed=0, verbose=False)
        noise = torch.Generator().manual_seed(1)
        self.parts = {"model": model, "ema": EMA(model), "optimizer": make_optimizer(model), "noise": noise}
        self.images, self.batch = load_images("fashion-mnist", "train", bundled=True), batch

    def steps(self, first: int, n: int) -> list[float]:
        model, ema, optimizer, noise = self.parts.values()
        feed = batches(self.images, self.batch, seed=0, start_step=first)
        made = train(model, SCHEDULE, feed, optimizer, ema, generator=noise, start_step=first, steps=n)
        return [step.loss for step in made]


def test_going_on_from_a_record_is_the_run_that_was_never_interrupted(tmp_path):
    whole, begun, later = Run("unet", 2), Run("unet", 2), Run("unet", 2)
    pictures = {1: torch.linspace(-1, 1, 2 * 784).view(2, 1, 28, 28)}
    losses = begun.steps(0, 2)
    record("some", **begun.parts, losses=losses, pictures=pictures, folder=tmp_path)
    later.parts["noise"].manual_seed(99)  # nothing of its own is left
    before, seen = go_on_from("some", **later.parts, folder=tmp_path)
    assert before + later.steps(2, 2) == whole.steps(0, 4)
    torch.testing.assert_close(seen[1], pictures[1], rtol=0, atol=1e-3)
    with pytest.raises(FileNotFoundError):
        go_on_from("another", **later.parts, folder=tmp_path)


@pytest.mark.parametrize(
    "name, preset, steps", [("06_training", "1hqconv", 400), ("07_transfer_learning", "unet", 200)]
)
def test_the_stored_records_are_of_this_very_training(name, preset, steps):
    """Their first losses are made here again; the notebooks of Binder's size show their last ones."""
    saved = load_checkpoint(RECORDED / name)
    assert saved.step == len(saved.run_config["losses"]) == steps - record_training.LIVE
    torch.testing.assert_close(saved.run_config["losses"][:2], Run(preset, 32).steps(0, 2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("source", [s for s in SOURCES if s.stem in record_training.RUNS], ids=lambda s: s.stem)
def test_a_record_is_made_by_the_notebooks_own_cells(source):
    short, whole = record_training.shortened(source), jupytext.read(source)
    assert [cell.source for cell in short.cells[:-3]] == [cell.source for cell in whole.cells[: len(short.cells) - 3]]
    assert (
        short.cells[-2].source == whole.cells[len(short.cells) - 3].source and "go_on_from(" in short.cells[-2].source
    )
    assert short.cells[-3].source == f"{record_training.RUNS[source.stem][0]} -= {record_training.LIVE}"
    compile(short.cells[-1].source, "", "exec")
