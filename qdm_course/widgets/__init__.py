"""Interactive figures of the notebooks: ipywidgets around the library, nothing trained, nothing plotted twice.

Each function returns an ipywidgets container; put it last in a cell. A picture is drawn once, off screen, and
then only its data change: the container shows it as a PNG whose bytes are replaced, so nothing flickers and no
second copy appears. Controls are those that carry their own label for keyboards and screen readers (Dropdown,
BoundedIntText, Checkbox, Button; a bare slider has none). Every widget has a figure class of its own, for the
static picture that a page without a kernel shows.

A widget's module is loaded when its name is first asked for: a notebook pays only for what it shows.
"""

from importlib import import_module

_MODULE_OF = {
    "ForwardFigure": "forward", "forward_process": "forward",
    "CircuitFigure": "explorer", "circuit_explorer": "explorer",
    "HybridizationFigure": "drawings", "hybridization": "hybrid",
    "TrainingFigure": "training", "TrainingJob": "training", "training_job": "training",
}  # fmt: skip
__all__ = list(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"qdm_course.widgets has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"qdm_course.widgets.{_MODULE_OF[name]}"), name)
