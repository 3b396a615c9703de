"""Tables and figures from the files of `results/` (and the list of cells): the same files give the same bytes.

results/<protocol>/…/seed-k.json   one job each (`study.run`), beside a picture of its first images
results/seconds.json               measured seconds per step, for what is still open
results/tables, results/figures    what `python -m qdm_lib experiment collect` writes
"""

from __future__ import annotations

import os
from pathlib import Path

from qdm_lib.paper import scores
from study.remaining import open_table
from study.results import read_results
from study.spec import HERE, RESULTS, load_experiment
from study.tables import paper_table, tables, write_table


def collect(
    folder: str | os.PathLike = RESULTS,
    out: str | os.PathLike | None = None,
    experiments: str | os.PathLike = HERE / "experiments",
) -> list[Path]:
    """Write every table and figure; returns their paths. FileNotFoundError where there is no results folder.

    experiments: the folder of the experiment files, for the table of what is still open.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; 'experiment run' makes one.")
    out = folder if out is None else Path(out)
    (out / "tables").mkdir(parents=True, exist_ok=True)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    written = []
    groups = read_results(folder)
    for group in groups:
        for name, table in tables(group).items():
            written += write_table(out / "tables" / f"{group.name}-{name}", table)
    paper = scores()
    drawn_again = {group.protocol for group in groups if group.results()[0].config.runs_of == "paper"}
    as_in_the_paper = {group.protocol for group in groups} & {"paper"}
    for protocol in sorted(as_in_the_paper | drawn_again):
        written += write_table(out / "tables" / f"{protocol}-and-ours", paper_table(paper, groups, protocol))
    for path in sorted(Path(experiments).glob("*.toml")):
        experiment = load_experiment(path)
        used = experiment.as_used()  # the file paper-mnist is of the protocol paper, drawn as paper-ddim-50
        name = f"open-{used.protocol}{path.stem.removeprefix(experiment.protocol)}"
        written += write_table(out / "tables" / name, open_table(used, folder, groups))
    from study.figures import figures, sampling_figures  # need matplotlib

    written += sampling_figures(groups, out / "figures")
    return written + [path for group in groups for path in figures(group, out / "figures")]
