"""transforms.json, COLMAP models, named cameras and masks: known projections, and answers to bad files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.lenses import BLANK, Lens, distort, undistort
from tokengroups.io.matching import find_masks
from tokengroups.io.pixels import read_mask, resize_nearest
from tokengroups.io.points import load_points
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.io.posed_photos import MaskSource, load_posed_photos
from tokengroups.io.transforms import load_transforms

# An OpenGL camera at (1, 2, 3) that looks along world -x with world +z up: its right is +y, its backward is +x.
WORLD_FROM_CAM = [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0]]


def frame(**changes: Any) -> dict[str, Any]:
    return {"file_path": "images/a.png", "transform_matrix": WORLD_FROM_CAM, **changes}


def write_transforms(folder: Path, content: Any = None, **shared: Any) -> Path:
    path = folder / "transforms.json"
    known = {"w": 64, "h": 48, "fl_x": 50.0, "fl_y": 40.0, "cx": 30.0, "cy": 20.0}
    path.write_text(json.dumps({**known, **shared, "frames": [frame()]} if content is None else content))
    return path


def pixel(camera: PosedCamera, point: list[float], size_hw: tuple[int, int]) -> list[float]:
    in_camera = camera.cam_from_world @ [*point, 1.0]
    x, y, z = camera.pinhole(size_hw) @ in_camera[:3]
    assert z > 0
    return [x / z, y / z]


def test_opengl_camera_projects_where_it_should(tmp_path: Path) -> None:
    (camera,) = load_transforms(write_transforms(tmp_path)).cameras
    # 2 in front of the camera (world -x), 1 to its right (world +y), 0.5 above (world +z).
    expected = [50 * 1 / 2 + 30, -40 * 0.5 / 2 + 20]
    assert pixel(camera, [-1, 3, 3.5], (48, 64)) == pytest.approx(expected)
    # half the photo: half the pixels, the corner (0, 0) stays
    assert pixel(camera, [-1, 3, 3.5], (24, 32)) == pytest.approx([expected[0] / 2, expected[1] / 2])


def test_nerfs_angle_without_a_size_fits_any_photo(tmp_path: Path) -> None:
    content = {"camera_angle_x": 2 * math.atan(0.5), "frames": [frame(file_path="./train/r_0")]}
    cameras = load_transforms(write_transforms(tmp_path, content))
    assert cameras.folder == tmp_path
    np.testing.assert_allclose(cameras.cameras[0].pinhole((60, 80)), [[80, 0, 40], [0, 80, 30], [0, 0, 1]])


def test_values_of_a_frame_count_before_those_of_all(tmp_path: Path) -> None:
    content = {"w": 64, "h": 48, "fl_x": 50, "frames": [frame(fl_x=70, cy=10), frame()]}
    one, other = load_transforms(write_transforms(tmp_path, content)).cameras
    np.testing.assert_allclose(one.intrinsics, [[70, 0, 32], [0, 70, 10], [0, 0, 1]])
    np.testing.assert_allclose(other.intrinsics, [[50, 0, 32], [0, 50, 24], [0, 0, 1]])


def write_cloud(path: Path, colored: bool = True) -> None:
    """Ascii: one point has no position."""
    names = ["float x", "float y", "float z", *(f"uchar {c}" for c in ("red", "green", "blue") if colored)]
    rows = ["1 2 3", "4 5 6", "nan 0 0"]
    colors = ["255 0 51", "0 0 0", "0 0 0"] if colored else ["", "", ""]
    header = "\n".join(f"property {name}" for name in names)
    body = "\n".join(f"{row} {color}" for row, color in zip(rows, colors, strict=True))
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex 3\n{header}\nend_header\n{body}\n")


@pytest.mark.parametrize("colored", [True, False])
def test_point_cloud_beside_transforms_is_read(tmp_path: Path, colored: bool) -> None:
    write_cloud(tmp_path / "points.ply", colored)
    points = load_transforms(write_transforms(tmp_path, ply_file_path="points.ply")).points
    assert points is not None
    assert points.positions.tolist() == [[1.0, 2, 3], [4, 5, 6]]
    assert points.notes == ("left out 1 of 3 points that are not finite or beyond 1e+09 units",)
    first = [1.0, 0.0, 0.2] if colored else [0.5, 0.5, 0.5]
    torch.testing.assert_close(points.colors[0], torch.tensor(first))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("uchar", 51, 0.2), ("ushort", 13107, 0.2), ("float", 0.2, 0.2), ("float", 51, 0.2), ("double", 1.2, 1.0)],
)
def test_colours_of_every_kind_are_in_one_range(kind: str, value: float, expected: float, tmp_path: Path) -> None:
    header = "".join(f"property double {name}\n" for name in "xyz")
    header += "".join(f"property {kind} {name}\n" for name in ("red", "green", "blue"))
    body = f"500000.03 4000000.05 7 {value} 0 0\n"
    (tmp_path / "x.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 1\n{header}end_header\n{body}")
    points = load_points(tmp_path / "x.ply")
    assert points.positions.tolist() == [[500000.03, 4000000.05, 7]] and points.notes == ()
    assert points.colors[0].tolist() == pytest.approx([expected, 0, 0])


def test_a_mesh_without_positions_is_no_point_cloud(tmp_path: Path) -> None:
    (tmp_path / "x.ply").write_text("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n")
    with pytest.raises(UserError, match="lack x, y or z"):
        load_points(tmp_path / "x.ply")


NAN_POSE = [[float("nan"), 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
SCALED_POSE = [[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no list 'frames'"),
        ({"frames": []}, "no list 'frames'"),
        ({"frames": [{"file_path": "a.png"}]}, "transform_matrix"),
        ({"frames": [{"transform_matrix": WORLD_FROM_CAM}]}, "no 'file_path'"),
        ({"w": 4, "h": 4, "fl_x": 4, "frames": [frame(transform_matrix=NAN_POSE)]}, "finite"),
        ({"w": 4, "h": 4, "fl_x": 4, "frames": [frame(transform_matrix=[[1, 2], [3, 4]])]}, "4x4"),
        ({"w": 4, "h": 4, "fl_x": 4, "frames": [frame(transform_matrix=SCALED_POSE)]}, "not a rotation"),
        ({"w": 4, "h": 4, "fl_x": "wide", "frames": [frame()]}, "wrong form"),
        ({"w": 4, "h": 4, "fl_x": float("nan"), "frames": [frame()]}, "not finite"),
        ({"w": 4, "h": 4, "fl_x": -4, "frames": [frame()]}, "positive"),
        ({"w": 4, "h": 4, "frames": [frame()]}, "lacks 'fl_x'"),
        ({"fl_x": 4, "frames": [frame()]}, "lacks 'w'"),
        ({"w": 4, "h": 4, "fl_x": 4, "k5": 0.1, "frames": [frame()]}, "lens distortion k5 = 0.1; undistort"),
        ({"w": 4, "h": 4, "fl_x": 4, "camera_model": "EQUIRECTANGULAR", "frames": [frame()]}, "EQUIRECTANGULAR"),
    ],
)
def test_bad_transforms_are_refused_in_one_line(content: Any, message: str, tmp_path: Path) -> None:
    path = write_transforms(tmp_path, content)
    with pytest.raises(UserError, match=message) as error:
        load_transforms(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_fisheye": True, "p1": 0.1}, "lens distortion p1 = 0.1"),
        ({"is_fisheye": "false"}, "neither true nor false"),
        ({"ftheta_p0": 0.3}, "ftheta_p0 is not read; undistort"),
        ({"camera_model": ["PINHOLE"]}, "is not read"),
        ({"k1": "0.05"}, "'0.05' is no number"),
        ({"k6": 0.01}, "lens distortion k6 = 0.01"),
        ({"k3": float("nan")}, "nan is not finite"),
        ({"distortion_params": [0, 0, 0, 0.2]}, "distortion_params are k1 k2 k3 k4 p1 p2"),
        ({"distortion_params": 3}, "wrong form"),
        ({"w": float("inf")}, "inf is not finite"),
        ({"w": 10**400}, "wrong form"),
        ({"w": 10**9}, "no side of a picture"),
        ({"w": "64"}, "'64' is no number"),
        ({"w": True}, "True is no number"),
        ({"fl_x": None}, "lacks 'fl_x'"),
        ({"fl_x": 1e39}, "no such camera exists"),
        ({"transform_matrix": [[True, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "True is no number"),
        ({"transform_matrix": [*WORLD_FROM_CAM[:3], [0, 0, 0, 2]]}, "last row of its pose is not 0 0 0 1"),
        ({"transform_matrix": [*WORLD_FROM_CAM[:3], [0.1, 0, 0, 1]]}, "last row of its pose is not 0 0 0 1"),
        ({"transform_matrix": {"0": 1}}, "wrong form"),
        ({"transform_matrix": "eye"}, "wrong form"),
        ({"transform_matrix": [[1e300, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "not a rotation"),
        ({"transform_matrix": [[0, 0, 1, 1e39], [1, 0, 0, 2], [0, 1, 0, 3]]}, "units away"),
        ({"file_path": 7}, "no 'file_path'"),
    ],
)
def test_bad_values_of_a_frame_are_refused_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_transforms(tmp_path, {"w": 64, "h": 48, "fl_x": 50.0, "frames": [frame(**changes)]})
    with pytest.raises(UserError, match=message) as error:
        load_transforms(path)
    assert str(error.value).startswith(f"{path}: frame 0") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ({"k1": 0.1, "k2": -0.2, "p1": 0.01, "p2": 0.02}, Lens((0.1, -0.2, 0, 0), (0.01, 0.02))),
        ({"distortion_params": [0.1, 0.2, 0.3, 0.4, 0.01, 0.02]}, Lens((0.1, 0.2, 0.3, 0.4), (0.01, 0.02))),
        ({"camera_model": "FULL_OPENCV", "k1": 0.1, "k4": 0.2, "k6": 0.3}, Lens((0.1, 0, 0), (0, 0), (0.2, 0, 0.3))),
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k4": 0.2}, Lens((0.1, 0, 0, 0.2), fisheye=True)),
        ({"is_fisheye": True}, Lens((0, 0, 0, 0), fisheye=True)),
        ({"camera_model": "OPENCV", "k1": 0, "k2": 1e-5, "p1": 0.0}, None),
    ],
)
def test_lenses_are_read(shared: dict[str, Any], expected: Lens | None, tmp_path: Path) -> None:
    assert load_transforms(write_transforms(tmp_path, **shared)).cameras[0].lens == expected


def test_poses_of_three_rows_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (expected,) = load_transforms(write_transforms(tmp_path)).cameras
    known = {"w": 64.0, "h": 48.0, "fl_x": 50.0, "fl_y": 40.0, "cx": 30.0, "cy": 20.0, "is_fisheye": False, "k1": None}
    content = {**known, "frames": [frame(transform_matrix=WORLD_FROM_CAM[:3])]}
    (tmp_path / "bom.json").write_text("\ufeff" + json.dumps(content))
    (camera,) = load_transforms(tmp_path / "bom.json").cameras
    np.testing.assert_array_equal(camera.cam_from_world, expected.cam_from_world)
    assert camera.size_hw == (48, 64) and camera.intrinsics.tolist() == [[50, 0, 30], [0, 40, 20], [0, 0, 1]]


def test_pixels_without_a_size_are_those_of_the_photo(tmp_path: Path) -> None:
    """The photo is 128 x 96; a reduced copy cannot be told from it but by the principal point."""
    content = {"fl_x": 50.0, "fl_y": 40.0, "cx": 60.0, "cy": 44.0, "frames": [frame(file_path="a.png")]}
    (camera,) = load_transforms(write_transforms(tmp_path, content)).cameras
    for name, size in (("a.png", (128, 96)), ("half.png", (64, 48))):
        Image.new("RGB", size).save(tmp_path / name)
    frames, _, _ = load_posed_photos([(tmp_path / "a.png", camera)], 64, None)
    np.testing.assert_allclose(frames.intrinsics[0], [[25, 0, 30], [0, 20, 22], [0, 0, 1]])
    with pytest.raises(UserError, match="not near the middle of its photo of 64x48 pixels; add the size"):
        load_posed_photos([(tmp_path / "half.png", camera)], 64, None)


def test_points_that_are_named_but_missing_are_noted(tmp_path: Path) -> None:
    found = load_transforms(write_transforms(tmp_path, ply_file_path="sparse.ply"))
    assert found.points is None
    assert found.notes == (
        "transforms.json names the points sparse.ply, but there is no such file; fitting without them",
    )
    with pytest.raises(UserError, match="is no text"):
        load_transforms(write_transforms(tmp_path, ply_file_path=["a"]))


def test_broken_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text('{"frames": [')
    with pytest.raises(UserError, match="not JSON"):
        load_transforms(tmp_path / "transforms.json")


# --- masks and photos ------------------------------------------------------------------------------------------------


def test_masks_keep_their_values_in_every_format(tmp_path: Path) -> None:
    ids = np.arange(12).reshape(3, 4)
    images = {
        "grey.png": Image.fromarray(ids.astype(np.uint8)),
        "deep.png": Image.fromarray((ids * 5000).astype(np.uint16)),
        "rgb.png": Image.fromarray(np.repeat(ids.astype(np.uint8)[..., None], 3, axis=-1)),
    }
    palette = Image.fromarray(ids.astype(np.uint8), mode="L").convert("P")
    palette.putdata(ids.flatten().tolist())
    palette.putpalette([255 - value // 3 for value in range(768)])
    for name, image in {**images, "palette.png": palette}.items():
        image.save(tmp_path / name)
        factor = 5000 if name == "deep.png" else 1
        np.testing.assert_array_equal(read_mask(tmp_path / name), ids * factor)


def test_masks_are_resized_without_new_values() -> None:
    ids = np.array([[1, 9], [5, 7]])
    np.testing.assert_array_equal(resize_nearest(np.kron(ids, np.ones((3, 3), np.int64)), (2, 2)), ids)
    np.testing.assert_array_equal(resize_nearest(ids, (4, 4)), np.kron(ids, np.ones((2, 2), np.int64)))


def test_coloured_masks_and_text_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "c.png")
    (tmp_path / "t.png").write_text("chair")
    with pytest.raises(UserError, match="coloured picture"):
        read_mask(tmp_path / "c.png")
    with pytest.raises(UserError, match="not a picture"):
        read_mask(tmp_path / "t.png")


def camera(name: str, size_hw: tuple[int, int] | None = (48, 64)) -> PosedCamera:
    return PosedCamera(name, np.eye(4), np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]), size_hw)


Pairs = list[tuple[Path, PosedCamera]]


def masks_of(pairs: Pairs, *unlabelled: int, first_id: int = 0) -> MaskSource:
    folder = pairs[0][0].parent / "masks"
    return MaskSource(folder, find_masks(folder, [path for path, _ in pairs]), unlabelled or (0,), first_id)


@pytest.fixture
def photo_pairs(tmp_path: Path) -> Pairs:
    """Three photos of 64x48, and masks with ids 3 and 300 for two of them."""
    (tmp_path / "masks").mkdir()
    pairs = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (64, 48), (80 * index, 0, 0)).save(path)
        pairs.append((path, camera(path.name)))
        if index:
            ids = np.full((48, 64), 3, np.uint16)
            ids[:, 32:], ids[:24, :8] = 300, 0
            Image.fromarray(ids).save(tmp_path / "masks" / f"{index}.png")
    return pairs


def test_photos_and_masks_are_reduced_together(photo_pairs: Pairs) -> None:
    frames, paths, notes = load_posed_photos(photo_pairs, 32, masks_of(photo_pairs))
    assert frames.images.shape == (3, 24, 32, 3) and [path.name for path in paths] == ["0.png", "1.png", "2.png"]
    assert frames.images[:, 0, 0, 0].tolist() == [0, 80, 160]
    np.testing.assert_allclose(frames.intrinsics[0], [[25, 0, 16], [0, 25, 12], [0, 0, 1]])
    assert np.unique(frames.group_ids[0]).tolist() == [-1]
    assert frames.group_ids[1, 0, [0, 3, 4, 15, 16, 31]].tolist() == [-1, -1, 3, 3, 300, 300]
    assert any("no mask for 1 photos" in note for note in notes)
    other = load_posed_photos(photo_pairs, 1000, masks_of(photo_pairs, 300, first_id=7))[0].group_ids
    assert other[1].shape == (48, 64) and np.unique(other[1]).tolist() == [-1, 7, 10]
    several = load_posed_photos(photo_pairs, 64, masks_of(photo_pairs, 0, 300))[0].group_ids
    assert np.unique(several[1]).tolist() == [-1, 3] and (several[1] == 3).sum() == 48 * 32 - 24 * 8
    every = load_posed_photos(photo_pairs, 64, masks_of(photo_pairs, -1))[0].group_ids
    assert np.unique(every[1]).tolist() == [0, 3, 300] and np.unique(every[0]).tolist() == [-1]


def test_photos_of_another_shape_are_left_out(photo_pairs: Pairs, tmp_path: Path) -> None:
    Image.new("RGB", (48, 64)).save(tmp_path / "tall.png")
    pairs = [*photo_pairs, (tmp_path / "tall.png", camera("tall", (64, 48)))]
    _, paths, notes = load_posed_photos(pairs, 64, masks_of(photo_pairs))
    assert len(paths) == 3 and any("another shape" in note and "tall.png" in note for note in notes)


def test_photos_beyond_the_limit_are_left_out_if_others_remain(photo_pairs: Pairs, tmp_path: Path) -> None:
    Image.new("RGB", (640, 480)).save(tmp_path / "large.png")
    large = (tmp_path / "large.png", camera("large", (480, 640)))
    _, paths, notes = load_posed_photos([large, *photo_pairs], 64, None, max_megapixels=0.1)
    assert [path.name for path in paths] == ["0.png", "1.png", "2.png"]
    assert notes[0].startswith("left out ") and "large.png: more than 0.1 megapixels" in notes[0]
    with pytest.raises(UserError, match=r"large\.png: more than 0\.1 megapixels; .*--max-megapixels"):
        load_posed_photos([large], 64, None, max_megapixels=0.1)


def test_a_photo_lies_as_its_camera_expects_it(tmp_path: Path) -> None:
    """COLMAP and nerfstudio take pixels as stored; a phone's tag counts only where nothing else fits."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    for size_hw in ((48, 64), (64, 48)):
        frames, _, _ = load_posed_photos([(tmp_path / "a.jpg", camera("a", size_hw))], 64, None)
        assert frames.images.shape[1:3] == size_hw
    with pytest.raises(UserError, match="its camera is for 100x48"):
        load_posed_photos([(tmp_path / "a.jpg", camera("a", (48, 100)))], 64, None)


def _no_masks(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _other_shape(folder: Path) -> None:
    Image.new("L", (48, 48), 1).save(folder / "1.png")


def _nothing_labelled(folder: Path) -> None:
    for path in folder.iterdir():
        Image.new("L", (64, 48), 0).save(path)


def _noise(folder: Path) -> None:
    Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)).save(folder / "1.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_masks, "no mask in it"),
        (_other_shape, "48x48 pixels, another shape than its photo 1.png"),
        (_nothing_labelled, "every pixel of the photos used is 0"),
        (_noise, "different values, more than 1000"),
    ],
)
def test_bad_masks_are_refused(spoil: Any, message: str, photo_pairs: Pairs, tmp_path: Path) -> None:
    spoil(tmp_path / "masks")
    with pytest.raises(UserError, match=message):
        load_posed_photos(photo_pairs, 64, masks_of(photo_pairs))


def test_what_is_done_to_pixels_is_noted(photo_pairs: Pairs) -> None:
    for index in (0, 2):
        Image.new("RGBA", (64, 48), (0, 0, 0, 0)).save(photo_pairs[index][0])
    frames, _, notes = load_posed_photos(photo_pairs, 64, None)
    assert notes == [
        "transparency composited on white: 0.png, 2.png",
        "nearly white all over; there is nothing to reconstruct in it: 0.png, 2.png",
        "nearly one colour all over; there is nothing to reconstruct in it: 1.png",
    ]
    assert frames.images[:, 0, 0].tolist() == [[255] * 3, [80, 0, 0], [255] * 3]


def test_more_pixels_than_memory_holds_are_refused(photo_pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokengroups.io.posed_photos.MAX_PIXELS", 2 * 64 * 48)
    with pytest.raises(UserError, match="3 photos have more than .* give a smaller --size, or fewer photos"):
        load_posed_photos(photo_pairs, 64, None)
    assert len(load_posed_photos(photo_pairs, 48, None)[0]) == 3


def bent_pairs(folder: Path, lens: Lens) -> Pairs:
    """A photo of 128x96 by a lens that shows red where x > 0.2 in its rays and blue elsewhere; a mask of the red."""
    pinhole = np.array([[100.0, 0, 60], [0, 100, 50], [0, 0, 1]])
    v, u = np.mgrid[:960, :1280] / 10 + 0.05
    rays = np.stack([(u - 60) / 100, (v - 50) / 100], axis=-1)
    bent = undistort(rays, lens)
    red = (bent[..., 0] > 0.2).reshape(96, 10, 128, 10).mean(axis=(1, 3))
    photo = np.stack([255 * red, 0 * red, 255 - 255 * red], axis=-1).round().astype(np.uint8)
    (folder / "masks").mkdir()
    Image.fromarray(photo).save(folder / "0.png")
    Image.fromarray(np.where(red > 0.5, 2, 1).astype(np.uint8)).save(folder / "masks" / "0.png")
    return [(folder / "0.png", PosedCamera("0.png", np.eye(4), pinhole, (96, 128), lens=lens))]


@pytest.mark.parametrize("lens", [Lens((-0.3, 0.1), (0.004, -0.01)), Lens((0.3,)), Lens((0.05,), fisheye=True)])
@pytest.mark.parametrize("size", [32, 128])
def test_lens_distortion_is_undone_in_photos_and_masks(lens: Lens, size: int, tmp_path: Path) -> None:
    """The border of the red, bent in the photo, is a straight line where the pinhole sees it."""
    pairs = bent_pairs(tmp_path, lens)
    frames, _, notes = load_posed_photos(pairs, size, masks_of(pairs))
    assert "lens distortion undone: 0.png" in notes
    (fx, _, cx), (_, fy, cy), _ = frames.intrinsics[0]
    columns, rows = np.arange(size) + 0.5, np.arange(size * 96 // 128) + 0.5
    border = cx + 0.2 * fx
    mask = np.ones(frames.images.shape[1:3], bool) if frames.mask is None else frames.mask[0]
    image, ids = frames.images[0].astype(int), frames.group_ids[0]
    for side, color, value in ((columns > border + 1.1, (255, 0, 0), 2), (columns < border - 1.1, (0, 0, 255), 1)):
        seen = mask & side
        assert seen.sum() > 0.1 * mask.size
        assert np.abs(image[seen] - color).max() <= 12
        assert np.isin(ids[seen], (value, -1)).all() and (ids[seen] == value).mean() > 0.99
    rays = np.stack(np.meshgrid((columns - cx) / fx, (rows - cy) / fy), axis=-1)
    inside = distort(rays, lens) * 100 + (60, 50)
    expected = ((inside >= 0) & (inside <= (128, 96))).all(axis=-1)
    assert (mask <= expected).all() and (expected & ~mask).sum() <= 3 * (size + size)  # but for a seam
    if frames.mask is not None and size == 128:
        assert (frames.images[0][~expected] == BLANK).mean() > 0.9


def test_a_lens_of_another_photo_is_refused(tmp_path: Path) -> None:
    pairs = bent_pairs(tmp_path, Lens((0.1,)))
    wrong = [(pairs[0][0], replace(pairs[0][1], lens=Lens((90.0,))))]
    with pytest.raises(UserError, match=r"0.png: without its lens distortion .* are the coefficients right\?"):
        load_posed_photos(wrong, 64, None)


def test_ignored_pixels_do_not_count(photo_pairs: Pairs, tmp_path: Path) -> None:
    ignored = np.full((48, 64), 255, np.uint8)
    ignored[:, :16] = 0
    Image.fromarray(ignored).save(tmp_path / "half.png")
    found = {photo_pairs[1][0]: tmp_path / "half.png"}
    frames, _, notes = load_posed_photos(photo_pairs, 32, masks_of(photo_pairs), ignored=found)
    assert frames.mask is not None
    assert frames.mask[0].all() and not frames.mask[1, :, :8].any() and frames.mask[1, :, 8:].all()
    assert (frames.group_ids[1, :, :8] == -1).all()
    assert "8.3% of the pixels are ignored" in notes
    assert "no mask of ignored pixels for 0.png, 2.png: all pixels count" in notes
    Image.new("L", (64, 48)).save(tmp_path / "half.png")
    with pytest.raises(UserError, match=r"half.png: ignores all of its photo; 0 = ignored"):
        load_posed_photos(photo_pairs, 32, None, ignored=found)
