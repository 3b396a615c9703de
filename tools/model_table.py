"""Write the table of shipped models in docs/models.md from their cards.

    python tools/model_table.py            # writes it
    python tools/model_table.py --check    # exit code 1 if it is not up to date

One table for each way of scoring: models are compared inside a table only, and only inside a column, where all have
been trained equally long. An empty field says that nobody has trained that model so long.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from qdm_course.widgets.evidence import handed_over

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- begin: models (tools/model_table.py) -->\n", "<!-- end: models -->\n"


def cards() -> list[tuple[str, dict]]:
    """(folder's name such as fashion-mnist/unet-10-epochs, card) of every shipped model."""
    found = sorted(ROOT.glob("checkpoints/*/*/model.json"))
    return [
        (f"{p.parent.parent.name}/{p.parent.name}", json.loads(p.read_text(encoding="utf-8"))["card"]) for p in found
    ]


def row_of(name: str, card: dict) -> str:
    """What a row is called: the preset, and how it was made where that is more than training it."""
    ending = name.partition("/")[2].removeprefix(card["preset"])
    if ending.startswith("-transfer"):
        first = handed_over(ROOT / "checkpoints" / name).partition(",")[0]  # 18 epochs as unet
        return f"`{card['preset']}`, handed over after {first}"
    return f"`{card['preset']}`" + (", zeros for circuits" if ending.startswith("-zero") else "")


def field(name: str, card: dict) -> str:
    """FID with its interval, linked to the card."""
    fid = card["scores"]["scores"]["fid"]
    return f"[{fid['value']:.1f} ({fid['low']:.1f} to {fid['high']:.1f})](../checkpoints/{name}/README.md)"


def table(rows: dict[tuple[str, str], dict[float, str]], epochs: Iterable[float]) -> list[str]:
    """Lines of a Markdown table: data set × model × epochs."""
    epochs = sorted(epochs)
    lines = ["| data set | model | " + " | ".join(f"{e:g} epoch{'s' * (e != 1)}" for e in epochs) + " |",
             "|---|---|" + "---:|" * len(epochs)]  # fmt: skip
    order = {name: k for k, name in enumerate(("unet", "1hqconv", "7hqconv", "fullhqconv", "1fqconv", "7fqconv"))}
    for dataset, model in sorted(
        rows, key=lambda key: (key[0], "," in key[1], order.get(key[1].split("`")[1], 9), key)
    ):
        fields = [rows[dataset, model].get(e, "") for e in epochs]
        lines.append(f"| {dataset} | {model} | " + " | ".join(fields) + " |")
    return lines


def text() -> str:
    """All tables, the most images first."""
    groups: dict[tuple, dict] = defaultdict(lambda: defaultdict(dict))
    for name, card in cards():
        scored = card["scores"]
        if not isinstance(scored, dict):  # shipped without scores
            continue
        key = (-scored["scores"]["fid"]["n"], scored["sampler"].upper(), scored["sampler_steps"])
        groups[key][card["dataset"], row_of(name, card)][card["epochs"]] = field(name, card)
    lines = []
    for (n, sampler, steps), rows in sorted(groups.items()):
        epochs = {e for row in rows.values() for e in row}
        lines += [f"FID of {-n:,} images drawn by {sampler} in {steps} steps, with its 95 % interval over images:", ""]
        lines += [*table(rows, epochs), ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is out of date")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = before + BEGIN + text() + END + after
    if check and page != wanted:
        print("docs/models.md is out of date: run python tools/model_table.py", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
