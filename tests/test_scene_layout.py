"""Up, upright boxes and relations, on scenes whose layout is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from scenes import two_cameras
from tolerances import tolerance

from tokengroups.geometry import invert_rigid, rigid, rotation_from_quaternion
from tokengroups.scene.layout import OrientedBox, Relation, oriented_box, relations, up_direction
from tokengroups.types import Cameras, Gaussians, TokenScene


@dataclass(frozen=True)
class Block:
    """A box that stands in a world with y down, turned by a yaw about the up axis."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]  # two horizontal sides, height
    yaw_degrees: float = 0.0

    def axes(self) -> torch.Tensor:
        c, s = math.cos(math.radians(self.yaw_degrees)), math.sin(math.radians(self.yaw_degrees))
        return torch.tensor([[c, 0, -s], [s, 0, c], [0, -1.0, 0]], dtype=torch.float64)

    def box(self) -> OrientedBox:
        """The true box, for the tests of the rules."""
        sizes = torch.tensor(self.size, dtype=torch.float64)
        return OrientedBox(torch.tensor(self.centre, dtype=torch.float64), self.axes(), sizes)


FLOOR = Block((0, 1.0, 3.0), (4.0, 3.0, 0.04))
TABLE = Block((0, 0.6, 3.0), (1.2, 0.7, 0.8), 30.0)
VASE = Block((0.1, 0.05, 3.05), (0.2, 0.2, 0.3))
CHAIR = Block((1.0, 0.5, 3.0), (0.5, 0.4, 1.0), 10.0)
WALL = Block((0, -0.2, 4.4), (4.0, 0.1, 2.4))
ROOM = [FLOOR, TABLE, VASE, CHAIR, WALL]


def scene_of(blocks: Sequence[Block], points: int = 9) -> TokenScene:
    """One group per block, a regular grid of equal Gaussians in each; float64."""
    ticks = (torch.arange(points, dtype=torch.float64) + 0.5) / points - 0.5
    grid = torch.cartesian_prod(ticks, ticks, ticks)
    parts = [block.box().centre + (grid * block.box().size) @ block.axes() for block in blocks]
    means, each = torch.cat(parts), len(grid)
    n = len(means)
    return TokenScene(
        gaussians=Gaussians(
            means, torch.tensor([[1.0, 0, 0, 0]]).double().repeat(n, 1), torch.full((n, 3), 0.01).double(),
            torch.full((n,), 0.8).double(), torch.zeros(n, 1, 3).double(),
        ),
        anchor_ids=torch.arange(len(blocks)).repeat_interleave(each),
        anchors=torch.stack([part.mean(dim=0) for part in parts]),
        assignment=torch.eye(len(blocks), dtype=torch.float64),
        group_ids=10 + torch.arange(len(blocks)),
        group_tokens=torch.zeros(len(blocks), 0),
        cameras=two_cameras(),
    )  # fmt: skip


def moved(scene: TokenScene, new_from_world: torch.Tensor) -> TokenScene:
    """The same scene in another world."""
    poses = scene.cameras.cam_from_world.double() @ invert_rigid(new_from_world)
    means = scene.gaussians.means @ new_from_world[:3, :3].T + new_from_world[:3, 3]
    cameras = Cameras(poses, scene.cameras.intrinsics, scene.cameras.size_hw)
    return replace(scene, gaussians=replace(scene.gaussians, means=means), cameras=cameras)


def turn(axis: Sequence[float], degrees: float) -> torch.Tensor:
    half = math.radians(degrees) / 2
    unit = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0)
    quat = torch.cat([torch.tensor([math.cos(half)], dtype=torch.float64), math.sin(half) * unit])
    return rotation_from_quaternion(quat)


def layout(scene: TokenScene) -> tuple[torch.Tensor, list[OrientedBox], list[Relation]]:
    up = up_direction(scene)
    boxes = [oriented_box(scene, column, up) for column in range(len(scene.group_ids))]
    return up, boxes, relations(boxes, scene.group_ids.tolist())


UP = torch.tensor([0, -1.0, 0], dtype=torch.float64)


@pytest.mark.parametrize("yaw", [0.0, 30.0, 77.0, 130.0])
def test_box_has_the_blocks_place_size_and_yaw(yaw: float) -> None:
    """To a degree, the step of the search, and to a layer of the grid."""
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
    box = oriented_box(
        replace(scene, gaussians=replace(scene.gaussians, means=means, opacities=opacities)), 0, UP
    )
    torch.testing.assert_close(box.size, expected.size, rtol=0, atol=0.13)  # one layer of the grid of 9


def test_single_gaussian_has_an_empty_box() -> None:
    box = oriented_box(scene_of([VASE], points=1), 0, UP)
    assert box.size.tolist() == [0, 0, 0]
    torch.testing.assert_close(box.centre, VASE.box().centre)


@pytest.mark.parametrize(("axis", "degrees"), [((1, 0, 0), -30.0), ((0, 0, 1), 15.0), ((1, 1, 1), 25.0)])
def test_up_is_the_floors_normal_for_tilted_cameras(axis: tuple[float, ...], degrees: float) -> None:
    """Cameras look down or roll: the world is the first one's, the floor is where it is."""
    tilt = turn(axis, degrees)
    scene = scene_of(ROOM)
    means = scene.gaussians.means @ tilt.T
    tilted = replace(scene, gaussians=replace(scene.gaussians, means=means))
    torch.testing.assert_close(up_direction(tilted), tilt @ UP, **tolerance("float64"))


def test_up_without_a_floor_is_the_cameras() -> None:
    scene = scene_of([WALL, CHAIR])
    torch.testing.assert_close(up_direction(scene), UP)
    cameras = scene.cameras
    rolled = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    rolled[:, :3, :3] = torch.stack([turn((0, 0, 1), 20), turn((0, 0, 1), -20)])
    both = replace(scene, cameras=Cameras(rolled, cameras.intrinsics, cameras.size_hw))
    torch.testing.assert_close(up_direction(both), UP)
    rolled[1, :3, :3] = turn((0, 0, 1), 200)  # they cancel out: the first one counts
    opposed = replace(scene, cameras=Cameras(rolled, cameras.intrinsics, cameras.size_hw))
    torch.testing.assert_close(up_direction(opposed), -rolled[0, 1, :3])


def test_layout_moves_with_the_scene() -> None:
    scene = scene_of(ROOM)
    motion = rigid(turn((1, 2, 3), 100.0), torch.tensor([1.0, -2, 0.5]).double())
    up, boxes, found = layout(scene)
    moved_up, moved_boxes, moved_found = layout(moved(scene, motion))
    rotation = motion[:3, :3]
    exact = tolerance("float32")  # the cameras of the first scene are float32
    torch.testing.assert_close(moved_up, rotation @ up, **exact)
    for before, after in zip(boxes, moved_boxes, strict=True):
        torch.testing.assert_close(after.centre, rotation @ before.centre + motion[:3, 3], **exact)
        torch.testing.assert_close(after.size, before.size, **exact)
        torch.testing.assert_close(after.axes, before.axes @ rotation.T, **exact)
    assert moved_found == found


def named(found: list[Relation], *names: str) -> set[str]:
    return {f"{names[r.group]} {r.kind} {names[r.other]}" for r in found}


def related(blocks: Sequence[Block], *names: str) -> set[str]:
    return named(relations([block.box() for block in blocks], range(len(blocks))), *names)


def test_relations_of_a_room() -> None:
    expected = {
        "table on floor", "vase on table", "chair on floor", "chair next to table", "table next to chair",
    }  # fmt: skip
    assert related(ROOM, "floor", "table", "vase", "chair", "wall") == expected


def test_relations_do_not_depend_on_the_order() -> None:
    scene = scene_of(ROOM)
    names = ["floor", "table", "vase", "chair", "wall"]
    order = [3, 0, 4, 2, 1]
    shuffled = scene_of([ROOM[column] for column in order])
    found, again = layout(scene)[2], layout(shuffled)[2]
    first = {f"{names[r.group - 10]} {r.kind} {names[r.other - 10]}" for r in found}
    assert first == {f"{names[order[r.group - 10]]} {r.kind} {names[order[r.other - 10]]}" for r in again}
    assert len(first) == 5


def shifted(block: Block, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Block:
    a, b, c = block.centre
    return replace(block, centre=(a + x, b + y, c + z))


@pytest.mark.parametrize(
    ("vase", "holds"),
    [
        (VASE, True),
        (shifted(VASE, y=-0.15), True),  # floats by noise
        (shifted(VASE, y=0.12), True),  # sunk by noise
        (shifted(VASE, y=-0.3), False),  # hangs above
        (shifted(VASE, y=0.35), False),  # in the drawer
        (shifted(VASE, x=0.9), False),  # in front of the table
        (shifted(VASE, y=0.95), False),  # below
    ],
)
def test_on(vase: Block, holds: bool) -> None:
    assert ("vase on table" in related([FLOOR, TABLE, vase], "floor", "table", "vase")) == holds


def test_things_stand_anywhere_in_a_floors_thickness_and_beside_its_seen_part() -> None:
    thick = replace(FLOOR, size=(4.0, 3.0, 0.4))
    assert "chair on floor" in related([thick, CHAIR], "floor", "chair")
    outside = shifted(CHAIR, x=1.3)
    assert "chair on floor" in related([FLOOR, outside], "floor", "chair")
    assert related([FLOOR, shifted(outside, x=0.5)], "floor", "chair") == set()


def test_inside() -> None:
    bin_, paper = Block((1.0, 0.7, 3.0), (0.4, 0.4, 0.5)), Block((1.0, 0.75, 3.0), (0.2, 0.2, 0.2), 45.0)
    assert related([bin_, paper], "bin", "paper") == {"paper inside bin"}
    assert "paper inside bin" not in related([bin_, shifted(paper, y=-0.3)], "bin", "paper")
    assert "paper inside bin" not in related([bin_, shifted(paper, x=0.2)], "bin", "paper")
    alike = replace(paper, size=(0.35, 0.35, 0.5), centre=bin_.centre, yaw_degrees=0.0)
    assert "alike inside bin" not in related([bin_, alike], "bin", "alike")


def test_next_to() -> None:
    both = {"chair next to stool", "stool next to chair"}
    stool = Block((1.6, 0.75, 3.0), (0.4, 0.4, 0.5))
    assert related([CHAIR, stool], "chair", "stool") == both
    assert related([CHAIR, shifted(stool, x=0.2)], "chair", "stool") == set()
    assert related([CHAIR, shifted(stool, y=-1.2)], "chair", "stool") == set()
    crossing = [Block((0, 0, 3), (1.0, 0.4, 0.5)), Block((0, 0, 3), (1.0, 0.4, 0.5), 90.0)]
    assert related(crossing, "chair", "stool") == both  # boxes that go through each other touch


def test_structure_is_next_to_nothing() -> None:
    boxes = [block.box() for block in (CHAIR, Block((1.6, 0.75, 3.0), (0.4, 0.4, 0.5)))]
    assert len(relations(boxes, [4, 7])) == 2
    assert relations(boxes, [4, 7], ["", "Wall"]) == []
    near_wall = shifted(CHAIR, z=1.2)
    assert related([FLOOR, WALL, near_wall], "floor", "wall", "chair") == {"chair on floor"}


def test_no_groups_have_no_relations() -> None:
    assert relations([], []) == []
