# make setup | demo | docs | test | test-portable | test-slow | fuzz | weights | lint | clean
# You need Python >= 3.11 with pip. All else is installed into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: setup demo docs test test-portable test-slow fuzz weights lint clean

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

# Write the API reference, which opens offline. Every module is named, because pdoc hides modules that a package's __all__ leaves
# out. The ignored warnings are about modules that it finds twice, and inherited fields, whose types it looks up in the wrong module.
DOCUMENTED := $(filter-out tokengroups/cli/% %__main__.py,$(shell find tokengroups -name '*.py' | LC_ALL=C sort))
docs: setup
	@$(BIN)/python -W "ignore:The module specification" -W "ignore:Error parsing type annotation" \
	  -m pdoc --docformat google --template-directory docs/reference -o out/docs \
	  $(subst /,.,$(patsubst %/__init__,%,$(basename $(DOCUMENTED))))
	@echo "open out/docs/index.html"

# Two workers with one thread each are faster than one worker with two threads.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(PYTEST_ARGS)

# Run the numerical tests again, with PyTorch's kernels for processors without vector instructions, which add in another order. This
# shows results that depend on the last bit. Tests that start programs or train for long are left out.
NOT_PORTABLE := $(addprefix tests/test_,ablations.py benchmarks.py cli_% docs.py extending.py packaging.py results_log.py shipped_recipe.py tour.py \
  training%)
test-portable: setup
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(PYTEST_ARGS) \
	  $(filter-out $(NOT_PORTABLE),$(wildcard tests/test_*.py))

test-slow: setup
	$(BIN)/python -m pytest -m slow -q $(PYTEST_ARGS)

# The fuzz tests of `make test` with twenty times as many cases, drawn anew every time.
fuzz: setup
	FUZZ_FACTOR=20 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q $(PYTEST_ARGS) $(wildcard tests/test_fuzz_*.py)

# Train weights of the shipped kind from random initialisation: one configuration file per stage, about ten hours on 2 cores.
# A stopped stage continues and a finished one is skipped. TRAIN_ARGS is added to every stage.
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
