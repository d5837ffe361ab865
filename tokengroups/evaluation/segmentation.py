"""Open-vocabulary segmentation: classes of rendered pixels, accuracy and three kinds of mIoU.

I images, C names of the vocabulary, P pixels, n basis vectors of a pixel's feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

OTHER = "other"  # the name of all classes that a vocabulary with this name does not list


@dataclass(frozen=True)
class ClassCounts:
    """Number of labelled pixels per image and class; or of voxels per scene and class."""

    correct: Int64[np.ndarray, "I C"]
    predicted: Int64[np.ndarray, "I C"]
    true: Int64[np.ndarray, "I C"]


@dataclass(frozen=True)
class SegmentationScores:
    """Accuracy and mIoU over a set of images; NaN where no pixel is labelled."""

    accuracy: float  # of all labelled pixels of the set together
    image_present: float  # IoU per class over the images with it in truth or prediction (torchmetrics >= 1.7.1)
    image_zero: float  # the same over all images, 0 where the class is absent (torchmetrics 1.4.2 to 1.7.0)
    dataset: float  # from one confusion matrix over the set, classes that occur
    mean_accuracy: float  # of each true class's pixels of the set together, then the mean over the classes


def classify_pixels(
    coefficients: Float[Tensor, "V H W n"], basis: Float[Tensor, "n D"], names: Float[Tensor, "C D"]
) -> Int64[Tensor, "V H W"]:
    """Name of the largest cosine with the feature of every pixel; -1 where nothing is rendered.

    Args:
        coefficients: Rendered group probabilities and residuals; alpha scales them, which changes no cosine.
        basis: Group embeddings, then the rows of W_r^T.
        names: Unit embeddings of the vocabulary.
    """
    # Inner products order the cosines: the length of the pixel's feature is the same for all names.
    products = coefficients @ (basis @ names.to(basis).T)
    return torch.where((coefficients != 0).any(dim=-1), products.argmax(dim=-1), -1)


def vocabulary_rows(classes: Mapping[int, str], vocabulary: Sequence[str]) -> dict[int, int]:
    """Map instances to rows of the vocabulary; classes outside it are `OTHER`, or left out without that name."""
    rows = {name: row for row, name in enumerate(vocabulary)}
    named = {instance: rows.get(name, rows.get(OTHER)) for instance, name in classes.items()}
    return {instance: row for instance, row in named.items() if row is not None}


def count_classes(predicted: Int[np.ndarray, "I H W"], true: Int[np.ndarray, "I H W"], num_classes: int) -> ClassCounts:
    """Count labelled pixels per image and class; a predicted -1 is wrong, a true -1 is unlabelled."""
    labelled = true >= 0
    return ClassCounts(
        correct=_histograms(np.where(labelled & (predicted == true), true, -1), num_classes),
        predicted=_histograms(np.where(labelled, predicted, -1), num_classes),
        true=_histograms(true, num_classes),
    )


def segmentation_scores(scenes: Sequence[ClassCounts]) -> SegmentationScores:
    """Accuracy and mIoU over the images of all scenes."""
    if not any(scene.true.any() for scene in scenes):
        return SegmentationScores(*[float("nan")] * 5)
    correct, predicted, true = (
        np.concatenate([getattr(scene, name) for scene in scenes]) for name in ("correct", "predicted", "true")
    )
    unions = predicted + true - correct
    ious, present = correct / np.maximum(unions, 1), unions > 0
    images = present.sum(axis=0)
    occurs, labelled = images > 0, true.sum(axis=0) > 0
    return SegmentationScores(
        accuracy=float(correct.sum() / true.sum()),
        image_present=float((ious.sum(axis=0)[occurs] / images[occurs]).mean()),
        image_zero=float(ious.mean()),
        dataset=float((correct.sum(axis=0)[occurs] / unions.sum(axis=0)[occurs]).mean()),
        mean_accuracy=float((correct.sum(axis=0)[labelled] / true.sum(axis=0)[labelled]).mean()),
    )


def _histograms(classes: np.ndarray, num_classes: int) -> Int64[np.ndarray, "I C"]:
    return np.stack([np.bincount(image[image >= 0], minlength=num_classes) for image in classes.astype(np.int64)])
