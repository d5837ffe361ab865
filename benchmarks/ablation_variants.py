"""Rows of the tables of `ablate.py`: the paper's training schedules, our differences to the paper, and sizes.

A variant is one or two stages of training with changes to the configuration, and a system of ablation_systems.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ablation_systems import (
    CachedTokenGroups,
    DuplicatedAnchors,
    GroupsAlone,
    PerViewMatching,
    SeparateMatching,
    UnlabelledIgnored,
    UnlabelledPushedDown,
)


@dataclass(frozen=True)
class Stage:
    """A part of a variant's training."""

    steps: float = 1.0  # share of the steps of a run
    overrides: tuple[str, ...] = ()
    system: type[CachedTokenGroups] = CachedTokenGroups


@dataclass(frozen=True)
class Variant:
    """One row of a table."""

    overrides: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = field(default_factory=lambda: (Stage(),))


def one(*overrides: str, system: type[CachedTokenGroups] = CachedTokenGroups) -> Variant:
    """A variant of a single stage."""
    return Variant(overrides, (Stage(system=system),))


def sequential(steps: float) -> Variant:
    """Rendering alone, then group decoder and keys alone, each with a share of the steps."""
    without_masks = ("losses.segmentation=0",)
    with_masks = ("losses.segmentation_warmup_steps=0",)
    return Variant(stages=(Stage(steps, without_masks), Stage(steps, with_masks, GroupsAlone)))


# The first row of a set is what the others are compared with.
SETS: dict[str, dict[str, Variant]] = {
    "training": {
        "joint": Variant(),
        "without warm-up": one("losses.segmentation_warmup_steps=0"),
        "sequential": sequential(0.5),
        "sequential, twice as long": sequential(1.0),
    },
    "differences": {
        "as shipped": Variant(),
        "512 anchors and 512 copies": one(system=DuplicatedAnchors),
        "512 anchors": one("model.num_anchors=512", "model.anchor_stride=8"),
        "offsets within 10 cm": one("model.offset_unit=points", "model.offset_bound=0.035"),
        "no contrastive loss": one("losses.contrastive=0"),
        "masks on renderings alone": one("losses.contrastive=0", "losses.anchors=0"),
        "anchors matched apart": one(system=SeparateMatching),
        "matched per view": one(system=PerViewMatching),
        "30 % unlabelled, ignored": one(system=UnlabelledIgnored),
        "30 % unlabelled, pushed down": one(system=UnlabelledPushedDown),
        "AdamW": one("training.optimizer=adamw"),
    },
    "sizes": {
        "as shipped": Variant(),
        "512 anchors": one("model.num_anchors=512"),
        "2048 anchors": one("model.num_anchors=2048"),
        "4 Gaussians an anchor": one("model.gaussians_per_anchor=4"),
        "16 Gaussians an anchor": one("model.gaussians_per_anchor=16"),
        "16 groups": one("model.num_groups=16"),
        "100 groups": one("model.num_groups=100"),
        "1 and 1 layers": one("model.anchor_layers=1", "model.group_layers=1"),
        "4 and 6 layers": one("model.anchor_layers=4", "model.group_layers=6"),
    },
}
