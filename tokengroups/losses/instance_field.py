"""Losses of an instance field: pixels of one instance near each other in all photos, those of others apart (IGGT).

The paper prints pairs of pixels (Li et al. 2026, equation 4); the authors' own code compares pixels with the mean of
their mask and means with each other. An optional cross-entropy over the means of a scene separates them further.

V views of h x w cells, E channels, S segments: an instance in one view. Means are taken level by level, from pixels to
instances to views to scenes, so that no count dominates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Between, Count, Positive, Settings, Weight
from tokengroups.losses.terms import LossTerms

Margin = Annotated[float, Between(0, 2)]


@dataclass(frozen=True)
class InstanceFieldLossConfig(Settings):
    """Form, weights and margins; distances are those of unit vectors, at most 2."""

    form: Literal["means", "pairs"] = "means"  # the authors' code, or the paper's equation
    pull: Weight = 2.0
    push: Weight = 1.0
    cross_view: Weight = 2.0  # between the means of an instance in two views; not in the paper's equation
    pull_margin: Margin = 0.25  # form "means": pixels nearer to their mean are not pulled
    push_margin: Margin = 1.0  # 60 degrees; 8 channels have room for 240 such directions
    cross_view_margin: Margin = 0.5
    classification: Weight = 0.0  # cross-entropy of pixels over the scene's means; an addition
    temperature: Positive = 0.1  # divides its cosines
    min_cells: Count = 50  # smaller segments are left out
    samples: Annotated[int, Between(2, 10**6)] = 4096  # form "pairs": pixels of a scene, equally many of every instance


@dataclass(frozen=True)
class _Segments:
    """The labelled pixels of a scene, sorted into segments."""

    pixels: Float[Tensor, "P E"]  # of unit length
    segment: Int64[Tensor, " P"]
    view: Int64[Tensor, " S"]
    instance: Int64[Tensor, " S"]  # 0 ... I - 1
    means: Float[Tensor, "S E"]


def instance_field_loss(
    field: Float[Tensor, "B V E h w"], ids: Int64[Tensor, "B V h w"], config: InstanceFieldLossConfig
) -> LossTerms:
    """Mean loss over the scenes of a batch.

    Args:
        field: Of any length; unit vectors are compared.
        ids: Instance of each cell, the same in all views of a scene; -1 = unlabelled, left out.
        config: Form and weights.

    Returns:
        The weighted total and its terms; zeros, still attached to the graph, where nothing can be compared.
    """
    scenes = [_scene_loss(maps.float(), labels, config) for maps, labels in zip(field, ids, strict=True)]
    names = scenes[0].keys()
    terms = {name: torch.stack([scene[name] for scene in scenes]).mean() for name in names}
    weights = {"pull": config.pull, "push": config.push, "cross_view": config.cross_view}
    weights["classification"] = config.classification
    total = field.sum() * 0
    for name, value in terms.items():
        total = total + weights[name] * value
    return LossTerms(total, terms)


def prototype_loss(
    field: Float[Tensor, "B V E h w"], ids: Int64[Tensor, "B V h w"], temperature: float, min_cells: int
) -> Float[Tensor, ""]:
    """Cross-entropy of cells over the mean directions of all instances of a batch, those of other scenes, too.

    Args:
        field: Of any length; unit vectors are compared.
        ids: Instance of each cell, the same in all views of a scene; -1 = unlabelled, left out.
        temperature: Divides the cosines.
        min_cells: Smaller segments, an instance in one view, are left out.
    """
    first = (torch.arange(len(ids), device=ids.device) * (ids.max() + 1))[:, None, None, None]
    apart = torch.where(ids < 0, ids, ids + first)
    segments = _segments(functional.normalize(field.flatten(0, 1), dim=1), apart.flatten(0, 1), min_cells)
    return _classification(segments, temperature)


def _scene_loss(
    field: Float[Tensor, "V E h w"], ids: Int64[Tensor, "V h w"], config: InstanceFieldLossConfig
) -> dict[str, Tensor]:
    segments = _segments(functional.normalize(field, dim=1), ids, config.min_cells)
    terms = _pairs(segments, config) if config.form == "pairs" else _means(segments, config)
    if config.classification > 0:
        terms["classification"] = _classification(segments, config.temperature)
    return terms


def _segments(unit: Float[Tensor, "V E h w"], ids: Int64[Tensor, "V h w"], min_cells: int) -> _Segments:
    views = torch.arange(len(ids), device=ids.device)[:, None, None].expand_as(ids)
    labelled = ids >= 0
    keys, segment, counts = torch.stack([views[labelled], ids[labelled]]).unique(
        dim=1, return_inverse=True, return_counts=True
    )
    large = counts >= min_cells
    new_number = large.cumsum(0) - 1
    kept = large[segment]
    segment = new_number[segment[kept]]
    pixels = rearrange(unit, "v e h w -> v h w e")[labelled][kept]
    instance = keys[1, large].unique(return_inverse=True)[1]
    count = int(large.sum())
    return _Segments(pixels, segment, keys[0, large], instance, _grouped_mean(pixels, segment, count))


def _grouped_mean(values: Float[Tensor, "P *E"], group: Int64[Tensor, " P"], count: int) -> Float[Tensor, "G *E"]:
    """Mean of every group; 0 for empty ones."""
    sums = values.new_zeros(count, *values.shape[1:]).index_add(0, group, values)
    sizes = values.new_zeros(count).index_add(0, group, torch.ones_like(group, dtype=values.dtype)).clamp(min=1)
    return sums / sizes.reshape(-1, *[1] * (values.dim() - 1))


def _over_views(values: Float[Tensor, " S"], view: Int64[Tensor, " S"]) -> Float[Tensor, ""]:
    """Mean over the segments of every view that has some, then over these views."""
    if len(values) == 0:
        return values.sum()
    _, group = view.unique(return_inverse=True)
    return _grouped_mean(values, group, int(group.max()) + 1).mean()


def _distance(a: Float[Tensor, "*n E"], b: Float[Tensor, "*n E"]) -> Float[Tensor, "*n"]:
    """Euclidean distance whose gradient is finite at 0."""
    return ((a - b).square().sum(dim=-1) + 1e-12).sqrt()


def _means(segments: _Segments, config: InstanceFieldLossConfig) -> dict[str, Tensor]:
    count = len(segments.view)
    radii = (_distance(segments.pixels, segments.means[segments.segment]) - config.pull_margin).relu()
    pull = _over_views(_grouped_mean(radii, segments.segment, count), segments.view)
    first, second = torch.triu_indices(count, count, 1, device=segments.view.device)
    distances = _distance(segments.means[first], segments.means[second])
    same_view = segments.view[first] == segments.view[second]
    same = segments.instance[first] == segments.instance[second]
    push = (config.push_margin - distances).relu()
    inside = _over_views(push[same_view], segments.view[first][same_view])
    across = _mean(push[~same_view & ~same])
    cross = _mean_by_instance((distances - config.cross_view_margin).relu()[same], segments.instance[first][same])
    halves = 0.5 * (inside + across) if bool((~same_view & ~same).any()) else inside
    return {"pull": pull, "push": halves, "cross_view": cross}


def _mean(values: Float[Tensor, " P"]) -> Float[Tensor, ""]:
    return values.mean() if len(values) else values.sum()


def _mean_by_instance(values: Float[Tensor, " P"], instance: Int64[Tensor, " P"]) -> Float[Tensor, ""]:
    return _over_views(values, instance)  # the same two levels, with instances for views


def _pairs(segments: _Segments, config: InstanceFieldLossConfig) -> dict[str, Tensor]:
    """Mean over pairs of sampled pixels; the sample is the same for the same pixels."""
    owner = segments.instance[segments.segment]
    instances = int(segments.instance.max()) + 1 if len(segments.instance) else 0
    share = max(config.samples // max(instances, 1), 1)
    generator = torch.Generator().manual_seed(len(owner))
    chosen = [
        (owner == instance).nonzero()[:, 0][_sample(int((owner == instance).sum()), share, generator).to(owner.device)]
        for instance in range(instances)
    ]
    if not chosen:
        return {"pull": segments.pixels.sum(), "push": segments.pixels.sum()}
    index = torch.cat(chosen)
    first, second = torch.triu_indices(len(index), len(index), 1, device=owner.device)
    pixels, owner = segments.pixels[index], owner[index]
    distances = _distance(pixels[first], pixels[second])
    same = owner[first] == owner[second]
    return {"pull": _mean(distances[same]), "push": _mean((config.push_margin - distances[~same]).relu())}


def _sample(available: int, wanted: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    return torch.randperm(available, generator=generator)[:wanted]


def _classification(segments: _Segments, temperature: float) -> Float[Tensor, ""]:
    """Cross-entropy of pixels over the normalised means of all instances of the scene."""
    if len(segments.view) == 0:
        return segments.pixels.sum()
    instances = int(segments.instance.max()) + 1
    prototypes = functional.normalize(_grouped_mean(segments.means, segments.instance, instances), dim=1)
    logits = segments.pixels @ prototypes.T / temperature
    entropies = functional.cross_entropy(logits, segments.instance[segments.segment], reduction="none")
    return _grouped_mean(entropies, segments.segment, len(segments.view)).mean()
