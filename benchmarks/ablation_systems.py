"""Token groups as `ablate.py` trains them: on few scenes that are encoded once, and with parts that nobody ships.

What no configuration can say, because no user would want it, is a subclass of the system, of its model or of its
objective here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.data.example import Example
from tokengroups.encoders import Encoder, Geometry
from tokengroups.encoders.base import SINGLE_VIEW_FEATURES
from tokengroups.farthest_points import farthest_point_sampling
from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import MaskLosses, mask_costs, mask_losses
from tokengroups.postprocess import Step
from tokengroups.systems import save_system
from tokengroups.systems.surface_points import surface_points
from tokengroups.systems.token_groups.anchors import Anchors, take_anchors
from tokengroups.systems.token_groups.model import TokenGroupsOutput
from tokengroups.systems.token_groups.objective import mean_of, render_groups
from tokengroups.systems.token_groups.system import TokenGroups, TokenGroupsSettings
from tokengroups.systems.token_groups_tiny import TokenGroupsTiny, TokenGroupsTinyConfig, TokenGroupTinyModel
from tokengroups.systems.token_groups_tiny.objective import TokenGroupsTinyObjective, anchor_instances, contrastive_loss
from tokengroups.types import Cameras, stack

VOID = 30_000  # above every instance id
GROUP_PARTS = ("group_tokens", "group_decoder.", "assignment.")


class CachedTokenGroups(TokenGroupsTiny):
    """Token groups that encode every scene of the training once."""

    unlabelled = 0.0  # share of the instances whose labels are hidden in training

    def __init__(self, encoder: Encoder, config: TokenGroupsTinyConfig, steps: Sequence[Step] = ()) -> None:
        super().__init__(encoder, config, steps)
        self.cache: dict[bytes, Geometry] = {}  # geometry after the steps before decoding, by photos

    def encode_batch(self, images: Float[Tensor, "B V 3 H W"]) -> Geometry:
        """Geometry of a training batch, from the cache where it is known; no gradients."""
        half = torch.is_autocast_enabled(images.device.type)
        steps = [step for step in self.steps if step.when == "before_decoding"]
        how = f"{self.encoder_source} {half} {steps}".encode()
        keys = [hashlib.sha256(photos.cpu().numpy().tobytes() + how).digest() for photos in images]
        for key, photos in zip(keys, images, strict=True):
            if key not in self.cache:
                self.cache[key] = super().encode_batch(photos[None]).scene(0).to("cpu")
        return stack([self.cache[key] for key in keys]).to(images.device)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write weights of plain token groups: what differs here matters in training alone."""
        plain = TokenGroupsTiny(self.encoder, self.network.config, self.steps)
        save_system(folder, state, plain, self.network.config, self.encoder_source)


class GroupsAlone(CachedTokenGroups):
    """The second stage of the sequential schedule: everything that the first one trained is frozen."""

    @classmethod
    def for_training(cls, settings: TokenGroupsSettings) -> TokenGroups:
        """Build the system, and freeze all but what makes groups."""
        system = super().for_training(settings)
        for name, parameter in system.network.named_parameters():
            parameter.requires_grad_(name.startswith(GROUP_PARTS))
        return system


class DuplicatedAnchors(CachedTokenGroups):
    """The fault of the released model: more anchors than context tokens, filled up with copies of the first one."""

    @staticmethod
    def build_network(config: TokenGroupsTinyConfig, encoder: Encoder) -> TokenGroupTinyModel:
        """The untrained model that fits an encoder."""
        dims = encoder.evidence_dims.get(SINGLE_VIEW_FEATURES, ())
        return _DuplicatingModel(config, encoder.feature_dim, dims)


class _DuplicatingModel(TokenGroupTinyModel):
    """Candidates are the centres of the context patches, however few they are."""

    def sample(self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry, fps_start: int | None) -> Anchors:
        """Sample the anchors of every scene, and copies of the first candidate for those that are missing."""
        patch, count = self.config.context_patch, self.config.anchors_for(images.shape[1])
        candidates = surface_points(images, geometry, patch)
        available = candidates.points.shape[1]
        if fps_start is not None:
            fps_start %= available
        chosen = farthest_point_sampling(candidates.points, min(count, available), fps_start)
        copies = chosen.new_zeros(len(images), max(0, count - available))
        size_hw = (images.shape[-2], images.shape[-1])
        return take_anchors(candidates, torch.cat([chosen, copies], dim=1), size_hw, patch)


class SeparateMatchingObjective(TokenGroupsTinyObjective):
    """Rendered views and anchors matched apart, so that each rule of matching can be changed by itself."""

    per_view = False  # match anew in every rendered view and every photo
    push_down = False  # unlabelled pixels count against every group

    def scene_losses(
        self, output: TokenGroupsOutput, example: Example, cameras: Cameras, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rendering, mask and contrastive losses; LPIPS is left out."""
        weights = self.weights
        rendered = render_groups(output, cameras)
        anchor_ids = anchor_instances(example.context, output.anchor_pixels)
        assert rendered.features is not None
        scenes = zip(
            rendered.features, example.targets.group_ids, output.assignment, anchor_ids,
            output.anchor_pixels[..., 0], strict=True,
        )  # fmt: skip
        on_views, on_anchors = [], []
        for features, ids, assignment, own, photo in scenes:
            on_views += self.view_losses(features, ids)
            on_anchors += self.anchor_losses(assignment, own, photo)
        views, anchors = mean_of(on_views), mean_of(on_anchors)
        contrastive = contrastive_loss(output.anchor_keys, anchor_ids, weights.contrastive)
        mse = (rendered.colors.movedim(-1, 2) - example.targets.images).square().mean()
        segmentation = views.total(weights.masks) + weights.anchors * anchors.total(weights.masks)
        segmentation = segmentation + weights.contrastive * contrastive
        terms = {"mse": mse, "bce": views.bce, "dice": views.dice, "anchor_bce": anchors.bce}
        terms |= {"anchor_dice": anchors.dice, "contrastive": contrastive}
        return weights.rendering * mse + weights.segmentation_at(step) * segmentation, terms

    def view_losses(self, probabilities: Float[Tensor, "V H W L"], ids: Int64[Tensor, "V H W"]) -> list[MaskLosses]:
        """Mask losses on the rendered views of one scene: on all together, or view by view."""
        if not self.per_view:
            return [self.matched(probabilities, ids)]
        return [self.matched(probabilities[view, None], ids[view, None]) for view in range(len(ids))]

    def anchor_losses(
        self, assignment: Float[Tensor, "K L"], ids: Int64[Tensor, " K"], photo: Int64[Tensor, " K"]
    ) -> list[MaskLosses]:
        """Mask losses on the anchors of one scene: on all together, or photo by photo."""
        chosen = [photo == each for each in photo.unique()] if self.per_view else [photo >= 0]
        return [self.matched(assignment[own][None, :, None], ids[own][None, :, None]) for own in chosen]

    def matched(self, probabilities: Float[Tensor, "V H W L"], ids: Int64[Tensor, "V H W"]) -> MaskLosses:
        """Match, then compare; what is pushed down is an instance that no group can be matched to."""
        weights = self.weights.masks
        pushed = self.push_down and bool((ids < 0).any())
        if pushed:
            ids = torch.where(ids < 0, VOID, ids)
        cost = mask_costs(probabilities, ids, weights)
        return mask_losses(probabilities, ids, *match_groups(cost[:, :-1] if pushed else cost))


class PerViewObjective(SeparateMatchingObjective):
    """A group may name another instance in another view."""

    per_view = True


class PushDownObjective(SeparateMatchingObjective):
    """Unlabelled pixels count against every group."""

    push_down = True


class SeparateMatching(CachedTokenGroups):
    """Rendered views and anchors matched apart."""

    objective_class = SeparateMatchingObjective


class PerViewMatching(CachedTokenGroups):
    """Matched apart, and anew in every view."""

    objective_class = PerViewObjective


class UnlabelledIgnored(SeparateMatching):
    """Three instances in ten have no label."""

    unlabelled = 0.3


class UnlabelledPushedDown(UnlabelledIgnored):
    """And their pixels count against every group."""

    objective_class = PushDownObjective
