"""Measuring the meaning of one scene: segmentation and retrieval by text, calibration, sizes and times.

Everything is read off rendered coefficients (group probabilities and residuals): no image of D-vectors is built.
L groups, M visible true instances, n = L + d coefficients, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokengroups.data.example import Example
from tokengroups.evaluation.calibration import MatchPairs, match_pairs
from tokengroups.evaluation.phrases import PHRASED_CLASSES, PHRASES
from tokengroups.evaluation.query_time import gaussian_search_ms, group_query_ms, group_search_ms
from tokengroups.evaluation.retrieval_metrics import (
    Answers,
    Query,
    SharedPixels,
    answer,
    askable,
    name_queries,
    share_pixels,
)
from tokengroups.evaluation.segmentation import (
    ClassCounts,
    classify_pixels,
    count_classes,
    label_pixels,
    vocabulary_rows,
)
from tokengroups.evaluation.semantic_scores import SceneSemantics, SemanticSizes
from tokengroups.render import render
from tokengroups.retrieval import match_probabilities, semantics_of, text_cosines
from tokengroups.types import Semantics, TokenScene, Views

PHRASE_QUERIES = tuple(Query(text, frozenset(classes)) for text, classes in PHRASES.items())


@runtime_checkable
class TextEmbedder(Protocol):
    """A text encoder or its cache."""

    def encode_text(self, texts: list[str]) -> Float[Tensor, "n D"]:
        """Unit embeddings."""
        ...


@dataclass(frozen=True)
class SemanticEvaluation:
    """What meaning is measured with."""

    encoder: TextEmbedder  # of the space that the scenes' embeddings live in
    vocabulary: tuple[str, ...]  # between which segmentation decides


def measure_semantics(
    evaluation: SemanticEvaluation,
    scene: TokenScene,
    truth: Example,
    coefficients: Float[Tensor, "T H W n"],
    masks: Bool[np.ndarray, "L X"],
) -> SceneSemantics:
    """Measure one scene.

    Args:
        evaluation: Encoder and vocabulary.
        scene: The reconstruction, with semantics.
        truth: The unbatched example that it was made from, with its classes.
        coefficients: `semantic_channels` rendered at the target views.
        masks: Of the groups over the flattened target views.
    """
    semantics, encoder, named = semantics_of(scene), evaluation.encoder, truth.classes[0]
    names = encoder.encode_text(list(evaluation.vocabulary))
    ids = truth.targets.group_ids.cpu().numpy()
    shared = share_pixels(masks, ids.reshape(-1), named)
    features = instance_features(coefficients, ids, shared.instance_ids, feature_basis(semantics))
    classes = shared.group_classes()
    listed = [name if name in PHRASED_CLASSES else "" for name in classes]
    of_vocabulary = vocabulary_queries(evaluation.vocabulary, named)
    by_name = askable(name_queries(named.values()), shared)
    by_phrase = askable(PHRASE_QUERIES, shared)
    return SceneSemantics(
        source=_count(evaluation, semantics, names, _render_photos(scene), truth.context, named),
        target=_count(evaluation, semantics, names, coefficients, truth.targets, named),
        names=_answers(encoder, semantics, shared, features, by_name),
        names_pairs=_pairs(encoder, semantics, of_vocabulary, classes),
        unseen=_answers(encoder, semantics, shared, features, by_phrase),
        unseen_pairs=_pairs(encoder, semantics, PHRASE_QUERIES, listed),
        sizes=semantic_sizes(scene),
        query_ms=group_query_ms(scene, names[0]),
        search_ms=group_search_ms(scene, names[0]),
        search_ms_gaussians=gaussian_search_ms(scene, names[0]),
    )


def feature_basis(semantics: Semantics) -> Float[Tensor, "n D"]:
    """What the channels [group probabilities, residual] of a rendered pixel are coefficients of."""
    return torch.cat([semantics.embeddings, semantics.projection.T])


def semantic_channels(scene: TokenScene) -> Float[Tensor, "K n"]:
    """Of every anchor: group probabilities and residual."""
    return torch.cat([scene.assignment, semantics_of(scene).residuals], dim=-1)


def instance_features(
    coefficients: Float[Tensor, "T H W n"],
    ids: Int[np.ndarray, "T H W"],
    instances: Sequence[int],
    basis: Float[Tensor, "n D"],
) -> Float[Tensor, "M D"]:
    """Direction of the mean feature over each visible instance's pixels: that of the mean coefficients."""
    flat = coefficients.flatten(0, 2)
    of_pixel = torch.from_numpy(ids.reshape(-1)).to(flat.device)
    means = [flat[of_pixel == instance].mean(dim=0) for instance in instances]
    stacked = torch.stack(means) if means else flat.new_zeros(0, flat.shape[1])
    return functional.normalize(stacked @ basis, dim=-1)


def vocabulary_queries(vocabulary: Sequence[str], classes: Mapping[int, str]) -> list[Query]:
    """Every name of the vocabulary with the scene's classes that it stands for."""
    rows = vocabulary_rows(classes, vocabulary)
    return [
        Query(name, frozenset(classes[instance] for instance, own in rows.items() if own == row))
        for row, name in enumerate(vocabulary)
    ]


def semantic_sizes(scene: TokenScene) -> SemanticSizes:
    """Of the scene as it is stored."""
    semantics = semantics_of(scene)
    parts = (semantics.embeddings, semantics.residuals, semantics.projection)
    num_groups, dim = semantics.embeddings.shape
    return SemanticSizes(num_groups, sum(part.numel() for part in parts), len(scene.anchor_ids) * dim)


def _render_photos(scene: TokenScene) -> Float[Tensor, "V H W n"]:
    """Coefficients at the photos, from the cameras that were predicted for them."""
    cameras = scene.cameras
    rendered = render(
        scene.gaussians,
        cameras.cam_from_world,
        cameras.intrinsics,
        cameras.size_hw,
        anchor_ids=scene.anchor_ids,
        anchor_features=semantic_channels(scene),
    )
    assert rendered.features is not None
    return rendered.features


def _count(
    evaluation: SemanticEvaluation,
    semantics: Semantics,
    names: Float[Tensor, "C D"],
    coefficients: Float[Tensor, "V H W n"],
    views: Views,
    classes: Mapping[int, str],
) -> ClassCounts:
    """Right and wrong pixels of some views."""
    predicted = classify_pixels(coefficients, feature_basis(semantics), names).cpu().numpy()
    rows = vocabulary_rows(classes, evaluation.vocabulary)
    return count_classes(predicted, label_pixels(views.group_ids.cpu().numpy(), rows), len(names))


def _answers(
    encoder: TextEmbedder,
    semantics: Semantics,
    shared: SharedPixels,
    features: Float[Tensor, "M D"],
    queries: Sequence[Query],
) -> Answers:
    texts = encoder.encode_text([query.text for query in queries]).to(features)
    names = encoder.encode_text(list(shared.instance_classes)).to(features)
    cosines = (text_cosines(semantics, texts), texts @ names.T, texts @ features.T)
    return answer(queries, shared, *(each.cpu().numpy() for each in cosines))


def _pairs(
    encoder: TextEmbedder, semantics: Semantics, queries: Sequence[Query], group_classes: Sequence[str]
) -> MatchPairs:
    texts = encoder.encode_text([query.text for query in queries])
    probabilities = match_probabilities(semantics, text_cosines(semantics, texts))
    return match_pairs(probabilities.cpu().numpy(), queries, group_classes)
