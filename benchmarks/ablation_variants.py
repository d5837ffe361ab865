"""What `ablate.py` compares: the paper's training schedules, our differences to the paper, and sizes.

A variant is one or two stages of training with changes to the configuration. What no configuration can say, because no
user would want it, is a subclass of the task here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from tokengroups.systems.token_groups.decoder import TokenGroupDecoder, TokenGroupsOutput
from tokengroups.training.tasks.token_groups import TokenGroupsExperiment, TokenGroupsTask
from torch import Tensor

from tokengroups.data.example import Example
from tokengroups.data.stream import ExampleStream
from tokengroups.farthest_points import farthest_point_sampling
from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import MaskLosses, mask_costs, mask_losses
from tokengroups.systems.token_groups.context import AnchorCandidates, FrozenGeometry, anchor_candidates
from tokengroups.systems.token_groups.objective import (
    TokenGroupsLosses,
    anchor_instances,
    contrastive_loss,
    render_groups,
)
from tokengroups.systems.token_groups.system import encoder_feature_dim
from tokengroups.systems.token_groups_tiny.single_view_features import photo_feature_dims
from tokengroups.types import Cameras, Views

VOID = 30_000  # above every instance id
GROUP_PARTS = ("group_tokens", "group_decoder.", "group_key.", "anchor_key.", "log_temperature")


class FixedScenes(ExampleStream):
    """A fixed number of scenes: all of them come once before any comes again."""

    def __init__(self, experiment: TokenGroupsExperiment, num_scenes: int, unlabelled: float) -> None:
        training = experiment.training
        super().__init__(experiment.data, training.seed, training.batch_size)
        self.num_scenes, self.unlabelled = num_scenes, unlabelled

    def example(self, step: int, slot: int) -> Example:
        """One scene, without the labels of some instances."""
        number = (step * self.batch_size + slot) % self.num_scenes
        scene = super().example(0, number)
        ids = scene.targets.group_ids.unique()
        rng = np.random.default_rng([VOID, self.seed, number])
        hidden = ids[torch.from_numpy(rng.random(len(ids)) < self.unlabelled)]
        return replace(scene, context=hide(scene.context, hidden), targets=hide(scene.targets, hidden))


class AblationTask(TokenGroupsTask):
    """Token groups trained on a fixed number of scenes; the frozen encoder sees each of them once.

    Args:
        experiment: As for `TokenGroupsTask`.
        num_scenes: Distinct training scenes.
        remembered: The encoder's answers so far, shared by the runs of one process.
    """

    unlabelled = 0.0  # share of the instances whose labels are hidden in training

    def __init__(
        self, experiment: TokenGroupsExperiment, num_scenes: int, remembered: dict[bytes, FrozenGeometry]
    ) -> None:
        super().__init__(experiment)
        self.examples = FixedScenes(experiment, num_scenes, self.unlabelled)
        encode, encoder_name = self.groups.encode, experiment.encoder.encode()

        def remembering(
            images: Float[Tensor, "B V 3 H W"], intrinsics: Tensor | None = None
        ) -> FrozenGeometry:
            assert intrinsics is None
            mode = b"half" if torch.is_autocast_enabled(images.device.type) else b"full"
            keys = [
                hashlib.sha256(scene.cpu().numpy().tobytes() + encoder_name + mode).digest()
                for scene in images
            ]
            for key, scene in zip(keys, images, strict=True):
                if key not in remembered:
                    remembered[key] = encode(scene[None]).to("cpu")
            return stack([remembered[key] for key in keys]).to(images.device)

        self.groups.encode = remembering

    def evaluate(self) -> dict[str, float]:
        """Nothing: `ablate.py` measures once, at the end."""
        return {}


class GroupsAlone(AblationTask):
    """The second stage of the sequential schedule: everything that the first one trained is frozen."""

    def __init__(self, experiment: TokenGroupsExperiment, *args: Any) -> None:
        super().__init__(experiment, *args)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(GROUP_PARTS))


class DuplicatedAnchors(AblationTask):
    """The fault of the released model: more anchors than context tokens, filled up with copies of the first one."""

    def __init__(self, experiment: TokenGroupsExperiment, *args: Any) -> None:
        super().__init__(experiment, *args)
        torch.manual_seed(experiment.training.seed)
        encoder = self.groups.encoder.config
        self.model = self.groups.decoder = _DuplicatingDecoder(
            experiment.model, encoder_feature_dim(encoder), photo_feature_dims(encoder)
        )


class _DuplicatingDecoder(TokenGroupDecoder):
    """Candidates are the centres of the context patches, however few they are."""

    def _candidates(self, images: Tensor, geometry: FrozenGeometry) -> AnchorCandidates:
        patch = self.config.context_patch
        return anchor_candidates(images, geometry, patch, patch)

    def _sample(
        self, points: Float[Tensor, "B M 3"], count: int, first_anchor: int | None
    ) -> Int64[Tensor, "B K"]:
        missing = count - points.shape[1]
        chosen = farthest_point_sampling(points, min(count, points.shape[1]), first_anchor)
        return torch.cat([chosen, chosen.new_zeros(len(points), max(0, missing))], dim=1)


class SeparateMatching(AblationTask):
    """Rendered views and anchors matched apart, so that each rule of matching can be changed by itself."""

    per_view = False  # match anew in every rendered view and every photo
    push_down = False  # unlabelled pixels count against every group

    def _scene_losses(
        self, batch: Example, output: TokenGroupsOutput, cameras: Cameras, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self.experiment.losses
        rendered = render_groups(output, cameras)
        photos = rendered.colors.movedim(-1, 2)
        anchor_ids = anchor_instances(batch.context, output.anchor_pixels)
        assert rendered.features is not None
        on_views, on_anchors = [], []
        for scene, features in enumerate(rendered.features):
            ids, own = batch.targets.group_ids[scene], anchor_ids[scene]
            for views in [[v] for v in range(len(ids))] if self.per_view else [range(len(ids))]:
                on_views.append(self.matched(features[list(views)], ids[list(views)]))
            photo = output.anchor_pixels[scene, :, 0]
            for chosen in [photo == p for p in photo.unique()] if self.per_view else [photo >= 0]:
                on_anchors.append(
                    self.matched(output.assignment[scene, chosen][None, :, None], own[chosen][None, :, None])
                )
        losses = TokenGroupsLosses(
            mse=(photos - batch.targets.images).square().mean(),
            lpips=photos.sum() * 0,
            bce=torch.stack([part.bce for part in on_views]).mean(),
            dice=torch.stack([part.dice for part in on_views]).mean(),
            anchor_bce=torch.stack([part.bce for part in on_anchors]).mean(),
            anchor_dice=torch.stack([part.dice for part in on_anchors]).mean(),
            contrastive=contrastive_loss(output.anchor_keys, anchor_ids, weights),
        )
        return losses.total(weights, step), losses.named()

    def matched(self, probabilities: Float[Tensor, "V H W L"], ids: Int64[Tensor, "V H W"]) -> MaskLosses:
        """Match, then compare; what is pushed down is an instance that no group can be matched to."""
        weights = self.experiment.losses.masks
        pushed = self.push_down and bool((ids < 0).any())
        if pushed:
            ids = torch.where(ids < 0, VOID, ids)
        cost = mask_costs(probabilities, ids, weights)
        return mask_losses(probabilities, ids, *match_groups(cost[:, :-1] if pushed else cost))


class PerViewMatching(SeparateMatching):
    """A group may name another instance in another view."""

    per_view = True


class UnlabelledIgnored(SeparateMatching):
    """Three instances in ten have no label."""

    unlabelled = 0.3


class UnlabelledPushedDown(UnlabelledIgnored):
    """And their pixels count against every group."""

    push_down = True


def hide(views: Views, ids: Int64[Tensor, " M"]) -> Views:
    """The views with some instances unlabelled."""
    return replace(views, group_ids=torch.where(torch.isin(views.group_ids, ids), -1, views.group_ids))


def stack(geometries: Sequence[FrozenGeometry]) -> FrozenGeometry:
    """Answers of the encoder for one scene each as a batch."""
    cameras = [geometry.cameras for geometry in geometries]
    return FrozenGeometry(
        *(
            torch.cat([getattr(geometry, name) for geometry in geometries])
            for name in ("features", "points", "depth", "confidence")
        ),
        cameras=Cameras(
            torch.cat([camera.cam_from_world for camera in cameras]),
            torch.cat([camera.intrinsics for camera in cameras]),
            cameras[0].size_hw,
        ),
        photo_features=tuple(
            map(torch.cat, zip(*(geometry.photo_features for geometry in geometries), strict=True))
        ),
    )


@dataclass(frozen=True)
class Stage:
    """A part of a variant's training."""

    steps: float = 1.0  # share of the steps of a run
    overrides: tuple[str, ...] = ()
    task: type[AblationTask] = AblationTask


@dataclass(frozen=True)
class Variant:
    """One row of a table."""

    overrides: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = field(default_factory=lambda: (Stage(),))


def one(*overrides: str, task: type[AblationTask] = AblationTask) -> Variant:
    """A variant of a single stage."""
    return Variant(overrides, (Stage(task=task),))


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
        "512 anchors and 512 copies": one(task=DuplicatedAnchors),
        "512 anchors": one("model.num_anchors=512", "model.anchor_stride=8"),
        "offsets within 10 cm": one("model.offset_unit=points", "model.offset_bound=0.035"),
        "no contrastive loss": one("losses.contrastive=0"),
        "masks on renderings alone": one("losses.contrastive=0", "losses.anchors=0"),
        "anchors matched apart": one(task=SeparateMatching),
        "matched per view": one(task=PerViewMatching),
        "30 % unlabelled, ignored": one(task=UnlabelledIgnored),
        "30 % unlabelled, pushed down": one(task=UnlabelledPushedDown),
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
