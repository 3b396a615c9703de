"""Write the tables of trained models: all of them in docs/models.md, those of the paper's length in README.md.

    python tools/model_table.py            # writes them
    python tools/model_table.py --check    # exit code 1 if they are not up to date

A field is from the card of a model that ships, and links to it, or from a result of the study, scored in the same way,
whose model does not ship. One table for each way of scoring: models are compared inside a table only, and only inside
a column, where all have been trained equally long. An empty field says that nobody has scored that model so long.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from qdm_course.widgets.evidence import handed_over, studied
from qdm_lib.unet import PRESETS

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- begin: models (tools/model_table.py) -->\n", "<!-- end: models -->\n"
PAPERS = (7000, "DDIM", 50)  # images, sampler and its steps of the protocol paper-ddim-50
TITLES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}
ORDER = {name: k for k, name in enumerate(("unet", "1hqconv", "7hqconv", "fullhqconv", "1fqconv", "7fqconv"))}

# {data set, row: {epochs: field}}, a row being a preset and how it was made where that is more than training it
Rows = dict[tuple[str, str], dict[float, str]]


def cards() -> list[tuple[str, dict]]:
    """(folder's name such as fashion-mnist/unet-10-epochs, card) of every shipped model."""
    found = sorted(ROOT.glob("checkpoints/*/*/model.json"))
    return [
        (f"{p.parent.parent.name}/{p.parent.name}", json.loads(p.read_text(encoding="utf-8"))["card"]) for p in found
    ]


def row_of(model: str, move: str) -> str | None:
    """What a row is called; None for a kind that has none, such as a hand-over in which nothing restarts.

    model: a name without its length, such as 1hqconv-transfer. move: how it was handed over, "18 epochs as unet, …".
    """
    preset = model.removesuffix("-transfer").removesuffix("-zero")
    if preset not in PRESETS:
        return None
    if move:
        length, _, source = move.partition(",")[0].partition(" as ")
        return f"`{preset}`, after {length} of `{source}`" + (" (control)" if preset == source else "")
    return f"`{preset}`" + (", zeros for circuits" if model.endswith("-zero") else "")


def field(fid: dict, link: str = "") -> str:
    """FID with its interval, linked to a card."""
    text = f"{fid['value']:.1f} ({fid['low']:.1f} to {fid['high']:.1f})"
    return f"[{text}]({link})" if link else text


def way_of(about: dict) -> tuple[int, str, int]:
    """How a model was scored: images, sampler, its steps."""
    return about["scores"]["fid"]["n"], about["sampler"].upper(), about["sampler_steps"]


def scored(up: str) -> dict[tuple[int, str, int], Rows]:
    """All rows, by (images, sampler, its steps). up: the way from the page to the repository's root."""
    groups: dict[tuple, dict] = defaultdict(lambda: defaultdict(dict))
    for name, card in cards():
        about, model = card["scores"], re.sub(r"-\d+-epochs?$", "", name.partition("/")[2])
        if isinstance(about, dict):  # else it ships without scores
            row = groups[way_of(about)][card["dataset"], row_of(model, handed_over(ROOT / "checkpoints" / name))]
            row[card["epochs"]] = field(about["scores"]["fid"], f"{up}checkpoints/{name}/README.md")
    for dataset in TITLES:
        for (model, epochs), about in studied(ROOT, dataset).items():
            name = row_of(model, about.get("hand-over", ""))
            if (way := way_of(about)) in groups and name:
                groups[way][dataset, name].setdefault(epochs, field(about["scores"]["fid"]))
    return groups


def place(key: tuple[str, str]) -> tuple:
    """Sorts rows: plain models, zeros for circuits, then hand-overs, their classical control first."""
    dataset, row = key
    return dataset, "after" in row, "zeros" in row, ORDER.get(row.split("`")[1], len(ORDER)), row


def table(rows: Rows, epochs: Iterable[float]) -> list[str]:
    """Lines of a Markdown table: data set × model × epochs."""
    epochs = sorted(epochs)
    lines = ["| data set | model | " + " | ".join(f"{e:g} epoch{'s' * (e != 1)}" for e in epochs) + " |",
             "|---|---|" + "---:|" * len(epochs)]  # fmt: skip
    for dataset, model in sorted(rows, key=place):
        fields = [rows[dataset, model].get(e, "") for e in epochs]
        lines.append(f"| {TITLES[dataset]} | {model} | " + " | ".join(fields) + " |")
    return lines


def all_tables() -> str:
    """For docs/models.md: all tables, the most images first."""
    lines = []
    for (n, sampler, steps), rows in sorted(scored("../").items(), reverse=True):
        epochs = {e for row in rows.values() for e in row}
        how = f"{n:,} images drawn by {sampler} in {steps} steps"
        lines += [f"FID of {how}, with its 95 % interval over images; the runs with seed 0:", ""]
        lines += [*table(rows, epochs), ""]
    return "\n".join(lines)


def longest() -> str:
    """For README.md: FID after as many epochs as in the paper, model × data set, without hand-overs."""
    rows = {key: row[20.0] for key, row in scored("")[PAPERS].items() if 20.0 in row and "after" not in key[1]}
    models = dict.fromkeys(model for _, model in sorted(rows, key=lambda key: place(("", key[1]))))
    lines = [f"| 20 epochs | {' | '.join(TITLES.values())} |", "|---|" + "---:|" * len(TITLES)]
    return "\n".join(
        [*lines, *(f"| {name} | {' | '.join(rows.get((data, name), '') for data in TITLES)} |" for name in models), ""]
    )


PAGES = {ROOT / "docs" / "models.md": all_tables, ROOT / "README.md": longest}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is out of date")
    check, out_of_date = parser.parse_args().check, []
    for path, make in PAGES.items():
        page = path.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        wanted = before + BEGIN + make() + END + rest.partition(END)[2]
        if check and page != wanted:
            out_of_date.append(path.relative_to(ROOT).as_posix())
        elif not check:
            path.write_text(wanted, encoding="utf-8")
    if out_of_date:
        print(f"Out of date: {', '.join(out_of_date)}: run python tools/model_table.py", file=sys.stderr)
    return 1 if out_of_date else 0


if __name__ == "__main__":
    raise SystemExit(main())
