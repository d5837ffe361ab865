"""Evaluation of one scene's semantics: segmentation, retrieval by text, calibration, sizes and times.

All numbers come from rendered coefficients (group probabilities and residuals), without an image of D-vectors.
L groups, M visible true instances, n = L + d coefficients, Q queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.data.example import Example
from tokengroups.evaluation.masks import render_features
from tokengroups.evaluation.phrases import PHRASED_CLASSES, PHRASES
from tokengroups.evaluation.retrieval_metrics import (
    Answers,
    MatchPairs,
    Query,
    SharedPixels,
    answer,
    askable,
    match_pairs,
    name_queries,
    share_pixels,
)
from tokengroups.evaluation.segmentation import ClassCounts, classify_pixels, count_classes, vocabulary_rows
from tokengroups.evaluation.semantic_scores import SceneSemantics
from tokengroups.retrieval import find_groups, match_probabilities, rank, semantics_of, text_cosines
from tokengroups.text import TextEncoder
from tokengroups.text.teachers import look_up
from tokengroups.types import Semantics, TokenScene

PHRASE_QUERIES = tuple(Query(text, frozenset(classes)) for text, classes in PHRASES.items())
_TOP = 5  # answers of a timed query
_REPEATS = 9
_BYTES_PER_SCALAR = 4


@dataclass(frozen=True)
class SemanticEvaluation:
    """Text encoder and vocabulary that semantics are measured with."""

    encoder: TextEncoder  # of the space of the scenes' embeddings
    vocabulary: tuple[str, ...]  # segmentation chooses among these names
    pooled: bool = False  # the embeddings are mean features of the photos by this encoder


def measure_semantics(
    evaluation: SemanticEvaluation,
    scene: TokenScene,
    truth: Example,
    coefficients: Float[Tensor, "T H W n"],
    masks: Bool[np.ndarray, "L X"],
) -> SceneSemantics:
    """Measure the semantics of one scene.

    Args:
        evaluation: Encoder and vocabulary.
        scene: The reconstruction, with semantics.
        truth: The unbatched example with its classes.
        coefficients: `semantic_channels` rendered at the target views.
        masks: Masks of the groups over the flattened target views.
    """
    semantics, encoder, named = semantics_of(scene), evaluation.encoder, truth.classes[0]
    names = encoder.encode_text(list(evaluation.vocabulary))
    basis, rows = feature_basis(semantics), vocabulary_rows(named, evaluation.vocabulary)
    ids = truth.targets.group_ids.cpu().numpy()
    shared = share_pixels(masks, ids.reshape(-1), named)
    features = instance_features(coefficients, ids, shared.instance_ids, basis)
    classes = shared.group_classes()
    phrased = [name if name in PHRASED_CLASSES else "" for name in classes]
    asked = {"names": name_queries(named.values()), "unseen": PHRASE_QUERIES}
    _, at_photos = render_features(scene, scene.cameras, semantic_channels(scene))
    return SceneSemantics(
        counts={
            "source": _count(at_photos, basis, names, look_up(truth.context.group_ids, rows)),
            "target": _count(coefficients, basis, names, look_up(truth.targets.group_ids, rows)),
        },
        answers={
            kind: _answers(encoder, semantics, shared, features, askable(queries, shared))
            for kind, queries in asked.items()
        },
        pairs={
            "names": _pairs(encoder, semantics, vocabulary_queries(evaluation.vocabulary, named), classes),
            "unseen": _pairs(encoder, semantics, PHRASE_QUERIES, phrased),
        },
        costs=semantic_costs(scene, names[0]),
    )


def feature_basis(semantics: Semantics) -> Float[Tensor, "n D"]:
    """Vectors whose coefficients are the channels [group probabilities, residual] of a rendered pixel."""
    return torch.cat([semantics.embeddings, semantics.projection.T])


def semantic_channels(scene: TokenScene) -> Float[Tensor, "K n"]:
    """Group probabilities and residual of every anchor."""
    return torch.cat([scene.assignment, semantics_of(scene).residuals], dim=-1)


def instance_features(
    coefficients: Float[Tensor, "T H W n"],
    ids: Int[np.ndarray, "T H W"],
    instances: Sequence[int],
    basis: Float[Tensor, "n D"],
) -> Float[Tensor, "M D"]:
    """Unit vector along the mean feature of each visible instance's pixels."""
    flat = coefficients.flatten(0, 2)
    of_pixel = torch.from_numpy(ids.reshape(-1)).to(flat.device)
    means = [flat[of_pixel == instance].mean(dim=0) for instance in instances]
    stacked = torch.stack(means) if means else flat.new_zeros(0, flat.shape[1])
    return functional.normalize(stacked @ basis, dim=-1)


def vocabulary_queries(vocabulary: Sequence[str], classes: Mapping[int, str]) -> list[Query]:
    """One query per name of the vocabulary, for the scene's classes that the name stands for."""
    rows = vocabulary_rows(classes, vocabulary)
    return [
        Query(name, frozenset(classes[instance] for instance, own in rows.items() if own == row))
        for row, name in enumerate(vocabulary)
    ]


def semantic_costs(scene: TokenScene, text: Float[Tensor, " D"]) -> dict[str, float]:
    """Sizes of a scene's semantics, and median milliseconds of a query, under the names of `COSTS`.

    A query finds groups with their boxes; a search ranks embeddings alone. Baseline: one vector per Gaussian.
    """
    semantics = semantics_of(scene)
    num_scalars = sum(part.numel() for part in (semantics.embeddings, semantics.residuals, semantics.projection))
    groups, gaussians = (each.numpy(force=True) for each in (semantics.embeddings, gaussian_features(scene)))
    direction = text.to(semantics.embeddings).numpy(force=True)
    return {
        "semantic_units": len(groups),
        "semantic_scalars": num_scalars,
        "semantic_bytes": _BYTES_PER_SCALAR * num_scalars,
        "semantic_scalars_per_gaussian_baseline": gaussians.size,
        "query_ms": _median_ms(lambda: find_groups(scene, text, _TOP)),
        "search_ms": _median_ms(lambda: rank(groups, direction, _TOP)[0].tolist()),
        "search_ms_gaussians": _median_ms(lambda: rank(gaussians, direction, _TOP)[0].tolist()),
    }


def gaussian_features(scene: TokenScene) -> Float[Tensor, "N D"]:
    """Unit feature of every Gaussian: its group's embedding plus its anchor's residual."""
    semantics = semantics_of(scene)
    own = semantics.embeddings[scene.assignment.argmax(dim=-1)]
    return functional.normalize(own + semantics.residuals @ semantics.projection.T, dim=-1)[scene.anchor_ids]


def _median_ms(search: Callable[[], object]) -> float:
    """Median time after a first, untimed call. Searches end on the host, so a GPU has finished by then."""
    search()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        search()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def _count(
    coefficients: Float[Tensor, "V H W n"],
    basis: Float[Tensor, "n D"],
    names: Float[Tensor, "C D"],
    true: Int64[Tensor, "V H W"],
) -> ClassCounts:
    predicted = classify_pixels(coefficients, basis, names)
    return count_classes(predicted.cpu().numpy(), true.cpu().numpy(), len(names))


def _answers(
    encoder: TextEncoder,
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
    encoder: TextEncoder, semantics: Semantics, queries: Sequence[Query], group_classes: Sequence[str]
) -> MatchPairs:
    texts = encoder.encode_text([query.text for query in queries])
    probabilities = match_probabilities(semantics, text_cosines(semantics, texts))
    return match_pairs(probabilities.cpu().numpy(), queries, group_classes)
