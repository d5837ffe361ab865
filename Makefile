# make setup | demo | test | test-slow | lint     Needs Python >= 3.11 with pip; everything else goes into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done

# A checkout without a compiler still works: the C++ kernel is optional (see README, "Runtime").
SOURCES := pyproject.toml constraints.txt $(wildcard setup.py) $(wildcard tokengroups/render/csrc/*)

.PHONY: setup demo test test-slow lint clean

setup: $(STAMP)

$(STAMP): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tokengroups needs Python >= 3.11; this is " \
	  + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 setup")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/tokengroups demo --out out/demo

# Two one-thread workers beat one two-thread run, and leave nothing to fight over the cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(PYTEST_ARGS)

test-slow: setup
	$(BIN)/python -m pytest -m slow -q $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
