"""Upright boxes, also of shapes that leave their axes to a rounding."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from blocks import CHAIR, UP, VASE, Block, moved, noisy, scene_of, scene_of_points, turn
from tolerances import tolerance

from tokengroups.geometry import rigid
from tokengroups.scene import boxes
from tokengroups.scene.boxes import OrientedBox, oriented_box, oriented_boxes
from tokengroups.scene.quantiles import weighted_quantile
from tokengroups.types import Cameras, TokenScene


@pytest.mark.parametrize("yaw", [0.0, 30.0, 77.0, 130.0])
def test_box_has_the_blocks_place_size_and_yaw(yaw: float) -> None:
    """Equal to a degree, the step of the search, and to a layer of the grid."""
    block = Block((0.3, 0.5, 3.0), (1.0, 0.4, 0.7), yaw)
    box = oriented_box(scene_of([block], points=30), 0, UP)
    torch.testing.assert_close(box.centre, block.box().centre, rtol=0, atol=0.02)
    torch.testing.assert_close(box.size, torch.tensor([0.96, 0.384, 0.672]).double(), rtol=0, atol=0.03)
    assert float((box.axes[0] @ block.axes()[0]).abs()) > math.cos(math.radians(1.01))
    torch.testing.assert_close(box.axes @ box.axes.T, torch.eye(3).double(), **tolerance("float64"))
    assert float(torch.linalg.det(box.axes)) == pytest.approx(1) and torch.equal(box.axes[2], UP)
    assert box.size[0] >= box.size[1]


def test_faint_floaters_do_not_count() -> None:
    scene = scene_of([CHAIR])
    means, opacities = scene.gaussians.means.clone(), scene.gaussians.opacities.clone()
    expected = oriented_box(scene, 0, UP)
    means[:5] = torch.tensor([9.0, -9.0, 9.0]).double()
    opacities[:5] = 0.01
    box = oriented_box(replace(scene, gaussians=replace(scene.gaussians, means=means, opacities=opacities)), 0, UP)
    torch.testing.assert_close(box.size, expected.size, rtol=0, atol=0.13)  # one layer of the grid of 9


def test_single_gaussian_has_an_empty_box() -> None:
    box = oriented_box(scene_of([VASE], points=1), 0, UP)
    assert box.size.tolist() == [0, 0, 0]
    torch.testing.assert_close(box.centre, VASE.box().centre)


def test_group_at_the_camera_has_an_empty_box() -> None:
    scene = scene_of([VASE], points=1)
    at_camera = replace(scene.gaussians, means=0 * scene.gaussians.means)
    box = oriented_box(replace(scene, gaussians=at_camera), 0, UP)
    assert box.size.tolist() == box.centre.tolist() == [0, 0, 0]


def spread(side: torch.Tensor | list[list[float]], height: int = 3) -> torch.Tensor:
    """Points of a footprint (x, z), some metres ahead, in layers of half a metre."""
    plan = torch.as_tensor(side, dtype=torch.float64)
    layers = [torch.cat([plan, torch.full((len(plan), 1), 0.5 * i)], dim=1) for i in range(height)]
    return torch.cat(layers)[:, [0, 2, 1]] + torch.tensor([0.3, 0.0, 3.0])


def ring(corners: int, degrees: float = 0.0) -> torch.Tensor:
    """Corners of a regular polygon."""
    angles = torch.deg2rad(torch.arange(corners).double() * (360 / corners) + degrees)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def symmetric_shapes() -> dict[str, torch.Tensor]:
    """Several yaws of each are exactly as good as each other, some at 45 degrees to the first camera."""
    ticks = torch.linspace(-0.5, 0.5, 10, dtype=torch.float64)
    square, quarter = torch.cartesian_prod(ticks, ticks), ring(4, 45.0)
    oblong, turned = (square * torch.tensor([1.0, 0.3]).double(), torch.tensor([[1.0, 1], [-1, 1]]).double() / 2**0.5)
    return {
        "square": spread(square),
        "square at 45 degrees": spread(square @ turned),
        "square of 1000 points": spread(square, 10),  # 2 % of them: the cut is between two points
        "oblong": spread(oblong),
        "oblong at 45 degrees": spread(oblong @ turned),
        "oblong forward": spread(oblong.flip(1)),
        "four points": spread(quarter),
        "triangle": spread(ring(3, 30.0)),
        "hexagon": spread(ring(6)),
        "octagon": spread(ring(8)),
        "many corners": spread(ring(90)),
        "sheet": spread(square[::10]),
        "sheet halfway between two yaws": spread(square[::10] @ turn((0, 0, 1), 30.5)[:2, :2]),
        "L": spread([[0, 0], [1, 0], [0, 1], [0.5, 0], [0, 0.5]]),
        "pole": spread([[0, 0]]),
        "point": spread([[0, 0]], 1),
        "two points": spread([[0, 0], [0, 1]], 1),
    }


SHAPES = symmetric_shapes()


def seen_by(rotation: torch.Tensor) -> TokenScene:
    """All shapes, where the cameras are turned about the first one's centre."""
    scene = scene_of_points(list(SHAPES.values()))
    cameras = scene.cameras
    rotations = torch.eye(4).double().repeat(2, 1, 1)
    rotations[:, :3, :3] = rotation
    poses = rotations @ cameras.cam_from_world.double()
    return replace(scene, cameras=Cameras(poses, cameras.intrinsics, cameras.size_hw))


def boxes_of(scene: TokenScene, up: torch.Tensor) -> list[OrientedBox]:
    return [oriented_box(scene, column, up) for column in range(len(scene.group_ids))]


TILTS = {  # of the cameras
    "level": turn((1, 0, 0), 0.0),
    "down": turn((1, 0, 0), 35.0),
    "upright": turn((0, 0, 1), 90.0),
    "upside down": turn((0, 0, 1), 180.0),
}


@cache
def undisturbed(tilt: str) -> list[OrientedBox]:
    return boxes_of(seen_by(TILTS[tilt]), UP)


def assert_near(boxes: list[OrientedBox], others: list[OrientedBox], atol: float) -> None:
    for name, box, other in zip(SHAPES, boxes, others, strict=True):
        for field in ("axes", "centre", "size"):
            difference = float((getattr(box, field) - getattr(other, field)).abs().max())
            assert difference < atol, (name, field, getattr(box, field), getattr(other, field))


@pytest.mark.parametrize("seed", range(200))
def test_noise_and_motion_flip_no_axis(seed: int) -> None:
    """Noise of a double's rounding, or of several of a float's."""
    torch.manual_seed(seed)
    tilt = list(TILTS)[seed % 4]
    noise, atol = ((1e-15, 1e-10), (1e-6, 1e-3))[seed // 4 % 2]
    scene = seen_by(TILTS[tilt])
    rotation = turn(torch.randn(3).tolist(), 360 * float(torch.rand(())))
    motion = rigid(rotation, 3 * torch.randn(3).double())
    after = moved(noisy(scene, noise), motion)
    up = torch.nn.functional.normalize(UP + noise * torch.randn(3).double(), dim=0)
    found = [
        OrientedBox(rotation.T @ (box.centre - motion[:3, 3]), box.axes @ rotation, box.size)
        for box in boxes_of(after, rotation @ up)
    ]
    assert_near(undisturbed(tilt), found, atol)


def yaw(axis: torch.Tensor) -> float:
    """Right-handed about up, from the camera's right axis."""
    return math.degrees(math.atan2(float(axis[2]), float(axis[0])))


@pytest.mark.parametrize("degrees", range(-180, 180, 15))
def test_first_axis_of_an_oblong_is_the_long_one_to_the_right_or_ahead(degrees: int) -> None:
    box = oriented_box(scene_of([Block((0.3, 0.5, 3.0), (1.0, 0.4, 0.7), -degrees)]), 0, UP)
    expected = degrees % 180 if degrees % 180 < 138.7 else degrees % 180 - 180
    assert yaw(box.axes[0]) == pytest.approx(expected, abs=1e-6) and box.size[0] > 2 * box.size[1]


@pytest.mark.parametrize("degrees", range(-180, 180, 15))
def test_first_axis_of_a_square_is_the_one_most_to_the_right(degrees: int) -> None:
    for side in (1.0, 0.99, 1.01):
        box = oriented_box(scene_of([Block((0.3, 0.5, 3.0), (1.0, side, 0.7), -degrees)]), 0, UP)
        expected = degrees % 90 if degrees % 90 < 48.7 else degrees % 90 - 90
        assert yaw(box.axes[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["many corners", "pole", "point"])
def test_round_things_lie_along_the_cameras_axis(name: str) -> None:
    scene = scene_of_points([SHAPES[name]])
    right = oriented_box(scene, 0, UP).axes[0]
    torch.testing.assert_close(right, torch.tensor([1.0, 0, 0]).double())
    on_its_side = replace(scene, cameras=seen_by(turn((0, 0, 1), 90.0)).cameras)
    torch.testing.assert_close(oriented_box(on_its_side, 0, UP).axes[0], torch.tensor([0, 0, 1.0]).double())


@pytest.mark.parametrize("seed", range(20))
def test_footprint_is_nearly_the_smallest(seed: int) -> None:
    """Random shapes against many yaws."""
    torch.manual_seed(seed)
    plan = torch.rand(200, 2).double() @ torch.randn(2, 2).double()
    scene = scene_of_points([spread(plan)])
    box = oriented_box(scene, 0, UP)
    areas = []
    for degrees in range(90):
        axes = turn((0, 1, 0), degrees)
        low, high = (scene.gaussians.means @ axes.T).sort(dim=0).values[[11, 588]]  # 2 % of 600 at either end
        areas.append(float((high - low)[0] * (high - low)[2]))
    assert min(areas) * 0.99 < float(box.size[:2].prod()) < min(areas) * 1.05  # 4 %, and what lies between them


def test_all_boxes_are_those_of_each_group() -> None:
    scene = scene_of_points([*SHAPES.values(), *(torch.randn(count, 3) for count in (300, 9000, 300, 40, 40, 9000))])
    for column, box in enumerate(oriented_boxes(scene, UP)):
        alone = oriented_box(scene, column, UP)
        assert all(torch.equal(getattr(box, name), getattr(alone, name)) for name in ("centre", "axes", "size"))


PLANS = ("cloud", "ring", "line", "grid", "one place", "a heavy one", "two far ones", "light outside")


@pytest.mark.parametrize("shape", PLANS)
@pytest.mark.parametrize("count", [200, 5000])
def test_footprints_of_large_groups_are_those_of_all_their_gaussians(shape: str, count: int) -> None:
    """Only some Gaussians are looked at along each direction; along no direction may another one be the end."""
    rng = torch.Generator().manual_seed(0)
    plan = torch.randn(2, count, generator=rng).double() * torch.tensor([[3.0], [1.0]])
    weights = torch.rand(count, generator=rng).double()
    if shape == "ring":
        plan = torch.nn.functional.normalize(plan, dim=0)
    elif shape == "line":
        plan[1] = 0.7 * plan[0]
    elif shape == "grid":
        plan, weights = plan.round(), torch.ones_like(weights)
    elif shape == "one place":
        plan[:] = 1.5
    elif shape == "a heavy one":
        plan[:, 3], weights[3] = torch.tensor([9.0, 9.0]), count
    elif shape == "two far ones":
        plan[:, :2], weights[:2] = torch.tensor([[9.0, -50.0], [0.0, 1.0]]), 0.01 * count
    elif shape == "light outside":
        weights = torch.where(plan.norm(dim=0) > 1, 1e-4 * weights, weights)
    weights /= weights.sum()
    areas = []
    for degrees in range(90):
        x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        sides = torch.stack([x * plan[0] + y * plan[1], x * plan[1] - y * plan[0]])
        low, high = (weighted_quantile(values.T, weights, 0.02) for values in (sides, -sides))
        areas.append(float((low + high).prod()))
    found = boxes._footprint_areas(torch.stack([plan, 2 * plan]), weights.expand(2, -1))
    torch.testing.assert_close(found[0], torch.tensor(areas, dtype=torch.float64), **tolerance("float64"))
    torch.testing.assert_close(found[1], 4 * found[0], **tolerance("float64"))


def test_memory_limit_changes_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few directions at a time, which products of another shape round in another way."""
    scene = scene_of([CHAIR, Block((0.3, 0.5, 3.0), (1.0, 0.4, 0.7), 33.3)], points=12)
    expected = oriented_boxes(scene, UP)
    monkeypatch.setattr("tokengroups.scene.boxes._VALUES_AT_ONCE", 1)
    for box, other in zip(oriented_boxes(scene, UP), expected, strict=True):
        for name in ("centre", "axes", "size"):
            torch.testing.assert_close(getattr(box, name), getattr(other, name), **tolerance("float64"))
