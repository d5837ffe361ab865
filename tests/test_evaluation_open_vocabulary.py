"""2D and 3D mIoU of groups' classes against loops in float64 and sets of voxels."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_evaluation import from_truth, scene  # noqa: F401 (a fixture)
from test_evaluation_semantic import ClassAxes

from tokengroups.data.example import Example
from tokengroups.data.procedural import CLASS_NAMES
from tokengroups.evaluation.open_vocabulary import (
    PREDICTED,
    VOXELS,
    aligned_points,
    class_overlaps,
    measure_classes,
    summarise_classes,
    true_feature_classes,
)
from tokengroups.geometry import rigid, rotation_from_vector
from tokengroups.postprocess import Reconstruction
from tokengroups.types import Semantics, TokenScene

CLASSES = 5


def random_scene_of_classes(seed: int) -> tuple[torch.Tensor, ...]:
    """Classes in blocks, points on a coarse grid with noise; class 4 never occurs, class 3 is only predicted."""
    rng = np.random.default_rng(seed)
    true = rng.integers(-1, 3, (2, 6, 6)).repeat(2, 1).repeat(2, 2)
    predicted = np.where(rng.random(true.shape) < 0.3, rng.integers(-1, 4, true.shape), true)
    true_points = rng.integers(-3, 4, (*true.shape, 3)) * 0.06 + rng.normal(0, 0.01, (*true.shape, 3))
    points = true_points + rng.normal(0, 0.005, true_points.shape)
    valid = rng.random(true.shape) < 0.8
    return tuple(map(torch.from_numpy, (predicted, true, points, true_points, valid)))


def loop_2d(scenes: list[tuple[torch.Tensor, ...]]) -> tuple[float, float]:
    """MIoU and mAcc from one confusion matrix."""
    confusion = np.zeros((CLASSES, CLASSES + 1))
    for predicted, true, *_ in scenes:
        for p, t in zip(predicted.flatten().tolist(), true.flatten().tolist(), strict=True):
            if t >= 0:
                confusion[t, p] += 1  # -1 is the last column
    ious, accuracies = [], []
    for c in range(CLASSES):
        union = confusion[c].sum() + confusion[:, c].sum() - confusion[c, c]
        if union:
            ious.append(confusion[c, c] / union)
        if confusion[c].sum():
            accuracies.append(confusion[c, c] / confusion[c].sum())
    return float(np.mean(ious)), float(np.mean(accuracies))


def loop_3d(scenes: list[tuple[torch.Tensor, ...]], side: float) -> float:
    """Sets of voxels of every class by itself."""
    both, union = np.zeros(CLASSES), np.zeros(CLASSES)
    for scene_ in scenes:
        sets: tuple[dict, dict] = (defaultdict(set), defaultdict(set))
        predicted, true, points, true_points, valid = (each.flatten(0, 2).tolist() for each in scene_)
        for p, t, point, true_point, known in zip(predicted, true, points, true_points, valid, strict=True):
            if known and t >= 0:
                for into, label, place in ((sets[0], p, point), (sets[1], t, true_point)):
                    into[label].add(tuple(math.floor(x / side) for x in place))
        for c in range(CLASSES):
            both[c] += len(sets[0][c] & sets[1][c])
            union[c] += len(sets[0][c] | sets[1][c])
    return float((both / np.maximum(union, 1))[union > 0].mean())


def test_numbers_are_loops() -> None:
    scenes = [random_scene_of_classes(seed) for seed in range(3)]
    overlaps = [{PREDICTED: class_overlaps(*each, CLASSES)} for each in scenes]
    numbers = summarise_classes(overlaps)
    miou, macc = loop_2d(scenes)
    assert numbers["miou_2d"] == pytest.approx(miou, abs=1e-12) and 0.3 < miou < 0.8
    assert numbers["macc_2d"] == pytest.approx(macc, abs=1e-12)
    assert numbers["miou_2d_scene_mean"] == pytest.approx(np.mean([loop_2d([each])[0] for each in scenes]), abs=1e-6)
    assert numbers["macc_2d_scene_mean"] == pytest.approx(np.mean([loop_2d([each])[1] for each in scenes]), abs=1e-6)
    assert numbers["miou_2d_scene_mean"] != pytest.approx(miou, abs=1e-3)
    assert {"3d": 0.05, "3d_2cm": 0.02, "3d_10cm": 0.1} == VOXELS
    for kind, side in VOXELS.items():
        expected = loop_3d(scenes, side)
        assert 0.05 < expected < 0.9
        assert numbers[f"miou_{kind}"] == pytest.approx(expected, abs=1e-12), kind
        alone = np.mean([loop_3d([each], side) for each in scenes])
        assert numbers[f"miou_{kind}_scene_mean"] == pytest.approx(alone, abs=1e-6)
    assert math.isnan(numbers["miou_2d_true_features"])


def test_a_voxel_counts_for_every_class_in_it() -> None:
    """Two pixels of different classes at one place: both classes are right."""
    labels = torch.tensor([[[0, 1]]])
    points = torch.full((1, 1, 2, 3), 0.01, dtype=torch.float64)
    found = class_overlaps(labels, labels, points, points, torch.ones(1, 1, 2, dtype=torch.bool), 2)
    assert found["3d"].correct.tolist() == [[1, 1]] == found["3d"].true.tolist()
    swapped = class_overlaps(1 - labels, labels, points, points, torch.ones(1, 1, 2, dtype=torch.bool), 2)
    assert swapped["3d"].correct.tolist() == [[1, 1]] and swapped["2d"].correct.tolist() == [[0, 0]]


def test_points_far_away_are_counted() -> None:
    labels = torch.zeros(1, 1, 3, dtype=torch.int64)
    true = torch.tensor([[[[0.01, 0, 0], [-0.01, 0, 0], [5.0, 0, 0]]]], dtype=torch.float64)
    predicted = torch.tensor([[[[0.02, 0, 0], [1e12, 0, 0], [-1e12, -1e300, 5.0]]]], dtype=torch.float64)
    found = class_overlaps(labels, labels, predicted, true, torch.ones(1, 1, 3, dtype=torch.bool), 1)["3d"]
    assert (found.correct.item(), found.predicted.item(), found.true.item()) == (1, 3, 3)


def test_nothing_measured_is_nan() -> None:
    numbers = summarise_classes([{}])
    assert all(math.isnan(value) for value in numbers.values()) and len(numbers) == 20
    assert set(numbers) == set(summarise_classes([]))
    unlabelled = torch.full((1, 2, 2), -1)
    points = torch.zeros(1, 2, 2, 3, dtype=torch.float64)
    nothing = class_overlaps(unlabelled + 1, unlabelled, points, points, unlabelled < 0, 2)
    assert math.isnan(summarise_classes([{PREDICTED: nothing}])["miou_3d"])


def test_true_features_are_the_mean_text_of_a_group_s_pixels() -> None:
    texts = torch.nn.functional.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    rng = np.random.default_rng(1)
    columns, true = (torch.from_numpy(rng.integers(-1, 4, (2, 8, 8))) for _ in range(2))
    got = true_feature_classes(columns, true, 6, texts)
    for group in range(6):
        inside = true[(columns == group) & (true >= 0)]
        expected = int((texts[inside].double().sum(dim=0) @ texts.double().T).argmax()) if len(inside) else -1
        assert int(got[group]) == expected


# --- on reconstructions -----------------------------------------------------------------------------------------------


def named(made: Reconstruction, truth: Example, renamed: dict[str, str]) -> Reconstruction:
    """Every group is embedded as its true class, or as what that is renamed to."""
    ids = truth.context.group_ids[made.anchor_pixels.unbind(-1)].unique().tolist()
    names = [truth.classes[0].get(instance, "") for instance in ids]
    embeddings = ClassAxes().encode_text([renamed.get(name, name) for name in names])
    count = len(made.scene.anchors)
    none = torch.zeros(count, 0), torch.zeros(len(CLASS_NAMES), 0)
    semantics = Semantics(embeddings, *none, torch.tensor([40.0, 0.5]), "all:1")
    return replace(made, scene=replace(made.scene, semantics=semantics))


def columns(made: Reconstruction, truth: Example) -> torch.Tensor:
    ids = truth.context.group_ids[made.anchor_pixels.unbind(-1)].unique()
    place = torch.searchsorted(ids, truth.context.group_ids).clamp(max=len(ids) - 1)
    return torch.where(ids[place] == truth.context.group_ids, place, -1)


def measured(made: Reconstruction, truth: Example, vocabulary: tuple[str, ...] = CLASS_NAMES) -> dict[str, float]:
    found = measure_classes(made, columns(made, truth), truth.context, truth.classes[0], ClassAxes(), vocabulary)
    return summarise_classes([found])


def test_truth_scores_nearly_one_and_a_wrong_name_costs_its_classes(scene: Example) -> None:  # noqa: F811
    made = from_truth(scene.context)
    right = measured(named(made, scene, {}), scene)
    for name in ("miou_2d", "macc_2d", "miou_3d", "miou_3d_2cm", "miou_3d_10cm"):
        assert right[name] == right[f"{name}_true_features"] > 0.75, name  # some instances are too thin for an anchor
    wrong = measured(named(made, scene, {"floor": "wall"}), scene)
    assert wrong["miou_2d"] < right["miou_2d"] - 0.05 and wrong["miou_3d"] < right["miou_3d"] - 0.05
    assert wrong["miou_2d_true_features"] == right["miou_2d_true_features"]
    plain = measured(made, scene)
    assert math.isnan(plain["miou_2d"]) and plain["miou_2d_true_features"] == right["miou_2d_true_features"]


def moved(world: TokenScene, other_from_world: torch.Tensor, scale: float) -> TokenScene:
    cameras = world.cameras.cam_from_world @ torch.linalg.inv(other_from_world)
    cameras[:, :3, 3] *= scale
    return replace(world, cameras=replace(world.cameras, cam_from_world=cameras))


def test_world_and_scale_of_the_prediction_do_not_matter(scene: Example) -> None:  # noqa: F811
    made = named(from_truth(scene.context), scene, {})
    other = rigid(rotation_from_vector(torch.tensor([0.3, 0.9, -0.4])), torch.tensor([0.5, -0.2, 1.0]))
    elsewhere = replace(made, scene=moved(made.scene, other, 3.0), depth=3 * made.depth)
    points, true_points, valid = aligned_points(elsewhere, scene.context)
    assert float((points - true_points)[valid].norm(dim=-1).max()) < 1e-4
    for name, value in measured(made, scene).items():
        assert measured(elsewhere, scene)[name] == pytest.approx(value, abs=0.02), name  # points on a voxel's side
    bent = replace(made, depth=made.depth * torch.linspace(0.8, 1.2, made.depth.shape[-1]))
    assert measured(bent, scene)["miou_3d"] < measured(made, scene)["miou_3d"] - 0.1
    assert measured(bent, scene)["miou_2d"] == measured(made, scene)["miou_2d"]


def test_unknown_depths_and_classes_do_not_count(scene: Example) -> None:  # noqa: F811
    made = named(from_truth(scene.context), scene, {})
    context, right = scene.context, measured(made, scene)
    holes = made.depth.clone()
    holes[:, :4] = 0
    depth = context.depth.clone()
    depth[:, :4] = 0
    same = measured(replace(made, depth=holes), replace(scene, context=replace(context, depth=depth)))
    assert same["miou_3d"] > 0.75 and same["miou_2d"] == right["miou_2d"]
    short = measured(made, scene, ("wall", "floor", "other"))
    assert short["miou_2d"] > 0.9  # "other" is no class: its pixels are unlabelled
    assert summarise_classes([measure_classes(
        made, columns(made, scene), context, scene.classes[0], ClassAxes(), ("other",)
    )]).keys() == right.keys()  # fmt: skip
