# make setup | demo | test | test-slow | weights | lint | clean     Python >= 3.11 with pip is all it needs; the rest goes into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: setup demo test test-slow weights lint clean

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

# Two workers of one thread each beat one of two, and do not fight over the cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(PYTEST_ARGS)

test-slow: setup
	$(BIN)/python -m pytest -m slow -q $(PYTEST_ARGS)

# From seed to weights: the encoder, the encoder with varied focal lengths, its perspective network on two sets of rooms, then on
# both, then on two more with details of objects, groups without and with rendering. Some ten hours on 2 cores; a stage that was
# stopped goes on, a finished one is skipped.
# TRAIN_ARGS is added to every stage.
TORCHRUN := OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc_per_node 2 train.py
TRAIN_ARGS ?=
weights: setup
	$(TORCHRUN) configs/vggt_tiny.yaml $(TRAIN_ARGS)
	$(TORCHRUN) configs/vggt_tiny.yaml start_from=out/vggt_tiny/weights training.output=out/vggt_tiny_zoom \
	  data.num_rooms=8000 data.zoom=1.35 training.steps=5200 training.learning_rate=5e-4 training.seed=3 $(TRAIN_ARGS)
	$(TORCHRUN) configs/vggt_tiny_perspective.yaml encoder=out/vggt_tiny_zoom/weights $(TRAIN_ARGS)
	$(TORCHRUN) configs/vggt_tiny_perspective.yaml encoder=out/vggt_tiny_perspective/weights go_on=true \
	  training.output=out/vggt_tiny_perspective_2 data.seed=7 data.num_rooms=6140 training.steps=3200 \
	  training.final_fraction=0.01 training.warmup_steps=50 training.seed=2 $(TRAIN_ARGS)
	$(TORCHRUN) configs/vggt_tiny_perspective.yaml encoder=out/vggt_tiny_perspective_2/weights go_on=true \
	  training.output=out/vggt_tiny_perspective_3 data.num_rooms=6140 data.more_seeds=[7] data.turn=10 training.steps=4500 \
	  training.final_fraction=0.005 training.warmup_steps=100 training.seed=5 $(TRAIN_ARGS)
	$(TORCHRUN) configs/vggt_tiny_perspective.yaml encoder=out/vggt_tiny_perspective_3/weights go_on=true model.details=48 \
	  training.output=out/vggt_tiny_perspective_4 data.seed=11 data.num_rooms=6200 data.turn=10 training.steps=2200 \
	  training.final_fraction=0.005 training.warmup_steps=100 training.seed=6 $(TRAIN_ARGS)
	$(TORCHRUN) configs/vggt_tiny_perspective.yaml encoder=out/vggt_tiny_perspective_4/weights go_on=true \
	  training.output=out/vggt_tiny_perspective_5 data.seed=13 data.num_rooms=4500 data.num_views=9 data.turn=10 \
	  training.steps=1800 training.final_fraction=0.005 training.warmup_steps=100 training.seed=7 $(TRAIN_ARGS)
	$(TORCHRUN) configs/token_groups_tiny_anchors.yaml encoder=out/vggt_tiny_perspective_5/weights data.seed=12 $(TRAIN_ARGS)
	$(TORCHRUN) configs/token_groups_tiny.yaml encoder=out/vggt_tiny_perspective_5/weights data.seed=12 \
	  start_from=out/token_groups_tiny_anchors/weights losses.segmentation_warmup_steps=0 \
	  losses.distillation=1 semantics.views=2 $(TRAIN_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
