"""The recipe of the shipped weights: eleven files that say what eleven long commands would say without includes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tokengroups.config import apply_overrides, read_yaml
from tokengroups.training.experiments import read_experiment

ROOT = Path(__file__).parents[1]
STAGES = sorted((ROOT / "configs" / "shipped").glob("*.yaml"))
# The arguments of train.py in their order, with the present names of the settings.
COMMANDS = (
    "vggt_tiny.yaml",
    "vggt_tiny.yaml start_from=out/vggt_tiny/weights training.output=out/vggt_tiny_zoom "
    "data.options.num_rooms=8000 data.zoom=1.35 training.steps=5200 training.learning_rate=5e-4 training.seed=3",
    "vggt_tiny_single_view.yaml encoder=out/vggt_tiny_zoom/weights",
    "vggt_tiny_single_view.yaml encoder=out/vggt_tiny_single_view/weights resume_network=true "
    "training.output=out/vggt_tiny_single_view_2 data.options.seeds=[7] data.options.num_rooms=6140 "
    "training.steps=3200 training.final_fraction=0.01 training.warmup_steps=50 training.seed=2",
    "vggt_tiny_single_view.yaml encoder=out/vggt_tiny_single_view_2/weights resume_network=true "
    "training.output=out/vggt_tiny_single_view_3 data.options.num_rooms=6140 data.options.seeds=[0,7] "
    "data.turn=10 training.steps=4500 training.final_fraction=0.005 training.warmup_steps=100 training.seed=5",
    "vggt_tiny_single_view.yaml encoder=out/vggt_tiny_single_view_3/weights resume_network=true model.details=48 "
    "training.output=out/vggt_tiny_single_view_4 data.options.seeds=[11] data.options.num_rooms=6200 data.turn=10 "
    "training.steps=2200 training.final_fraction=0.005 training.warmup_steps=100 training.seed=6",
    "vggt_tiny_single_view.yaml encoder=out/vggt_tiny_single_view_4/weights resume_network=true "
    "training.output=out/vggt_tiny_single_view_5 data.options.seeds=[13] data.options.num_rooms=4500 "
    "data.num_frames=9 data.turn=10 training.steps=1800 training.final_fraction=0.005 training.warmup_steps=100 "
    "training.seed=7",
    "token_groups_tiny_anchors.yaml encoder=out/vggt_tiny_single_view_5/weights data.options.seeds=[12]",
    "token_groups_tiny.yaml encoder=out/vggt_tiny_single_view_5/weights data.options.seeds=[12] "
    "start_from=out/token_groups_tiny_anchors/weights losses.segmentation_warmup_steps=0 losses.distillation=1 "
    "semantics.views=2",
    "iggt_tiny.yaml encoder=out/vggt_tiny_single_view_5/weights",
    "segvggt_tiny.yaml encoder=out/vggt_tiny_single_view_5/weights",
)


@pytest.mark.parametrize(
    ("stage", "command"), list(zip(STAGES, COMMANDS, strict=True)), ids=[stage.stem for stage in STAGES]
)
def test_every_stage_is_its_command(stage: Path, command: str) -> None:
    name, *overrides = command.split()
    assert read_yaml(stage) == apply_overrides(read_yaml(ROOT / "configs" / name), overrides)


def test_every_stage_starts_from_what_an_earlier_one_wrote() -> None:
    written: set[str] = set()
    for stage in STAGES:
        values = read_yaml(stage)
        needed = {values[key] for key in ("start_from", "encoder") if key in values}
        assert needed <= written and (needed or stage is STAGES[0])
        experiment = read_experiment(stage).config
        assert str(experiment.training.output) == values["training"]["output"]
        written.add(f"{values['training']['output']}/weights")
    assert len(written) == len(STAGES)


def test_the_makefile_runs_the_stages_and_changes_nothing() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (recipe,) = re.findall(r"^weights:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert "configs/shipped/*.yaml" in recipe
    assert not re.search(r"[a-z_]=", recipe.replace("TRAIN_ARGS", "")), recipe
