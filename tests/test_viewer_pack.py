"""Packed scenes: what comes out is the scene, within the rounding that the layout allows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scenes import random_scene

import tokengroups as tg
from tokengroups.errors import UserError
from tokengroups.geometry import rotation_from_quaternion
from tokengroups.render import render
from tokengroups.scene.groups import gaussian_columns, group_box
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians, TokenScene
from tokengroups.viewer import look, pack, pack_scene

# Relative errors of numbers that are rounded to half precision first and then to fewer bits.
SCALES, SHADES = 2**-7 + 2**-11, 2**-8 + 2**-11


@dataclass(frozen=True)
class Unpacked:
    header: dict[str, Any]
    gaussians: Gaussians
    groups: np.ndarray
    shares: np.ndarray | None
    anchors: np.ndarray | None


def unpacked(data: bytes) -> Unpacked:
    """Read the layout as the docstring of `pack.py` describes it."""
    assert data[:4] == b"TGPK"
    end = 8 + int.from_bytes(data[4:8], "little")
    header, rest = json.loads(data[8:end]), data[end:]
    count, degree = header["gaussians"], header["sh_degree"]

    def block(width: int) -> np.ndarray:
        nonlocal rest
        part, rest = rest[: count * width], rest[count * width :]
        return np.ascontiguousarray(np.frombuffer(part, np.uint8).reshape(width, count).T)

    splats = block(32)
    halves = splats[:, 16:30].copy().view("<f2").astype(np.float32)
    colors = torch.from_numpy((halves[:, 4:, None] - 0.5) / SH_C0).permute(0, 2, 1)
    gaussians = Gaussians(
        means=torch.from_numpy(splats[:, :12].copy().view("<f4") + np.array(header["origin"])).float(),
        quats=torch.tensor([quaternion(bits) for bits in splats[:, 12:16].copy().view("<u4")[:, 0].tolist()]),
        scales=torch.from_numpy(halves[:, :3] * header["scale_unit"]),
        opacities=torch.from_numpy(halves[:, 3]),
        sh=torch.cat([colors, harmonics(block(16 * degree), degree)], dim=1) if degree else colors,
    )
    shares = block(3) if header["soft"] else None
    anchors = block(4).copy().view("<i4")[:, 0].cumsum() if header["anchors"] else None
    assert rest == b""
    return Unpacked(header, gaussians, splats[:, 30:].copy().view("<u2")[:, 0], shares, anchors)


def quaternion(bits: int) -> list[float]:
    largest, levels = bits >> 30, [(bits >> shift & 1023) - 511 for shift in (20, 10, 0)]
    others = [level / 511 / 2**0.5 for level in levels]
    others.insert(largest, max(1 - sum(value**2 for value in others), 0) ** 0.5)
    return others


def harmonics(records: np.ndarray, degree: int) -> torch.Tensor:
    count = 3 * degree * (degree + 2)
    largest = records[:, -2:].copy().view("<f2").astype(np.float32)
    return torch.from_numpy(records[:, :count].view(np.int8) * largest / 127).reshape(len(records), -1, 3).float()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_unpacked_is_the_scene(degree: int) -> None:
    scene = random_scene(degree=degree)
    found, given = unpacked(pack_scene(scene, "a title").data), scene.gaussians
    assert found.header["title"] == "a title" and found.header["gaussians"] == found.header["total"] == 24
    origin = torch.tensor(found.header["origin"]).float()
    assert bool(((found.gaussians.means - given.means).abs() <= 2**-16 * (given.means - origin).abs() + 1e-6).all())
    assert bool(((found.gaussians.scales / given.scales - 1).abs() <= SCALES).all())
    assert bool(((found.gaussians.opacities / given.opacities - 1).abs() <= SHADES).all())
    turns = rotation_from_quaternion(found.gaussians.quats) - rotation_from_quaternion(given.quats)
    assert turns.abs().max() < 4e-3  # 10 bits
    colors, wanted = (0.5 + SH_C0 * each.sh[:, 0] for each in (found.gaussians, given))
    assert bool(((colors - wanted).abs() <= SHADES * wanted.abs() + 1e-7).all())
    largest = given.sh[:, 1:].abs().flatten(1).amax(dim=1) if degree else torch.zeros(24)
    assert bool(((found.gaussians.sh - given.sh)[:, 1:].abs() <= (0.5 / 127 + SHADES) * largest[:, None, None]).all())
    assert found.groups.tolist() == gaussian_columns(scene).tolist()
    assert found.anchors is not None and found.anchors.tolist() == scene.anchor_ids.tolist()


def test_shares_are_those_of_the_two_most_probable_groups() -> None:
    scene = random_scene(groups=4)
    found = unpacked(pack_scene(scene).data)
    shares, columns = scene.assignment[scene.anchor_ids].topk(2, dim=1)
    assert found.shares is not None
    assert found.shares[:, :2].copy().view("<u2")[:, 0].tolist() == columns[:, 1].tolist()
    levels = np.stack([found.shares[:, 2] >> 4, found.shares[:, 2] & 15], axis=1)
    assert np.abs(levels / 15 - shares.numpy()).max() <= 0.5 / 15 + 1e-6
    hard = replace(scene, assignment=torch.nn.functional.one_hot(scene.assignment.argmax(dim=1), 4).float())
    assert unpacked(pack_scene(hard).data).shares is None


def test_the_header_describes_groups_and_cameras() -> None:
    scene = tg.example_scene()
    header = unpacked(pack_scene(scene).data).header
    assert [(group["id"], group["name"], group["count"]) for group in header["groups"]] == [
        (1, "floor", 117), (2, "box", 296), (3, "ball", 200)
    ]  # fmt: skip
    assert header["groups"][1]["centre"] == pytest.approx([-0.6, 0.5, 3.2], abs=1e-3)
    assert header["groups"][1]["color"] == [204, 64, 51]
    low, high = group_box(scene, 1)
    assert header["groups"][1]["size"] == pytest.approx((high - low).tolist(), rel=1e-3)
    assert sum(group["share"] for group in header["groups"]) == pytest.approx(0.36, abs=0.01)
    assert header["size_hw"] == [48, 64]
    view, pose = header["cameras"][1]["view"], scene.cameras.cam_from_world[1].double().numpy()
    assert view["rotation"] == pose[:3, :3].flatten().tolist() and view["distance"] == header["focus_depth"]
    np.testing.assert_allclose(pose[:3, :3] @ np.add(view["eye"], header["origin"]) + pose[:3, 3], 0, atol=1e-12)
    assert view["lens"] == {"fx": 60, "fy": 60, "cx": 32, "cy": 24, "width": 64, "height": 48}
    assert header["film"] == [640, 480] and header["gaussians"] == header["total"] == 613
    np.testing.assert_allclose(header["frame"], [[1, 0, 0], [0, -1, 0], [0, 0, 1]], atol=1e-6)  # right, up, forward
    assert 2 < header["focus_depth"] < 4 and header["digits"] == 4 and header["snap"] == 0.1
    mine = gaussian_columns(scene) == 1
    assert header["groups"][1]["weight"] == pytest.approx(float(scene.gaussians.opacities[mine].sum()), rel=1e-5)


@pytest.mark.parametrize("up", [(0.1, -0.98, -0.15), (0.99, 0.05, 0.1), (0.0, 0.0, 1.0)])
def test_the_frame_is_level_and_looks_as_the_world(up: tuple[float, float, float]) -> None:
    frame = pack._frame(torch.tensor(up)).numpy()
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(frame[1], np.array(up) / np.linalg.norm(up), atol=1e-7)
    assert np.linalg.det(frame) < 0  # right, up, forward: left-handed
    assert max(frame[0][0], frame[0][2]) > 0.9


def test_the_header_has_pictures_of_groups_and_photos_where_they_are_known() -> None:
    scene = tg.example_scene()
    looks = look(scene)
    header = unpacked(pack_scene(scene).data).header
    assert [group["picture"] for group in header["groups"]] == list(looks.portraits)
    assert all("photo" not in camera for camera in header["cameras"])
    fewer = replace(
        looks, portraits=(None, "data:image/webp;base64,AA", None), photos=("data:image/jpeg;base64,AA", None)
    )
    header = unpacked(pack_scene(scene, looks=fewer).data).header
    assert ["picture" in group for group in header["groups"]] == [False, True, False]
    assert header["cameras"][0]["photo"] == "data:image/jpeg;base64,AA" and "photo" not in header["cameras"][1]
    for other in (replace(looks, photos=("data:a",)), look(random_scene(groups=2))):
        with pytest.raises(ValueError, match="looks of another scene"):
            pack_scene(scene, looks=other)


def test_a_packed_scene_renders_like_the_scene() -> None:
    scene = random_scene(groups=5, anchors_per_group=8, per_anchor=16, degree=3)
    cameras = scene.cameras
    pictures = [
        render(each, cameras.cam_from_world, cameras.intrinsics, cameras.size_hw).colors
        for each in (scene.gaussians, unpacked(pack_scene(scene).data).gaussians)
    ]
    assert (pictures[0] - pictures[1]).abs().mean() < 0.5 / 255


def test_scales_of_any_size_survive() -> None:
    """Millimetres and kilometres, flat and infinitely small Gaussians, and an outlier."""
    scene = random_scene()
    scales = scene.gaussians.scales.clone()
    scales[0], scales[1, 2] = 0, 0
    for factor in (1e-6, 1.0, 1e6):
        found = unpacked(pack_scene(with_gaussians(scene, scales=factor * scales)).data).gaussians.scales
        torch.testing.assert_close(found, factor * scales, rtol=SCALES, atol=0)
    scales[2] = 1e9
    found = unpacked(pack_scene(with_gaussians(scene, scales=scales)).data).gaussians.scales
    assert found[2].min() > 1e4 and bool((found[3:] / scales[3:] - 1).abs().max() <= SCALES)


def test_faint_and_small_gaussians_are_left_out_first() -> None:
    scene = random_scene(groups=3)
    packed = pack_scene(scene, max_gaussians=10)
    assert (packed.shown, packed.total) == (10, 24)
    two_largest = scene.gaussians.scales.topk(2, dim=1).values.prod(dim=1)
    best = (scene.gaussians.opacities * two_largest).topk(10).indices.sort().values
    found = unpacked(packed.data)
    torch.testing.assert_close(found.gaussians.opacities, scene.gaussians.opacities[best], rtol=SCALES, atol=0)
    assert found.groups.tolist() == gaussian_columns(scene)[best].tolist()
    assert sum(group["count"] for group in found.header["groups"]) == 24  # of the scene
    assert found.anchors is None  # some of their Gaussians are missing
    assert pack_scene(scene, max_gaussians=100).shown == 24


def test_one_group_and_many() -> None:
    assert len(unpacked(pack_scene(random_scene(groups=1)).data).header["groups"]) == 1
    many = unpacked(pack_scene(random_scene(groups=2000, anchors_per_group=1, per_anchor=1)).data)
    assert len(many.header["groups"]) == 2000 and many.groups.max() > 1900


def test_bad_scenes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = random_scene()
    means = scene.gaussians.means.clone()
    means[3, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        pack_scene(with_gaussians(scene, means=means))
    none = replace(scene, gaussians=scene.gaussians.map(lambda each: each[:0]), anchor_ids=torch.zeros(0).long())
    with pytest.raises(ValueError, match="no Gaussian"):
        pack_scene(none)
    monkeypatch.setattr(pack, "MAX_GROUPS", 2)
    with pytest.raises(UserError, match="3 groups; the viewer shows at most 2"):
        pack_scene(scene)


def with_gaussians(scene: TokenScene, **changes: torch.Tensor) -> TokenScene:
    return replace(scene, gaussians=replace(scene.gaussians, **changes))
