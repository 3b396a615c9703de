"""axe-core, which checks pages for readers who do not see or do not point, as the browser tests use it."""

import importlib.util
from pathlib import Path

import pytest

FOUND = importlib.util.find_spec("axe_core_python")  # brings axe.min.js
needs_axe = pytest.mark.skipif(FOUND is None, reason="axe-core-python is not installed")
# The colours of code and prompts are those of JupyterLab and of the site's theme, not ours.
NOT_OURS = [[".highlight"], [".jp-InputPrompt"], [".jp-OutputPrompt"], [".jp-Editor"]]


def serious(page, within: str | None = None) -> list[str]:
    """axe's serious and critical findings on a page, or in the parts of it that a selector names."""
    page.evaluate((Path(FOUND.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    context = {"exclude": NOT_OURS} | ({"include": [[within]]} if within else {})
    result = page.evaluate("context => axe.run(context, {resultTypes: ['violations']})", context)
    return [
        f"{v['impact']} {v['id']}: {len(v['nodes'])}, {v['nodes'][0]['html'][:200]}"
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
    ]
