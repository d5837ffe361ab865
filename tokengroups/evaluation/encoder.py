"""Accuracy of an encoder's geometry and matches, to watch a training with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokengroups.encoders import Geometry
from tokengroups.encoders.base import MATCH_DESCRIPTORS
from tokengroups.evaluation.geometry_metrics import GeometryMetrics, geometry_metrics, summarise
from tokengroups.losses.cell_matching import cell_targets, match_logits, matching_accuracy
from tokengroups.types import Cameras, Views


@dataclass(frozen=True)
class EncoderMetrics:
    """Numbers of one scene."""

    geometry: GeometryMetrics
    match_accuracy: float | None  # share of visible cells that are matched rightly; None without descriptors


def encoder_metrics(geometry: Geometry, views: Views) -> EncoderMetrics:
    """Compare the geometry of one scene (a batch of one) with the truth, by one scale a scene."""
    metrics = geometry_metrics(geometry.depth[0], _first(geometry.cameras), views.depth[0], _first(views.cameras))
    descriptors = geometry.evidence.get(MATCH_DESCRIPTORS)
    if descriptors is None or isinstance(descriptors, tuple):
        return EncoderMetrics(metrics, None)
    logits = match_logits(descriptors)
    return EncoderMetrics(metrics, float(matching_accuracy(logits, cell_targets(views, logits.shape[2]))))


def summarise_encoder(scenes: Sequence[EncoderMetrics]) -> dict[str, float]:
    """Numbers over all scenes: `summarise`, and the mean matching accuracy."""
    accuracies = [scene.match_accuracy for scene in scenes if scene.match_accuracy is not None]
    numbers = summarise([scene.geometry for scene in scenes])
    return numbers | ({"match_accuracy": float(np.mean(accuracies))} if accuracies else {})


def _first(cameras: Cameras) -> Cameras:
    return cameras.map(lambda tensor: tensor[0])
