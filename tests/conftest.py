"""The order of the files: those of few and long tests begin, so that no worker is left alone with them at the end."""

LONG = ("warm", "browser", "site", "labs_nbgrader", "package", "benchmarks", "evaluation", "experiments")


def pytest_collection_modifyitems(items):
    """Workers of pytest-xdist take files in this order (`--no-loadscope-reorder`)."""
    place = {f"test_{name}": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
