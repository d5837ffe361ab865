"""The objective of object queries: classes, masks, and attention on the frames that show the instance (SegVGGT).

A query's masks of all frames are one long vector, so one matching serves the whole scene. Beside each setting stands
where it is from: [P] the paper, [I] the authors' earlier code, SegDINO3D, which the authors refer to for the losses,
[?] unknown, [own] not the paper's.

B scenes, V frames of h x w cells, Q queries, E channels, C classes (no object is the last of them), L layers of the
network, M instances, N = min(Q, M) pairs. A training step is::

    targets = [instance_targets(ids, classes, features.shape[2:4]) for ids, classes in scenes]
    losses = query_losses(QueryPredictions(queries, features, class_logits, frame_attention), targets, config)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Positive, Settings, Weight
from tokengroups.hungarian import match_groups
from tokengroups.losses.frame_attention import attention_costs, attention_loss
from tokengroups.losses.instance_field import prototype_loss
from tokengroups.losses.masks import dice_error
from tokengroups.losses.query_targets import InstanceTargets, QueryTargetConfig
from tokengroups.losses.terms import LossTerms
from tokengroups.types import TensorFields

CONTRAST_CELLS = 12  # smaller segments do not take part in the contrastive term
_LOGITS_AT_ONCE = 2**24  # of all queries, in the costs: 64 MiB


@dataclass(frozen=True)
class QueryLossConfig(Settings):
    """Weights of the losses, which are those of the matching costs, too [P], and open points of the paper."""

    classes: Weight = 0.5  # [P]
    bce: Weight = 1.0  # [P]
    dice: Weight = 1.0  # [P]
    attention: Weight = 0.5  # [P]
    attention_in_matching: bool = True  # [P]
    attention_normalisation: Literal["layers_frames", "layers"] = "layers_frames"  # [P] what divides the sum; [own]
    no_object: Positive = 0.1  # [I] weight of unmatched queries in the cross-entropy
    dice_smoothing: Positive = 1.0  # [I] Laplace's; the paper gives its name alone
    scene_weights: Literal["equal", "pairs"] = "equal"  # [I] of masks and attention in a batch; [own] by matched pairs
    deep_supervision: Weight = 0.0  # [own] of classes and masks of the earlier layers, with the last one's matching
    # [own] Of a cross-entropy of the mask features over the instances of all scenes that a process sees at once: it
    # depends on the number of processes and on accumulation.
    contrast: Weight = 0.0
    contrast_temperature: Positive = 0.1  # divides its cosines
    targets: QueryTargetConfig = QueryTargetConfig()


@dataclass(frozen=True)
class QueryPredictions(TensorFields):
    """What a network predicts of a scene, or of a batch of scenes."""

    queries: Float[Tensor, "*b Q E"]  # mask embeddings: their products with the features are mask logits
    features: Float[Tensor, "*b V h w E"]
    class_logits: Float[Tensor, "*b Q C"]
    frame_attention: Float[Tensor, "L *b Q V"] | None = None  # as `frame_masses` takes it
    layer_queries: Float[Tensor, "L *b Q E"] | None = None  # of every layer, the last one too
    layer_logits: Float[Tensor, "L *b Q C"] | None = None

    def scene(self, index: int) -> QueryPredictions:
        """One scene of a batch, with float32 or better: half precision is too coarse for many thousand cells."""
        own, layered = (self.queries, self.features, self.class_logits), (self.frame_attention, self.layer_queries)
        return QueryPredictions(
            *(_precise(tensor[index]) for tensor in own),
            *(None if tensor is None else _precise(tensor[:, index]) for tensor in (*layered, self.layer_logits)),
        )


@dataclass(frozen=True)
class Matching:
    """Pairs of one scene: indices of the queries, ascending, and of their instances."""

    query: Int64[Tensor, " N"]
    instance: Int64[Tensor, " N"]


@dataclass(frozen=True)
class QueryLosses:
    """The objective of a batch, and how it came about."""

    losses: LossTerms
    matches: tuple[Matching, ...]  # one per scene
    unmatched: int  # instances of all scenes that no query was left for


@dataclass(frozen=True)
class QueryCosts:
    """Unweighted costs of giving every query to every instance of a scene; no gradients."""

    classes: Float[Tensor, "Q M"]  # minus the probability of the instance's class; 0 if it trains masks alone
    bce: Float[Tensor, "Q M"]  # mean over the cells of all frames
    dice: Float[Tensor, "Q M"]
    attention: Float[Tensor, "Q M"] | None  # normalised

    def total(self, config: QueryLossConfig) -> Float[Tensor, "Q M"]:
        """Weighted sum, which the matching minimises."""
        total = config.classes * self.classes + config.bce * self.bce + config.dice * self.dice
        if self.attention is None or not config.attention_in_matching:
            return total
        return total + config.attention * self.attention


def query_losses(
    predicted: QueryPredictions, targets: Sequence[InstanceTargets], config: QueryLossConfig
) -> QueryLosses:
    """Match queries with instances, scene by scene, and compare them.

    Args:
        predicted: Of a batch of one axis; gradients flow to all of it.
        targets: One per scene, on the grid of the features.
        config: Weights and open points.

    Returns:
        The weighted total with the terms ``class``, ``bce``, ``dice``, ``attention`` if it is given, ``deep`` and
        ``contrast`` if they have a weight. Without an instance the class term alone counts; the others are 0 and
        attached to the graph.

    Raises:
        ValueError: A prediction is NaN or infinite, or the configuration asks for predictions that are not given.
    """
    _check_given(predicted, config)
    with torch.autocast(predicted.queries.device.type, enabled=False):
        parts = [predicted.scene(index) for index in range(len(targets))]
        scenes = [_scene_losses(part, target, config) for part, target in zip(parts, targets, strict=True)]
        matches = tuple(match for match, _ in scenes)
        contrast = _contrast(parts, targets, config) if config.contrast else None
    pairs = torch.tensor([len(match.query) for match in matches], dtype=torch.float64)
    equal = torch.full_like(pairs, 1 / len(pairs))
    shares = equal if config.scene_weights == "equal" else pairs / pairs.sum().clamp(min=1)
    terms = {}
    for name in scenes[0][1]:
        values = torch.stack([scene[name] for _, scene in scenes])
        terms[name] = (values * (equal if name == "class" else shares).to(values)).sum()
    if contrast is not None:
        terms["contrast"] = contrast
    unmatched = sum(len(target.ids) for target in targets) - int(pairs.sum())
    return QueryLosses(LossTerms(_total(terms, config), terms), matches, unmatched)


@torch.no_grad()
def query_costs(scene: QueryPredictions, targets: InstanceTargets, config: QueryLossConfig) -> QueryCosts:
    """Costs of one scene; neither Q x M masks nor the Q masks of all frames are ever held."""
    queries, masks = scene.queries, targets.masks.flatten(1).to(scene.queries)
    soft = likelihood = queries.new_zeros(len(queries), len(masks))
    plus = size = queries.new_zeros(len(queries), 1)
    for logits, part in _blocks(queries, scene.features.flatten(0, 2), masks):
        probabilities = logits.sigmoid()
        likelihood, plus = likelihood + logits @ part.T, plus + functional.softplus(logits).sum(dim=1, keepdim=True)
        soft, size = soft + probabilities @ part.T, size + probabilities.sum(dim=1, keepdim=True)
    attention = None
    if scene.frame_attention is not None:
        attention = attention_costs(scene.frame_attention, targets.frame_shares.to(queries))
        attention = attention / _divisor(scene.frame_attention, config)
    return QueryCosts(
        classes=-scene.class_logits.softmax(dim=-1)[:, targets.classes.clamp(min=0)] * (targets.classes >= 0),
        bce=(plus - likelihood) / masks.shape[1],  # -y log p - (1 - y) log(1 - p) = softplus(x) - x y
        dice=dice_error(soft, size, masks.sum(dim=1)[None], config.dice_smoothing),
        attention=attention,
    )


def class_loss(
    logits: Float[Tensor, "Q C"], query: Int64[Tensor, " N"], classes: Int64[Tensor, " N"], no_object: float
) -> Float[Tensor, ""]:
    """Cross-entropy over the queries, of which those outside the pairs are no object; its weighted mean.

    Queries of class -1, whose instances train masks alone, are left out.
    """
    last = logits.shape[1] - 1
    wanted = torch.full((len(logits),), last, device=logits.device).index_put((query,), classes)
    weights = torch.ones(last + 1, device=logits.device, dtype=logits.dtype)
    weights[last] = no_object
    if bool((wanted < 0).all()):  # of which the mean is not defined
        return logits.sum() * 0
    return functional.cross_entropy(logits, wanted, weights, ignore_index=-1)


def pair_losses(
    queries: Float[Tensor, "N E"],
    features: Float[Tensor, "V h w E"],
    masks: Float[Tensor, "N V h w"],
    config: QueryLossConfig,
) -> dict[str, Tensor]:
    """BCE and Dice of matched pairs, means over them; zero, attached to the graph, without any."""
    if len(queries) == 0:
        nothing = (queries.sum() + features.sum()) * 0
        return {"bce": nothing, "dice": nothing}
    logits, masks = queries @ features.flatten(0, 2).T, masks.flatten(1).to(queries)
    probabilities = logits.sigmoid()
    overlap, sizes = (probabilities * masks).sum(dim=1), probabilities.sum(dim=1)
    dices = dice_error(overlap, sizes, masks.sum(dim=1), config.dice_smoothing)
    return {"bce": functional.binary_cross_entropy_with_logits(logits, masks), "dice": dices.mean()}


def _contrast(
    scenes: Sequence[QueryPredictions], targets: Sequence[InstanceTargets], config: QueryLossConfig
) -> Float[Tensor, ""]:
    """Prototype loss of the features; cells of which no instance fills over half are left out."""
    ids = torch.stack([target.labels() for target in targets]).to(scenes[0].features.device)
    field = rearrange(torch.stack([scene.features for scene in scenes]), "b v h w e -> b v e h w")
    return prototype_loss(field, ids, config.contrast_temperature, CONTRAST_CELLS)


def _scene_losses(
    scene: QueryPredictions, targets: InstanceTargets, config: QueryLossConfig
) -> tuple[Matching, dict[str, Tensor]]:
    query, instance = match_groups(query_costs(scene, targets, config).total(config))
    classes, masks = targets.classes[instance], targets.masks[instance]

    def compare(queries: Tensor, logits: Tensor) -> dict[str, Tensor]:
        own = {"class": class_loss(logits, query, classes, config.no_object)}
        return own | pair_losses(queries[query], scene.features, masks, config)

    terms = compare(scene.queries, scene.class_logits)
    if scene.frame_attention is not None:
        attention = attention_loss(scene.frame_attention[:, query], targets.frame_shares[instance].to(scene.queries))
        terms["attention"] = attention / _divisor(scene.frame_attention, config)
    if config.deep_supervision and scene.layer_queries is not None and scene.layer_logits is not None:
        earlier = zip(scene.layer_queries[:-1], scene.layer_logits[:-1], strict=True)
        layers = [_total(compare(*layer), config) for layer in earlier]
        terms["deep"] = torch.stack(layers).mean() if layers else scene.layer_queries.sum() * 0
    return Matching(query, instance), terms


def _total(terms: dict[str, Tensor], config: QueryLossConfig) -> Tensor:
    weights = {"class": config.classes, "bce": config.bce, "dice": config.dice}
    weights |= {"attention": config.attention, "deep": config.deep_supervision}
    weights |= {"contrast": config.contrast}
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


def _divisor(frame_attention: Float[Tensor, "L Q V"], config: QueryLossConfig) -> int:
    layers, _, frames = frame_attention.shape
    return layers * frames if config.attention_normalisation == "layers_frames" else layers


def _blocks(
    queries: Float[Tensor, "Q E"], features: Float[Tensor, "X E"], masks: Float[Tensor, "M X"]
) -> Iterator[tuple[Float[Tensor, "Q x"], Float[Tensor, "M x"]]]:
    """Mask logits and masks of some cells at a time."""
    cells = max(_LOGITS_AT_ONCE // max(len(queries), 1), 1)
    for part, some in zip(features.split(cells), masks.split(cells, dim=1), strict=True):
        yield queries @ part.T, some


def _check_given(predicted: QueryPredictions, config: QueryLossConfig) -> None:
    if config.attention and predicted.frame_attention is None:
        raise ValueError("the attention term has a weight, but the network's frame attention is not given")
    if config.deep_supervision and (predicted.layer_queries is None or predicted.layer_logits is None):
        raise ValueError("deep supervision has a weight, but the queries and logits of the layers are not given")


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
