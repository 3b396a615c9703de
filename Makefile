# make demo: train, draw and score.  make test: lint and tests.  make lab: JupyterLab.  make app: a widget as a web page.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SHARED := $(wildcard ../shared/data)
# after a short spin, waiting threads give up their core to other programs
export GOMP_SPINCOUNT ?= 20000
export QDM_DATA_DIR ?= $(if $(SHARED),$(abspath $(SHARED)),)

.PHONY: demo test lab app notebooks clean

demo: $(VENV)/user
	$(BIN)/python -m qdm_lib demo

lab: $(VENV)/user
	$(BIN)/jupyter lab notebooks

app: $(VENV)/user
	$(BIN)/voila app/hybridization.ipynb

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/test_notebooks_run.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/test_notebooks_run.py

notebooks: $(VENV)/dev
	$(BIN)/python tools/build_notebooks.py

$(VENV)/user: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

$(VENV)/dev: $(VENV)/user requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV)
