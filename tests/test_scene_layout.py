"""Up and relations, on scenes whose layout is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from blocks import CHAIR, FLOOR, ROOM, TABLE, UP, VASE, WALL, Block, moved, noisy, scene_of, turn
from tolerances import tolerance

from tokengroups.geometry import rigid
from tokengroups.scene.boxes import OrientedBox, oriented_box
from tokengroups.scene.layout import Relation, relations, up_direction
from tokengroups.types import Cameras, TokenScene


def layout(scene: TokenScene) -> tuple[torch.Tensor, list[OrientedBox], list[Relation]]:
    up = up_direction(scene)
    boxes = [oriented_box(scene, column, up) for column in range(len(scene.group_ids))]
    return up, boxes, relations(boxes, scene.group_ids.tolist())


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


@pytest.mark.parametrize("seed", range(50))
def test_noise_does_not_change_the_layout(seed: int) -> None:
    """Level cameras, things that lie square to them and a square vase: ties everywhere."""
    torch.manual_seed(seed)
    scene = scene_of(ROOM)
    up, boxes, found = layout(scene)
    noisy_up, noisy_boxes, noisy_found = layout(noisy(scene, 1e-6))
    near = {"rtol": 0, "atol": 1e-4}  # a hundred times the noise
    torch.testing.assert_close(noisy_up, up, **near)
    for before, after in zip(boxes, noisy_boxes, strict=True):
        torch.testing.assert_close(after.centre, before.centre, **near)
        torch.testing.assert_close(after.size, before.size, **near)
        torch.testing.assert_close(after.axes, before.axes, **near)
    assert noisy_found == found


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


@pytest.mark.parametrize("seed", range(50))
def test_things_made_with_a_ruler_are_related_whatever_the_rounding(seed: int) -> None:
    """Every limit of the rules is met exactly: half a height, half an overlap, half a side, half a volume."""
    torch.manual_seed(seed)
    blocks = {
        "desk": Block((0, 0.5, 3.0), (2.0, 1.0, 1.0)),
        "lamp": Block((1.0, -0.2, 3.0), (0.5, 0.5, 0.4)),  # half beside the desk
        "box": Block((0, 0.5, 1.0), (1.0, 1.0, 1.0)),
        "toy": Block((0, 0.5, 1.0), (1.0, 1.0, 0.5)),  # half of the box
        "stool": Block((0, 1.0, 4.0), (0.5, 0.5, 1.0)),  # half a side beside the desk, half as low
        "rug": Block((3.0, 1.0, 3.0), (1.0, 1.0, 0.1)),
        "mat": Block((3.0, 1.0, 3.0), (1.0, 1.0, 0.1)),  # neither is on the other
    }
    expected = {
        "lamp on desk",
        "toy inside box",
        "stool next to desk",
        "desk next to stool",
        "rug next to mat",
        "mat next to rug",
    }
    boxes = [block.box() for block in blocks.values()]

    def factor(noise: float) -> torch.Tensor:
        return 1 + noise * torch.randn(3).double()

    for noise in (0.0, 1e-15, 1e-6):
        rounded = [replace(box, centre=box.centre * factor(noise), size=box.size * factor(noise)) for box in boxes]
        assert named(relations(rounded, range(len(boxes))), *blocks) == expected


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
