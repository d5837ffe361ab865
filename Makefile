# make setup | demo | docs | test | test-portable | test-slow | weights | lint | clean     Python >= 3.11 with pip is all it needs; the rest goes into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: setup demo docs test test-portable test-slow weights lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(wildcard setup.py)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: tokengroups needs Python >= 3.11, this is " \
	  + sys.version.split()[0] + "; name another one: make PYTHON=python3.12")'
	@echo "setting up $(VENV): some minutes the first time, most of them for torch"
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/tokengroups demo --out out/demo

# The API reference; opens offline. Every module is named: pdoc hides those that a package's __all__ leaves out, and warns
# of those that it finds twice. It also warns of inherited fields, whose types it looks for in the wrong module.
DOCUMENTED := $(filter-out tokengroups/cli/% %__main__.py,$(shell find tokengroups -name '*.py' | LC_ALL=C sort))
docs: setup
	@$(BIN)/python -W "ignore:The module specification" -W "ignore:Error parsing type annotation" \
	  -m pdoc --docformat google --template-directory docs/reference -o out/docs \
	  $(subst /,.,$(patsubst %/__init__,%,$(basename $(DOCUMENTED))))
	@echo "open out/docs/index.html"

# Two workers of one thread each beat one of two, and do not fight over the cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(PYTEST_ARGS)

# The tests of numbers again, with PyTorch's sums in the order of a processor without vector instructions: a result that hangs
# on the last bit shows. Left out is what starts programs or trains for long.
NOT_PORTABLE := $(addprefix tests/test_,ablations.py benchmarks.py cli_% packaging.py results_log.py shipped_recipe.py training%)
test-portable: setup
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(PYTEST_ARGS) \
	  $(filter-out $(NOT_PORTABLE),$(wildcard tests/test_*.py))

test-slow: setup
	$(BIN)/python -m pytest -m slow -q $(PYTEST_ARGS)

# From seed to weights of the shipped kind: one file a stage. Some ten hours on 2 cores; a stage that was stopped goes on, a
# finished one is skipped. TRAIN_ARGS is added to every stage.
TORCHRUN := OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc_per_node 2 train.py
TRAIN_ARGS ?=
weights: setup
	for stage in configs/shipped/*.yaml; do $(TORCHRUN) $$stage $(TRAIN_ARGS) || exit; done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
