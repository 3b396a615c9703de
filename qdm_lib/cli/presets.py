"""The table of the command presets: every model of the paper, built and counted."""

from __future__ import annotations


def preset_table() -> list[str]:
    """The lines of the command presets: every model is built and counted."""
    from qdm_lib import paper
    from qdm_lib.unet import PRESETS, build_unet, count_parameters

    counts = {name: count_parameters(build_unet(name, seed=0)) for name in PRESETS}
    paper_reading = count_parameters(build_unet("quanv-hqconv", seed=0, paper_count=True))
    rows = [("preset", "parameters", "paper", "vs unet", "hybridization (channels that circuits process)")]
    for name, count in counts.items():
        stated = f"{paper.COUNTS[name]:,}" if name in paper.COUNTS else "–"
        change = f"{(count / counts['unet'] - 1) * 100:+.2f} %" if name != "unet" else ""
        mark = "*" if name == "quanv-hqconv" else ""
        rows.append((name + mark, f"{count:,}", stated, change, _hybridization_text(PRESETS[name])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers, text in rows:
        cells = [name.ljust(widths[0])] + [x.rjust(w) for x, w in zip(numbers, widths[1:], strict=False)]
        lines.append("  ".join([*cells, text]))
    return [
        *lines,
        "",
        f"* quanv-hqconv is the structure of the released code, {counts['quanv-hqconv']:,} parameters. "
        f"The paper states {paper.COUNTS['quanv-hqconv']:,};",
        f"  build_unet('quanv-hqconv', paper_count=True) is the reading that has {paper_reading:,}: one single-layer "
        "circuit",
        "  for each block, shared by its two convolutions, and remaining convolutions that see all 10 channels.",
    ]


def _hybridization_text(config) -> str:
    """The hybridization of a preset, short enough for a table."""
    if not config.n_circuits:
        return "none"
    circuits = f"{config.n_circuits} {config.ansatz}{' + 1 basic' if config.full else ''}"
    text = f"{config.quantum_channels / 40:.1%} of the vertex: {circuits}"
    return f"{text}; 3 of 10 at 14×14" if config.quanv else text
