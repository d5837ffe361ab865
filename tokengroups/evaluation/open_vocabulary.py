"""Open-vocabulary segmentation by groups: every pixel of a group takes the group's class (IGGT, section 4.3).

A class is the name of largest cosine among a list; there is no threshold and no name for all else. 2D: pixels of the
photos with a true class. 3D: the points of those that have a true depth too, moved to the truth by one similarity, and
a set of occupied voxels for every class by itself, so that a voxel may count for several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.alignment import similarity
from tokengroups.evaluation.scene_numbers import nanmean
from tokengroups.evaluation.segmentation import OTHER, ClassCounts, count_classes, segmentation_scores, vocabulary_rows
from tokengroups.geometry import transform_points, world_points
from tokengroups.postprocess import Reconstruction
from tokengroups.retrieval import best_names
from tokengroups.text import TextEncoder
from tokengroups.text.teachers import look_up
from tokengroups.types import Views

VOXELS = {"3d": 0.05, "3d_2cm": 0.02, "3d_10cm": 0.1}  # sides in metres by the name of the number
PREDICTED, TRUE_FEATURES = "", "_true_features"  # source of the groups' embeddings; a suffix in the JSON
CLASS_NUMBERS = tuple(
    f"{name}{suffix}"
    for suffix in (PREDICTED, TRUE_FEATURES)
    for name in ("miou_2d", "macc_2d", *(f"miou_{kind}" for kind in VOXELS))
)
_REACH = 2**20  # voxels from the origin; points beyond count in the outermost one

ClassOverlaps = dict[str, ClassCounts]  # of one scene: pixels as "2d", voxels under the names of `VOXELS`


def measure_classes(
    prediction: Reconstruction,
    columns: Int64[Tensor, "V H W"],
    context: Views,
    classes: Mapping[int, str],
    encoder: TextEncoder,
    vocabulary: Sequence[str],
) -> dict[str, ClassOverlaps]:
    """Overlaps of predicted and true classes of one scene, by the source of the groups' embeddings.

    Args:
        prediction: The reconstruction; `PREDICTED` is left out if its scene has no semantics.
        columns: Column of the group at every pixel of the photos; -1 = none.
        context: The photos with their truth, unbatched.
        classes: Class names of the true instances.
        encoder: Text encoder, of the semantics' space where there are some.
        vocabulary: Class list; `OTHER` is no class.
    """
    names = [name for name in vocabulary if name != OTHER]
    if not names:
        return {}
    texts = encoder.encode_text(names).to(columns.device)
    true = look_up(context.group_ids, vocabulary_rows(classes, names))
    semantics = prediction.scene.semantics
    number = len(prediction.scene.group_ids)
    found = {TRUE_FEATURES: true_feature_classes(columns, true, number, texts)}
    if semantics is not None:
        found[PREDICTED] = best_names(semantics.embeddings, texts)
    points, true_points, valid = aligned_points(prediction, context)
    return {
        suffix: class_overlaps(_of_pixels(rows, columns), true, points, true_points, valid, len(names))
        for suffix, rows in found.items()
    }


def true_feature_classes(
    columns: Int64[Tensor, "V H W"], true: Int64[Tensor, "V H W"], num_groups: int, texts: Float[Tensor, "C D"]
) -> Int64[Tensor, " L"]:
    """Classes of the groups where an image encoder gives every pixel the text embedding of its true class: a ceiling.

    Groups are pooled like those of any other encoder; -1 = no labelled pixel.
    """
    both = (columns >= 0) & (true >= 0)
    counts = torch.bincount(columns[both] * len(texts) + true[both], minlength=num_groups * len(texts))
    pooled = functional.normalize(counts.view(num_groups, -1).to(texts) @ texts, dim=1)
    return best_names(pooled, texts)


def class_overlaps(
    predicted: Int64[Tensor, "V H W"],
    true: Int64[Tensor, "V H W"],
    points: Float[Tensor, "V H W 3"],
    true_points: Float[Tensor, "V H W 3"],
    valid: Bool[Tensor, "V H W"],
    num_classes: int,
) -> ClassOverlaps:
    """Count pixels, and occupied voxels of every class.

    Args:
        predicted: Class of every pixel; -1 = none, which is wrong.
        true: True class; -1 = unlabelled.
        points: Predicted points of the pixels, in metres of the true world.
        true_points: True points.
        valid: Where both are known.
        num_classes: Number of classes.
    """
    mine, theirs = (each.cpu().numpy().reshape(1, 1, -1) for each in (predicted, true))
    overlaps = {"2d": count_classes(mine, theirs, num_classes)}
    counted = valid & (true >= 0)
    labels = [each[counted].cpu().numpy() for each in (predicted, true)]
    places = [each[counted].double().cpu().numpy() for each in (points, true_points)]
    for kind, side in VOXELS.items():
        keys = [_voxel_keys(each, side) for each in places]
        overlaps[kind] = _count_voxels(keys, labels, num_classes)
    return overlaps


def aligned_points(
    prediction: Reconstruction, context: Views
) -> tuple[Float[Tensor, "V H W 3"], Float[Tensor, "V H W 3"], Bool[Tensor, "V H W"]]:
    """Predicted points of the photos' pixels, moved by one similarity to the true ones; these; where both are known."""
    cameras, depth = prediction.scene.cameras.to(torch.float64), prediction.depth.double()
    points = world_points(depth, cameras.cam_from_world, cameras.intrinsics)
    true_cameras = context.cameras.to(torch.float64)
    true_points = world_points(context.depth.double(), true_cameras.cam_from_world, true_cameras.intrinsics)
    valid = (context.depth > 0) & (depth > 0) & points.isfinite().all(dim=-1)
    true_from_predicted = similarity(points[valid], true_points[valid])
    moved = transform_points(true_from_predicted, points.flatten(0, 2)).view_as(points)
    return moved, true_points, valid


def summarise_classes(scenes: Sequence[Mapping[str, ClassOverlaps]]) -> dict[str, float]:
    """IoU and accuracy per class from the pooled counts of all scenes, then their means; NaN where nothing is measured.

    Classes that occur in truth or prediction count, for the accuracy those in the truth. With ``_scene_mean`` in the
    name: the mean over the scenes of the same number of each scene alone.
    """
    numbers = {}
    for suffix in (PREDICTED, TRUE_FEATURES):
        measured = [scene[suffix] for scene in scenes if suffix in scene]
        pooled, alone = _scores(measured), [_scores([scene]) for scene in measured]
        for name, value in pooled.items():
            numbers[f"{name}{suffix}"] = value
            numbers[f"{name}_scene_mean{suffix}"] = nanmean([each[name] for each in alone])
    return numbers


def _scores(scenes: Sequence[ClassOverlaps]) -> dict[str, float]:
    found = {kind: segmentation_scores([scene[kind] for scene in scenes]) for kind in ("2d", *VOXELS)}
    return {"macc_2d": found["2d"].mean_accuracy} | {f"miou_{kind}": each.dataset for kind, each in found.items()}


def _of_pixels(rows: Int64[Tensor, " L"], columns: Int64[Tensor, "V H W"]) -> Int64[Tensor, "V H W"]:
    return torch.where(columns >= 0, rows.to(columns.device)[columns.clamp(min=0)], -1)


def _voxel_keys(points: Float[np.ndarray, "P 3"], side: float) -> Int64[np.ndarray, " P"]:
    """One number for every voxel; the grid's origin is the world's."""
    steps = np.clip(np.floor(points / side), -_REACH, _REACH - 1).astype(np.int64) + _REACH
    return (steps[:, 0] * 2 * _REACH + steps[:, 1]) * 2 * _REACH + steps[:, 2]


def _count_voxels(
    keys: Sequence[Int64[np.ndarray, " P"]], labels: Sequence[Int64[np.ndarray, " P"]], num_classes: int
) -> ClassCounts:
    """Voxels of every class in prediction, truth and both."""
    common, predicted, true = np.zeros((3, 1, num_classes), np.int64)
    for row in range(num_classes):
        mine, theirs = (np.unique(key[label == row]) for key, label in zip(keys, labels, strict=True))
        both = np.intersect1d(mine, theirs, assume_unique=True)
        common[0, row], predicted[0, row], true[0, row] = len(both), len(mine), len(theirs)
    return ClassCounts(common, predicted, true)
