"""Fitting one scene: whole fits of small rooms, and what a fitted scene promises."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_clustering import box_room, purity
from tolerances import tolerance

from tokengroups.config import build_config
from tokengroups.data.augment import to_views
from tokengroups.data.procedural.generate import generate_room
from tokengroups.editing import remove
from tokengroups.errors import UserError
from tokengroups.evaluation.masks import group_masks, group_overlaps, group_scores
from tokengroups.fitting import FitConfig, FitProgress, FitResult, fit_scene
from tokengroups.fitting.clusters import cluster_groups
from tokengroups.geometry import invert_rigid, rigid, rotation_from_quaternion, world_points
from tokengroups.io.points import PointCloud
from tokengroups.losses.photometric import psnr
from tokengroups.render import render
from tokengroups.scene import export_scene, import_scene, load_scene, render_views, save_scene
from tokengroups.types import Cameras, Gaussians, TokenScene, Views

SIZE = 48
SHORT = FitConfig(steps=300, num_gaussians=1500)


@cache
def room() -> tuple[Views, Views, dict[int, str]]:
    """Four photos to train on, the five between and around them, and the classes."""
    frames = generate_room(7, 0, "test", num_views=9, size=SIZE)
    return to_views(frames, range(1, 9, 2)), to_views(frames, range(0, 9, 2)), frames.instance_classes


@cache
def fitted() -> FitResult:
    return fit_scene(room()[0], SHORT)


def judge(result: FitResult, views: Views, classes: dict[int, str]) -> tuple[float, dict[str, float]]:
    """PSNR and AP on views that were not trained on."""
    scene, cameras = result.scene, result.to_scene(views.cameras)
    out = render(
        scene.gaussians, cameras.cam_from_world, cameras.intrinsics, cameras.size_hw,
        anchor_ids=scene.anchor_ids, anchor_features=scene.assignment,
    )  # fmt: skip
    assert out.features is not None
    overlaps = group_overlaps(group_masks(out.features, out.alphas), views.group_ids.numpy(), classes)
    quality = psnr(out.colors.permute(0, 3, 1, 2).clamp(0, 1), views.images).mean()
    return float(quality), group_scores([overlaps])


def test_a_short_fit_beats_its_start_by_far() -> None:
    context, targets, classes = room()
    before = fit_scene(context, replace(SHORT, steps=1))
    start_psnr, start = judge(before, targets, classes)
    end_psnr, end = judge(fitted(), targets, classes)
    assert sum(fitted().psnr) / 4 > 25 > sum(before.psnr) / 4 + 4
    assert end_psnr > start_psnr + 1
    assert end["ap25_all"] > 0.5 > start["ap25_all"] + 0.3


def test_groups_are_the_masks_in_the_photos() -> None:
    context, result = room()[0], fitted()
    assert set(result.scene.group_ids.tolist()) <= set(context.group_ids.unique().tolist()) - {-1}
    for view, ids in zip(render_views(result.scene, result.scene.cameras), context.group_ids, strict=True):
        labelled = ids >= 0
        assert float((view.group_map == ids)[labelled].float().mean()) > 0.85


def test_the_same_seed_gives_the_same_scene() -> None:
    config = FitConfig(steps=60, num_gaussians=300)
    one, two = (fit_scene(room()[0], config).scene for _ in range(2))
    other = fit_scene(room()[0], replace(config, seed=1)).scene
    for name, values in vars(one.gaussians).items():
        assert torch.equal(values, getattr(two.gaussians, name)), name
    assert torch.equal(one.assignment, two.assignment)
    assert not torch.equal(one.gaussians.means, other.gaussians.means[: len(one.gaussians.means)])


@pytest.mark.parametrize("unit", [1000.0, 0.001])
def test_world_and_unit_of_the_cameras_do_not_matter(unit: float) -> None:
    """Cameras turned, moved and in millimetres or kilometres: the same pictures from the same places."""
    context, targets, classes = room()
    turned = rotation_from_quaternion(torch.tensor([0.9, 0.1, 0.3, -0.2]))
    other_from_world = rigid(turned, torch.tensor([0.5, -0.2, 1.0]))

    def elsewhere(views: Views) -> Views:
        poses = views.cameras.cam_from_world @ invert_rigid(other_from_world)
        poses[:, :3, 3] *= unit
        return replace(views, cameras=replace(views.cameras, cam_from_world=poses))

    config = FitConfig(steps=40, num_gaussians=800)
    here, there = fit_scene(context, config), fit_scene(elsewhere(context), config)
    extents = [float(result.scene.gaussians.means.norm(dim=1).median()) for result in (here, there)]
    assert bool(there.notes) == (unit < 0.1)  # nothing that small could be rendered: the near plane is 0.01
    if not there.notes:
        assert extents[1] / extents[0] == pytest.approx(unit, rel=0.05)
    assert judge(there, elsewhere(targets), classes)[0] == pytest.approx(judge(here, targets, classes)[0], abs=0.5)


def test_a_scene_keeps_the_convention_of_the_first_camera() -> None:
    context, result = room()[0], fitted()
    torch.testing.assert_close(result.scene.cameras.cam_from_world[0], torch.eye(4), **tolerance("float32_chain"))
    world_from_scene = torch.tensor(result.scene.provenance["world_from_scene"], dtype=torch.float64)
    back = result.scene.cameras.cam_from_world.double() @ invert_rigid(world_from_scene)
    torch.testing.assert_close(back, context.cameras.cam_from_world.double(), **tolerance("float32_chain"))


def test_given_points_are_where_a_fit_begins() -> None:
    """True points in the cameras' world: one step leaves the Gaussians there, in the scene's frame."""
    context = room()[0]
    positions = world_points(context.depth, context.cameras.cam_from_world, context.cameras.intrinsics)
    known = context.depth > 0
    colors = context.images.permute(0, 2, 3, 1)[known]
    cloud = PointCloud(positions[known], colors)
    result = fit_scene(context, FitConfig(steps=1, num_gaussians=1200), cloud)
    assert result.scene.provenance["points"] == "given" and len(result.scene.gaussians.means) == 1200
    back = result.scene_from_world.float()
    expected = cloud.positions @ back[:3, :3].T + back[:3, 3]
    gaps = torch.cdist(result.scene.gaussians.means, expected).amin(dim=1)
    assert float(gaps.median()) < 0.02


def test_fewer_points_than_gaussians_grow_to_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokengroups.fitting.optimisation._RELOCATION_STEPS", 10)
    context = room()[0]
    positions = world_points(context.depth, context.cameras.cam_from_world, context.cameras.intrinsics)
    few = positions.flatten(0, 2)[::150]
    cloud = PointCloud(few, torch.full_like(few, 0.5))
    result = fit_scene(context, FitConfig(steps=120, num_gaussians=150), cloud)
    assert len(few) < 80 < len(result.scene.gaussians.means) <= 150


def test_a_fitted_scene_is_saved_edited_and_exported(tmp_path: Path) -> None:
    scene = fitted().scene
    save_scene(tmp_path / "scene.safetensors", scene)
    loaded = load_scene(tmp_path / "scene.safetensors")
    assert loaded.provenance == scene.provenance and torch.equal(loaded.assignment, scene.assignment)
    gone = int(scene.group_ids[0])
    assert gone not in remove(loaded, [gone]).group_ids.tolist()
    export_scene(scene, tmp_path / "scene.ply")
    again = import_scene(tmp_path / "scene.ply").scene
    assert sorted(again.group_ids.tolist()) == sorted(scene.group_ids.tolist())
    assert len(again.gaussians.means) == len(scene.gaussians.means)


def test_progress_is_told_after_every_step() -> None:
    told: list[FitProgress] = []
    fit_scene(room()[0], FitConfig(steps=3, num_gaussians=50), progress=told.append)
    assert [now.step for now in told] == [1, 2, 3]


def test_one_photo_and_higher_harmonics_work() -> None:
    lone = room()[0].select([0])
    scene: TokenScene = fit_scene(lone, FitConfig(steps=20, num_gaussians=200, sh_degree=2)).scene
    assert scene.gaussians.sh.shape[1:] == (9, 3) and len(scene.cameras.intrinsics) == 1


def test_photos_without_a_mask_teach_colour_only() -> None:
    context = room()[0]
    ids = context.group_ids.clone()
    ids[1:] = -1
    scene = fit_scene(replace(context, group_ids=ids), FitConfig(steps=20, num_gaussians=200)).scene
    assert set(scene.group_ids.tolist()) <= set(ids[0].unique().tolist())


def test_nothing_labelled_gives_clusters_and_the_same_colours() -> None:
    context, config = room()[0], FitConfig(steps=20, num_gaussians=400)
    result = fit_scene(replace(context, group_ids=torch.full_like(context.group_ids, -1)), config)
    assert result.scene.provenance["groups"] == "clusters of positions"
    expected, ids = cluster_groups(result.scene.gaussians, config.seed)
    assert torch.equal(result.scene.assignment, expected) and torch.equal(result.scene.group_ids, ids)
    assert sum(result.psnr) / 4 == pytest.approx(sum(fit_scene(context, config).psnr) / 4, abs=0.5)


def test_clusters_are_the_parts_of_a_room() -> None:
    """Floor, two walls and two boxes; every Gaussian gets one group, more than are clustered."""
    positions, truth = box_room()
    means = torch.from_numpy(positions).repeat(4, 1)
    means += 0.005 * torch.randn(means.shape, generator=torch.Generator().manual_seed(0))
    count = len(means)
    gaussians = Gaussians(
        means, torch.ones(count, 4), torch.ones(count, 3), torch.full((count,), 0.5), torch.zeros(count, 1, 3)
    )
    assignment, ids = cluster_groups(gaussians, 0)
    assert count > 2000 and assignment.shape == (count, len(ids)) and ids.tolist() == list(range(1, len(ids) + 1))
    assert bool((assignment.sum(dim=1) == 1).all()) and bool((assignment.amax(dim=1) == 1).all())
    assert purity(assignment.argmax(dim=1).numpy(), np.tile(truth, 4)) > 0.95 and len(ids) < 12
    assert torch.equal(cluster_groups(gaussians, 0)[0], assignment)


def test_tiny_photos_are_refused() -> None:
    pinhole = torch.tensor([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]])[None]
    cameras = Cameras(torch.eye(4)[None], pinhole, (8, 8))
    views = Views(torch.zeros(1, 3, 8, 8), cameras, torch.zeros(1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="too small"):
        fit_scene(views)


WRONG = [{"steps": 0}, {"num_gaussians": 0}, {"sh_degree": 4}, {"seed": -1}, {"seed": 2**63}]
NO_NUMBERS = [{"steps": float("nan")}, {"steps": float("inf")}, {"num_gaussians": 0.5}, {"seed": "0"}]


@pytest.mark.parametrize("wrong", [*WRONG, *NO_NUMBERS])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"the settings: the key '{next(iter(wrong))}' must be"):
        build_config(FitConfig, wrong, "the settings")


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_out_of_range_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be a whole number"):
        FitConfig(**wrong)
