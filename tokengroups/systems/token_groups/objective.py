"""The training objective of token groups: rendering, Hungarian-matched masks with a warm-up, and distillation.

L = L_mse + lambda_lpips L_lpips + lambda_seg(step) (lambda_bce L_bce + lambda_dice L_dice) + lambda_distill L_distill
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.bounds import CountOrZero, Settings, Weight
from tokengroups.data.example import Example
from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import MaskLosses, MaskLossWeights, mask_costs, mask_losses
from tokengroups.losses.terms import LossTerms
from tokengroups.render import RenderOutput, render
from tokengroups.systems.token_groups.distillation import distillation_losses
from tokengroups.systems.token_groups.model import TokenGroupsOutput
from tokengroups.text.teachers import SemanticsConfig, Teacher
from tokengroups.types import Cameras

PerceptualLoss = Callable[[Float[Tensor, "M 3 H W"], Float[Tensor, "M 3 H W"]], Float[Tensor, " M"]]


@dataclass(frozen=True)
class TokenGroupsLossWeights(Settings):
    """Weights of the objective; the paper publishes the warm-up only."""

    lpips: Weight = 0.05
    segmentation: Weight = 0.05  # lambda_seg
    segmentation_warmup_steps: CountOrZero = 1500  # linear
    distillation: Weight = 0.0
    masks: MaskLossWeights = field(default_factory=MaskLossWeights)

    def segmentation_at(self, step: int) -> float:
        """lambda_seg at a step: rises linearly to its value over the warm-up."""
        if self.segmentation_warmup_steps == 0:
            return self.segmentation
        return self.segmentation * min(1.0, step / self.segmentation_warmup_steps)


@dataclass
class TokenGroupsObjective:
    """Comparison of decoded token groups with the target views of an example."""

    weights: TokenGroupsLossWeights
    perceptual: PerceptualLoss | None = None  # LPIPS per image; None leaves the term out
    teacher: Teacher | None = None  # of the semantics; None leaves distillation out
    semantics: SemanticsConfig = SemanticsConfig()  # views to distil, and whether the semantic head is trained alone

    def __call__(self, output: TokenGroupsOutput, example: Example, cameras: Cameras, step: int) -> LossTerms:
        """Losses of a batch.

        Args:
            output: Decoded token groups.
            example: Photos, target views and class names, batched.
            cameras: True cameras of the targets in the world of the prediction.
            step: Training step, for the warm-up.
        """
        total, terms = output.gaussians.means.sum() * 0, {}
        if not self.semantics.only:
            total, terms = self.scene_losses(output, example, cameras, step)
        if self.teacher is not None:
            distilled = self.distill(output, example, cameras)
            terms = terms | {f"distill_{name}": value for name, value in distilled.terms.items()}
            total = total + self.weights.distillation * distilled.total
        return LossTerms(total, terms)

    def scene_losses(
        self, output: TokenGroupsOutput, example: Example, cameras: Cameras, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rendering and mask losses: the weighted total and the unweighted terms."""
        rendered = render_groups(output, cameras)
        terms = self.photometric(rendered, example)
        assert rendered.features is not None
        scenes = zip(rendered.features, example.targets.group_ids, strict=True)
        on_views = mean_of([matched_mask_losses(*scene, self.weights.masks) for scene in scenes])
        terms |= {"bce": on_views.bce, "dice": on_views.dice}
        segmentation = self.weights.segmentation_at(step)
        photometric = terms["mse"] + self.weights.lpips * terms["lpips"]
        total = photometric + segmentation * on_views.total(self.weights.masks)
        return total, terms | {"segmentation_weight": total.new_tensor(segmentation)}

    def photometric(self, rendered: RenderOutput, example: Example) -> dict[str, Tensor]:
        """MSE and LPIPS of the rendered views; LPIPS is 0 where it is left out."""
        photos = rearrange(rendered.colors, "b v h w c -> b v c h w")
        mse = (photos - example.targets.images).square().mean()
        lpips = mse.new_zeros(())
        if self.perceptual is not None and self.weights.lpips > 0:
            lpips = self.perceptual(photos.flatten(0, 1), example.targets.images.flatten(0, 1)).mean()
        return {"mse": mse, "lpips": lpips}

    def distill(self, output: TokenGroupsOutput, example: Example, cameras: Cameras) -> LossTerms:
        """Distillation losses on evenly spaced target views."""
        assert self.teacher is not None
        count = example.targets.images.shape[1]
        wanted = self.semantics.views or count
        chosen = sorted(set(np.linspace(0, count - 1, wanted).round().astype(int).tolist()))
        views = example.targets.select(chosen)
        targets = [
            self.teacher.targets(views.map(lambda tensor, i=scene: tensor[i]), classes)
            for scene, classes in enumerate(example.classes)
        ]
        cameras = Cameras(cameras.cam_from_world[:, chosen], cameras.intrinsics[:, chosen], cameras.size_hw)
        return distillation_losses(output, cameras, views.group_ids, targets, self.weights.masks)


def render_groups(output: TokenGroupsOutput, cameras: Cameras) -> RenderOutput:
    """Render colours and group probabilities of all scenes from their cameras."""
    return render(
        output.gaussians,
        cameras.cam_from_world,
        cameras.intrinsics,
        cameras.size_hw,
        anchor_ids=output.anchor_ids,
        anchor_features=output.assignment,
    )


def matched_mask_losses(probabilities: Float[Tensor, "V H W L"], ids: Tensor, weights: MaskLossWeights) -> MaskLosses:
    """Match groups to instances once over all views of a scene, then compare; unlabelled pixels are ignored."""
    return mask_losses(probabilities, ids, *match_groups(mask_costs(probabilities, ids, weights)))


def mean_of(losses: list[MaskLosses]) -> MaskLosses:
    """Mean over scenes."""
    return MaskLosses(
        torch.stack([each.bce for each in losses]).mean(), torch.stack([each.dice for each in losses]).mean()
    )
