"""Evaluation of reconstructions made from the truth, where every number is known or bounded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tokengroups.compat import prepare_torchvision
from tokengroups.data.augment import crop_views, to_views
from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import generate_room
from tokengroups.errors import UserError
from tokengroups.evaluation.evaluate import evaluate_scenes, nearest_view_psnr, oracle_groups
from tokengroups.evaluation.masks import group_masks, group_overlaps
from tokengroups.evaluation.open_vocabulary import summarise_classes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.evaluation.report import format_report
from tokengroups.geometry import (
    invert_rigid,
    relative_cameras,
    rigid,
    rotation_from_quaternion,
    transform_points,
    world_points,
)
from tokengroups.losses.perceptual import Lpips
from tokengroups.losses.photometric import psnr
from tokengroups.postprocess import PhotoGroups, Reconstruction
from tokengroups.types import Cameras, Gaussians, TokenScene, Views

DATA = EvaluationData("procedural", FramePlan(2), split="test", seed=5)
SIZE = 64
AP_NAMES = [f"{level}_{kind}" for level in ("ap", "ap50", "ap25") for kind in ("all", "objects")]


@pytest.fixture(scope="module")
def scene() -> Example:
    return cut_example(generate_room(5, 0, "test", num_views=5, size=SIZE), DATA.plan, SIZE)


def from_truth(context: Views, unit: float = 1.0) -> Reconstruction:
    """A reconstruction with true depth, poses and groups; an anchor and Gaussian at every second pixel."""
    first = context.cameras.cam_from_world[0]
    cam_from_world = relative_cameras(context.cameras.cam_from_world, first, torch.tensor(unit))
    depth = context.depth * unit
    points = world_points(depth, cam_from_world, context.cameras.intrinsics)
    steps = torch.arange(0, depth.shape[-1], 2)
    pixels = torch.cartesian_prod(torch.arange(len(depth)), steps, steps)
    at = pixels.unbind(-1)
    scales = depth[at] / context.cameras.intrinsics[0, 0, 0]
    ids, groups = context.group_ids[at].unique(return_inverse=True)
    count = len(pixels)
    gaussians = Gaussians(
        means=points[at],
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=scales[:, None].expand(count, 3),
        opacities=torch.full((count,), 0.95),
        sh=(context.images.permute(0, 2, 3, 1)[at][:, None] - 0.5) / 0.28209479177387814,
    )
    token_scene = TokenScene(
        gaussians=gaussians,
        anchor_ids=torch.arange(count),
        anchors=points[at],
        assignment=functional.one_hot(groups).float(),
        group_ids=torch.arange(len(ids)),
        group_tokens=torch.zeros(len(ids), 0),
        cameras=Cameras(cam_from_world, context.cameras.intrinsics, context.cameras.size_hw),
    )
    return Reconstruction(token_scene, depth, pixels)


def _evaluate(scene: Example, prediction: Reconstruction, perceptual: Lpips | None = None) -> dict:
    result = evaluate_scenes(lambda _: prediction, [scene], DATA, "truth", perceptual)
    return json.loads(json.dumps(result.to_json(), allow_nan=False))


def test_reconstruction_from_the_truth(scene: Example) -> None:
    numbers = _evaluate(scene, from_truth(scene.context))
    assert numbers["depth_absrel"] < 1e-5 and numbers["point_error"] < 1e-5
    assert numbers["rotation_error_deg"] < 1e-3 and numbers["translation_error_deg"] < 1e-3
    assert numbers["translation_length_ratio"] == pytest.approx(1, abs=1e-5)
    assert numbers["psnr"] > numbers["psnr_nearest_view"] + 1 and numbers["ssim"] > 0.5
    for name in AP_NAMES:
        assert numbers[name] == numbers[f"{name}_oracle"]
    assert 0.3 < numbers["ap_all"] <= 1 and numbers["ap25_all"] > 0.8
    assert numbers["groups_used"] == numbers["per_scene"][0]["groups_used"] > 3


TRACK_NAMES = (
    "t_miou", "t_miou_all_views", "t_sr", "ap_photos_all", "ap50_photos_all", "ap25_photos_all", "ap_photos_objects",
    "ap50_photos_objects", "ap25_photos_objects",
)  # fmt: skip


def test_json_has_exactly_the_documented_keys(scene: Example) -> None:
    numbers = _evaluate(scene, from_truth(scene.context))
    suffixes = ("", "_oracle", "_planes_hdbscan")
    assert set(numbers) == {
        "protocol", "psnr", "ssim", "lpips", "metrics", *(name + suffix for name in AP_NAMES for suffix in suffixes),
        "psnr_nearest_view", "depth_absrel", "point_error", "rotation_error_deg", "translation_error_deg",
        "translation_length_ratio", "groups_used", "seconds_per_scene", "per_scene",
        "miou_source", "miou_target", "acc_source", "acc_target", "miou_source_dataset", "miou_target_dataset",
        "miou_source_image_zero", "miou_target_image_zero", "recall1_names", "recall1_unseen", "recall1_names_50",
        "recall1_unseen_50", "recall1_names_true_labels", "recall1_unseen_true_labels", "recall1_names_true_groups",
        "recall1_unseen_true_groups", "calibration_error_names", "calibration_error_unseen", "semantic_units",
        "semantic_scalars", "semantic_bytes", "semantic_scalars_per_gaussian_baseline", "query_ms",
        "search_ms",
        "search_ms_gaussians",
        "t_miou_ceiling", "class_ap50", *summarise_classes([]),
        *(name + suffix for name in TRACK_NAMES for suffix in ("", "_planes_hdbscan")),
    }  # fmt: skip
    protocol = numbers["protocol"]
    assert protocol["context_frames"] == [1, 3] and protocol["target_frames"] == [0, 2, 4]
    assert protocol["ap_thresholds"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.25]
    assert protocol["num_scenes"] == 1 and protocol["image_size_hw"] == [SIZE, SIZE]
    assert "no target pixel" in protocol["text"]


def test_named_groups_are_scored_by_class(scene: Example) -> None:
    """By the names of the photos' own masks, or else of the scene's groups."""
    made, ids = from_truth(scene.context), scene.context.group_ids
    keys, labels = ids.unique(return_inverse=True)
    unlabelled = int((keys < 0).sum())
    keys, labels = keys[unlabelled:].tolist(), labels - unlabelled
    classes = scene.classes[0]
    assert _evaluate(scene, made)["class_ap50"] is None

    def own(names: list[str]) -> float:
        groups = PhotoGroups(labels, torch.ones(len(keys)), names=tuple(names))
        return _evaluate(scene, replace(made, photo_groups=groups))["class_ap50"]

    assert own([classes[key] for key in keys]) == 1.0
    assert own(["no such class"] * len(keys)) == 0.0
    large = sorted({classes[key] for key in keys if (ids == key).sum() >= 100})
    forgotten = ["" if classes[key] == large[0] else classes[key] for key in keys]
    assert own(forgotten) == pytest.approx(1 - 1 / len(large))

    groups, at = made.scene.assignment.argmax(dim=1), ids[made.anchor_pixels.unbind(-1)]
    names = tuple(classes.get(int(at[groups == group][0]), "") for group in range(made.scene.assignment.shape[1]))
    rendered = _evaluate(scene, replace(made, scene=replace(made.scene, group_names=names)))["class_ap50"]
    assert 0.8 < rendered <= 1.0


def test_any_world_of_the_prediction_will_do(scene: Example) -> None:
    """Cameras, anchors and Gaussians moved together give the same numbers."""
    prediction = from_truth(scene.context)
    world = prediction.scene
    turned = rotation_from_quaternion(torch.tensor([0.9, 0.1, 0.3, -0.2]))
    other_from_world = rigid(turned, torch.tensor([0.5, -0.2, 1.0]))
    elsewhere = replace(
        world,
        gaussians=replace(world.gaussians, means=transform_points(other_from_world, world.gaussians.means)),
        anchors=transform_points(other_from_world, world.anchors),
        cameras=replace(world.cameras, cam_from_world=world.cameras.cam_from_world @ invert_rigid(other_from_world)),
    )
    here, there = _evaluate(scene, prediction), _evaluate(scene, replace(prediction, scene=elsewhere))
    for name in ("psnr", "ssim", "ap_all", "ap50_objects", "point_error", "rotation_error_deg"):
        assert there[name] == pytest.approx(here[name], abs=2e-3), name


@pytest.mark.parametrize("unit", [0.2, 7.0])
def test_unit_of_the_prediction_does_not_matter(scene: Example, unit: float) -> None:
    metres, other = (_evaluate(scene, from_truth(scene.context)), _evaluate(scene, from_truth(scene.context, unit)))
    assert other["per_scene"][0]["scale"] == pytest.approx(unit, rel=1e-5)
    for name in ("psnr", "ssim", "ap_all", "ap50_objects_planes_hdbscan", "translation_length_ratio"):
        assert other[name] == pytest.approx(metres[name], abs=0.02), name


def test_target_photos_change_nothing_but_the_image_scores(scene: Example) -> None:
    prediction = from_truth(scene.context)
    blind = replace(scene, targets=replace(scene.targets, images=torch.zeros_like(scene.targets.images)))
    seen, unseen = _evaluate(scene, prediction), _evaluate(blind, prediction)
    image_scores = {"protocol", "psnr", "ssim", "psnr_nearest_view", "seconds_per_scene", "per_scene"}
    assert {k: v for k, v in seen.items() if k not in image_scores} == {
        k: v for k, v in unseen.items() if k not in image_scores
    }
    assert unseen["psnr"] < seen["psnr"]
    assert unseen["protocol"]["data_sha256"] != seen["protocol"]["data_sha256"]


def test_one_group_for_everything_scores_worse_than_the_oracle(scene: Example) -> None:
    prediction = from_truth(scene.context)
    lumped = replace(
        prediction.scene,
        assignment=torch.ones(len(prediction.scene.anchors), 1),
        group_ids=torch.zeros(1, dtype=torch.int64),
        group_tokens=torch.zeros(1, 0),
    )
    numbers = _evaluate(scene, replace(prediction, scene=lumped))
    assert numbers["ap_all"] == 0 < numbers["ap_all_oracle"] and numbers["groups_used"] == 1


def test_single_view_leaves_the_pose_undefined() -> None:
    data = EvaluationData("procedural", FramePlan(1), split="test", seed=5)
    scene = cut_example(generate_room(5, 0, "test", num_views=3, size=SIZE), data.plan, SIZE)
    result = evaluate_scenes(lambda _: from_truth(scene.context), [scene], data, "truth")
    assert result.to_json()["rotation_error_deg"] is None
    assert "rotation error (deg)" in format_report(result)


def test_random_lpips_trunk_is_never_reported(scene: Example) -> None:
    prediction = from_truth(scene.context)
    assert _evaluate(scene, prediction, Lpips("squeeze"))["lpips"] is None
    report = format_report(evaluate_scenes(lambda _: prediction, [scene], DATA, "truth"))
    assert next(line for line in report.splitlines() if line.startswith("LPIPS")).split() == ["LPIPS", "-"]


def test_lpips_with_trunk_weights_is_reported_with_its_trunk(scene: Example, tmp_path: Path) -> None:
    prepare_torchvision()
    import torchvision

    trunk = tmp_path / "trunk.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), trunk)
    numbers = _evaluate(scene, from_truth(scene.context), Lpips("squeeze", trunk))
    assert numbers["lpips"] > 0 and "squeezenet1_1" in numbers["protocol"]["lpips"]


def test_no_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="no scene"):
        evaluate_scenes(lambda _: pytest.fail("not called"), [], DATA, "truth")


def test_oracle_takes_the_instance_at_each_anchors_pixel() -> None:
    ids = torch.tensor([[[4, 4], [-1, 9]], [[9, 9], [9, 4]]])
    assignment, columns = oracle_groups(ids, torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 1], [1, 0, 1]]))
    assert columns.tolist() == [-1, 4, 9]
    assert assignment.argmax(dim=-1).tolist() == [1, 0, 1, 2]


def test_nearest_view_is_chosen_by_camera_distance(scene: Example) -> None:
    moved = scene.targets.cameras.cam_from_world.clone()
    moved[:] = scene.context.cameras.cam_from_world[1]
    targets = replace(scene.targets, cameras=replace(scene.targets.cameras, cam_from_world=moved))
    expected = psnr(scene.context.images[1].expand_as(targets.images), targets.images).mean().item()
    assert nearest_view_psnr(scene.context, targets) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [-1e-7, 0.0, 1e-7])
def test_first_of_equally_near_views_is_taken(scene: Example, shift: float) -> None:
    poses = torch.eye(4).double().repeat(len(scene.context.images), 1, 1)
    poses[:, 0, 3] = torch.arange(len(poses))
    between = torch.eye(4).double().repeat(len(scene.targets.images), 1, 1)
    between[:, 0, 3] = 0.5 + shift
    context = replace(scene.context, cameras=replace(scene.context.cameras, cam_from_world=poses))
    targets = replace(scene.targets, cameras=replace(scene.targets.cameras, cam_from_world=between))
    expected = psnr(scene.context.images[0].expand_as(targets.images), targets.images).mean().item()
    assert nearest_view_psnr(context, targets) == pytest.approx(expected)


def test_masks_are_the_argmax_where_covered_with_the_mean_probability_as_score() -> None:
    probabilities = torch.tensor([[[[0.6, 0.3], [0.2, 0.7], [0.3, 0.1], [0.55, 0.4]]]])
    masks = group_masks(probabilities, torch.tensor([[[0.9, 0.9, 0.4, 0.95]]]))
    assert masks.masks.tolist() == [[True, False, False, True], [False, True, False, False]]
    assert masks.confidences == pytest.approx([0.575, 0.7])


def test_structure_is_void_for_objects_only() -> None:
    ids = np.repeat([0, 1, 2, -1], 200)[None, None]
    probabilities = functional.one_hot(torch.from_numpy(ids).clamp(min=0), 3).float()
    predicted = group_masks(probabilities, torch.ones(1, 1, 800))
    overlaps = group_overlaps(predicted, ids, {0: "wall", 1: "chair", 2: "floor"})
    assert overlaps.all.instance_sizes.tolist() == [200, 200, 200]
    assert overlaps.all.void.tolist() == [200, 0, 0]
    assert overlaps.objects.instance_sizes.tolist() == [200]
    assert overlaps.objects.void.tolist() == [400, 0, 200]


def test_scenes_without_depth_are_refused(scene: Example) -> None:
    context = replace(scene.context, depth=torch.zeros_like(scene.context.depth))
    with pytest.raises(UserError, match="scene test_5_000000: its depth is unknown"):
        _evaluate(replace(scene, context=context), from_truth(scene.context))


def test_frames_of_the_protocol() -> None:
    frames = generate_room(5, 1, "test", num_views=5, size=16)
    scene = cut_example(frames, FramePlan(2), 16)
    assert torch.equal(scene.context.images, to_views(frames, [1, 3]).images)
    assert torch.equal(scene.targets.images, to_views(frames, [0, 2, 4]).images)
    wide = FramePlan(3, frame_step=10)
    assert wide.context == (10, 30, 50) and wide.targets == (0, 20, 40, 60)
    assert list(range(100))[wide.span] == [0, 10, 20, 30, 40, 50, 60]
    with pytest.raises(UserError, match="1 frames at frame step 10, but 3 views need 7"):
        cut_example(frames, wide)


def test_crops_keep_points_on_their_pixels() -> None:
    """A crop and a resize move pixels and intrinsics together: the same rays, the same depths."""
    frames = generate_room(5, 1, "test", num_views=2, size=64)
    shift = np.array([[0, 0, 8.0], [0, 0, 0], [0, 0, 0]])
    tall = replace(
        frames, images=frames.images[:, :, 8:56], depth=frames.depth[:, :, 8:56],
        group_ids=frames.group_ids[:, :, 8:56], intrinsics=frames.intrinsics - shift,
    )  # fmt: skip
    views = to_views(tall, [0, 1])
    small = crop_views(views, (24, 24))
    assert small.images.shape == (2, 3, 24, 24) and small.cameras.size_hw == (24, 24)
    points = world_points(views.depth, views.cameras.cam_from_world, views.cameras.intrinsics)
    expected = points[:, 9:57:2, 1::2]  # the crop starts at row 8; the nearest pixel of cell i is 2 i + 1
    rays = world_points(small.depth, small.cameras.cam_from_world, small.cameras.intrinsics)
    torch.testing.assert_close(small.depth, views.depth[:, 9:57:2, 1::2])
    pixel = small.depth / small.cameras.intrinsics[0, 0, 0]
    assert ((rays - expected).norm(dim=-1) < pixel).all()  # half a source pixel off at most
    assert torch.equal(crop_views(small, (24, 24)).images, small.images)


def test_a_zoom_lengthens_the_focal_length_and_keeps_points_on_their_pixels() -> None:
    frames = generate_room(5, 1, "test", num_views=2, size=64)
    views = to_views(frames, [0, 1])
    zoomed = crop_views(views, (64, 64), zoom=2.0)
    torch.testing.assert_close(
        zoomed.cameras.intrinsics[:, 0, 0], 2 * views.cameras.intrinsics[:, 0, 0], rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        zoomed.depth, views.depth[:, 16:48, 16:48].repeat_interleave(2, 1).repeat_interleave(2, 2)
    )
    points = world_points(views.depth, views.cameras.cam_from_world, views.cameras.intrinsics)
    got = world_points(zoomed.depth, zoomed.cameras.cam_from_world, zoomed.cameras.intrinsics)
    expected = points[:, 16:48, 16:48].repeat_interleave(2, 1).repeat_interleave(2, 2)
    pixel = zoomed.depth / zoomed.cameras.intrinsics[0, 0, 0]
    assert ((got - expected).norm(dim=-1) < pixel).all()
