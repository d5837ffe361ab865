"""Instance fields as systems: photos in, scenes whose groups are instances out.

The encoder's features become an instance field, clusters of the field become groups, and every cell of pixels becomes
a Gaussian on the surface that it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.data.example import Example, stack_examples
from tokengroups.encoders import Geometry
from tokengroups.encoders.vggt.dpt_head import resize
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.evaluation.tracking import nearest_true_means, track_scores
from tokengroups.losses.instance_field import InstanceFieldLossConfig, instance_field_loss
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import Precision, autocast
from tokengroups.postprocess import Draft, PhotoGroups
from tokengroups.systems.base import SceneSystem
from tokengroups.systems.cell_gaussians import CellGaussiansConfig, cell_prediction, place_gaussians
from tokengroups.systems.iggt.clustering import ClusteringConfig, Instances, cluster_field
from tokengroups.systems.weights import save_system


class InstanceFieldSystem(SceneSystem):
    """A system with an instance field; a subclass has `network`, `field` and `config`."""

    adjustable: ClassVar[Mapping[str, str]] = {
        "granularity": "clustering.granularity", "max_gaussians": "gaussians.max_gaussians",
    }  # fmt: skip
    loss_config: InstanceFieldLossConfig | None = None
    encoder_source: str = ""
    config: Any
    clustering: ClusteringConfig
    gaussians: CellGaussiansConfig

    def field(self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry) -> Float[Tensor, "B V E h w"]:
        """Instance field of the photos, of any resolution, not normalised."""
        raise NotImplementedError

    def decode(self, draft: Draft) -> Draft:
        """Cluster the field of one scene, and place a Gaussian on every cell of its photos."""
        field, instances = self._instances(draft)
        cells = place_gaussians(draft, self.gaussians)
        assignment = field_assignment(field, instances, cells.pixels, self.gaussians.temperature)
        groups = PhotoGroups(instances.labels, instances.scores, field)
        return replace(draft, prediction=cell_prediction(cells, assignment, instances.prototypes, groups))

    @property
    def masks_need_steps(self) -> bool:
        """Whether instances depend on points, which the steps before decoding move."""
        return self.clustering.smoothing > 0

    @torch.no_grad()
    def segment(self, draft: Draft) -> PhotoGroups:
        """Cluster the field of one scene; reads the encoder's features, and its points if they are smoothed over."""
        field, instances = self._instances(draft)
        return PhotoGroups(instances.labels, instances.scores, field)

    def _instances(self, draft: Draft) -> tuple[Float[Tensor, "V E H W"], Instances]:
        """Field at the photos' resolution, and its clusters."""
        geometry = draft.geometry.map(lambda tensor: tensor[None])
        height, width = draft.photos.shape[-2:]
        field = resize(self.field(draft.photos[None], geometry)[0].float(), (height, width))
        points, mask = draft.geometry.points if self.clustering.smoothing else None, draft.geometry.mask
        if mask is None:
            return field, cluster_field(field, self.clustering, points)
        field = field * mask[:, None]  # like no other feature
        return field, cluster_field(field, self.clustering, points).within(mask)

    def encode_batch(self, images: Float[Tensor, "B V 3 H W"]) -> Geometry:
        """The encoder's answer for a training batch, without steps: no step changes the features."""
        with torch.no_grad():
            return self._encode(images)

    def losses(self, example: Example, step: int, precision: Precision) -> LossTerms:
        """The contrastive loss on the photos."""
        del step
        assert self.loss_config is not None, "built without an objective; use for_training"
        images = example.context.images
        with autocast(precision, images.device):
            field = self.field(images, self.encode_batch(images))
        return instance_field_loss(field.float(), at_cells(example.context.group_ids, field), self.loss_config)

    def evaluate(self, examples: Iterable[Example], data: EvaluationData) -> dict[str, float]:
        """Temporal mIoU of pixels that take the nearest true mean: what any clustering of the field can reach."""
        del data
        device, scores = next(self.network.parameters()).device, []
        for example in examples:
            context = stack_examples([example]).to(device).context
            field = self.field(context.images, self.encode_batch(context.images))[0]
            ids = context.group_ids[0]
            nearest = nearest_true_means(resize(field, (ids.shape[-2], ids.shape[-1])), ids)
            scores.append(track_scores(nearest, ids).summary())
        return {f"{name}_ceiling": sum(s[name] for s in scores) / len(scores) for name in scores[0]}

    def parameter_groups(self, weight_decay: float, muon: bool) -> list[dict[str, Any]]:
        """Weight decay on matrices alone."""
        return decay_groups(self.network, weight_decay, hidden=[self.network] if muon else ())

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a weight folder."""
        save_system(folder, state, self, self.config, self.encoder_source)


def field_assignment(
    field: Float[Tensor, "V E H W"], instances: Instances, pixels: Int64[Tensor, "K 3"], temperature: float
) -> Float[Tensor, "K M"]:
    """Probabilities of the instances at some pixels (view, row, column), by cosines with their means."""
    views, rows, columns = pixels.unbind(-1)
    own = functional.normalize(field.permute(0, 2, 3, 1)[views, rows, columns], dim=-1)
    logits = own @ functional.normalize(instances.prototypes, dim=-1).T / temperature
    # A pixel's own instance is the most probable one, also where another mean is a little nearer.
    labels = instances.labels[views, rows, columns][:, None]
    logits.scatter_(1, labels, logits.amax(dim=1, keepdim=True) + 1)
    return logits.softmax(dim=-1)


def at_cells(ids: Int64[Tensor, "B V H W"], field: Float[Tensor, "B V E h w"]) -> Int64[Tensor, "B V h w"]:
    """Instance at every cell of a field whose corner cells lie on the photo's corner pixels."""
    rows, columns = (
        torch.linspace(0, full - 1, cells, device=ids.device).round().long()
        for full, cells in zip(ids.shape[-2:], field.shape[-2:], strict=True)
    )
    return ids[..., rows[:, None], columns]
