# make demo: train, draw and score.  make test: lint and tests.  make lab: JupyterLab, on a copy.  make app: a widget as a web page.
# make site: the website, in _site/.  make notebooks: run them all and store what they show.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SHARED := $(wildcard ../shared/data)
# after a short spin, waiting threads give up their core to other programs
export GOMP_SPINCOUNT ?= 20000
export QDM_DATA_DIR ?= $(if $(SHARED),$(abspath $(SHARED)),)

.PHONY: demo test lab app site notebooks clean

demo: $(VENV)/user
	$(BIN)/python -m qdm_lib demo

lab: $(VENV)/user
	$(BIN)/python tools/lab.py
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/work/00_welcome.ipynb

app: $(VENV)/user
	$(BIN)/voila app/hybridization.ipynb

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/test_notebooks_run.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --maxschedchunk=1 tests/test_notebooks_run.py

site: $(VENV)/dev
	$(BIN)/python tools/build_site.py

notebooks: $(VENV)/dev
	$(BIN)/python tools/build_notebooks.py

# prints the version, such as 3.12, and fails where it is too old
VERSION := import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))

# The version is looked at before anything is made; a .venv of another version than $(PYTHON) is made anew.
$(VENV)/user: requirements.txt pyproject.toml
	@$(PYTHON) -c '$(VERSION)' >/dev/null || { echo "This needs Python 3.11 or newer, and $(PYTHON) is" \
	  "$$($(PYTHON) --version 2>&1). Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test "$$($(BIN)/python -c '$(VERSION)' 2>/dev/null)" = "$$($(PYTHON) -c '$(VERSION)')" || rm -rf $(VENV)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/dev: $(VENV)/user requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV)
