"""transforms.json, COLMAP models, named cameras and masks: known projections, and answers to bad files."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tolerances import tolerance

from tokengroups.errors import UserError
from tokengroups.io.cameras import load_named_cameras, save_cameras
from tokengroups.io.colmap import find_model, load_colmap
from tokengroups.io.pixels import read_mask, resize_nearest
from tokengroups.io.points import load_points
from tokengroups.io.posed_cameras import PosedCamera, match_photos
from tokengroups.io.posed_photos import MaskSource, load_posed_photos
from tokengroups.io.transforms import load_transforms
from tokengroups.types import Cameras

needs_pycolmap = pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not installed")
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
    torch.testing.assert_close(points.positions, torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    first = [1.0, 0.0, 0.2] if colored else [0.5, 0.5, 0.5]
    torch.testing.assert_close(points.colors[0], torch.tensor(first))


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
        ({"w": 4, "h": 4, "fl_x": float("nan"), "frames": [frame()]}, "positive"),
        ({"w": 4, "h": 4, "fl_x": -4, "frames": [frame()]}, "positive"),
        ({"w": 4, "h": 4, "frames": [frame()]}, "'fl_x' is missing"),
        ({"fl_x": 4, "frames": [frame()]}, "'w' is missing"),
        ({"w": 4, "h": 4, "fl_x": 4, "k1": 0.1, "frames": [frame()]}, "lens distortion k1 = 0.1; undistort"),
        ({"w": 4, "h": 4, "fl_x": 4, "camera_model": "OPENCV_FISHEYE", "frames": [frame()]}, "OPENCV_FISHEYE"),
    ],
)
def test_bad_transforms_are_refused_in_one_line(content: Any, message: str, tmp_path: Path) -> None:
    path = write_transforms(tmp_path, content)
    with pytest.raises(UserError, match=message) as error:
        load_transforms(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_broken_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text('{"frames": [')
    with pytest.raises(UserError, match="not JSON"):
        load_transforms(tmp_path / "transforms.json")


# --- COLMAP ----------------------------------------------------------------------------------------------------------


def write_colmap(folder: Path, camera: str = "PINHOLE 64 48 50 40 30 20") -> Path:
    """A model of one image as COLMAP's text files: turned 90 degrees about y, then moved by (0.5, 0, 2)."""
    folder.mkdir(parents=True)
    half = math.sqrt(0.5)
    (folder / "cameras.txt").write_text(f"1 {camera}\n")
    (folder / "images.txt").write_text(f"1 {half} 0 {half} 0 0.5 0 2 1 a.jpg\n\n")
    (folder / "points3D.txt").write_text("1 1 2 3 255 0 51 0.1\n2 4 5 6 0 0 0 0.1\n")
    return folder


@needs_pycolmap
def test_colmap_camera_projects_where_it_should(tmp_path: Path) -> None:
    write_colmap(tmp_path / "sparse" / "0")
    assert find_model(tmp_path) == tmp_path / "sparse/0"
    found = load_colmap(tmp_path)
    (camera,) = found.cameras
    assert camera.name == "a.jpg" and camera.size_hw == (48, 64)
    # The rotation takes (x, y, z) to (z, y, -x).
    x, y, z = 1.0 + 0.5, 0.25, 2.0 - (-0.5)
    assert pixel(camera, [-0.5, 0.25, 1.0], (48, 64)) == pytest.approx([50 * x / z + 30, 40 * y / z + 20])
    assert found.points is not None
    torch.testing.assert_close(found.points.positions, torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    torch.testing.assert_close(found.points.colors[0], torch.tensor([1.0, 0.0, 0.2]))


@needs_pycolmap
def test_colmap_models_in_text_and_binary_are_the_same(tmp_path: Path) -> None:
    import pycolmap

    text = write_colmap(tmp_path / "text")
    (tmp_path / "binary").mkdir()
    pycolmap.Reconstruction(str(text)).write_binary(str(tmp_path / "binary"))
    one, other = (load_colmap(tmp_path / name).cameras[0] for name in ("text", "binary"))
    np.testing.assert_allclose(one.cam_from_world, other.cam_from_world, **tolerance("float64"))
    np.testing.assert_array_equal(one.intrinsics, other.intrinsics)


@needs_pycolmap
@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ("OPENCV 64 48 50 40 30 20 0.1 0 0 0", "OPENCV has lens distortion; run `colmap image_undistorter`"),
        ("OPENCV_FISHEYE 64 48 50 40 30 20 0 0 0 0", "OPENCV_FISHEYE has lens distortion"),
        ("PINHOLE sixty", "not a COLMAP model that can be read"),
    ],
)
def test_bad_colmap_models_are_refused_in_one_line(camera: str, message: str, tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model", camera)
    with pytest.raises(UserError, match=message) as error:
        load_colmap(folder)
    assert "\n" not in str(error.value)


@needs_pycolmap
def test_a_distortion_of_zero_is_a_pinhole(tmp_path: Path) -> None:
    camera = load_colmap(write_colmap(tmp_path / "model", "SIMPLE_RADIAL 64 48 50 30 20 0")).cameras[0]
    np.testing.assert_allclose(camera.intrinsics, [[50, 0, 30], [0, 50, 20], [0, 0, 1]])


def test_missing_pycolmap_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_colmap(tmp_path / "model")
    monkeypatch.setattr("tokengroups.io.colmap.importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"tokengroups\[colmap\]"):
        load_colmap(folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no COLMAP model"):
        load_colmap(tmp_path)


# --- which photo is whose --------------------------------------------------------------------------------------------


def camera(name: str, size_hw: tuple[int, int] | None = (48, 64)) -> PosedCamera:
    return PosedCamera(name, np.eye(4), np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]), size_hw)


def test_photos_find_their_cameras_by_name() -> None:
    cameras = [camera("./images/a.jpg"), camera("train/r_0"), camera("left/x.png"), camera("right/x.png")]
    photos = [Path("p/a.JPG"), Path("r_0.png"), Path("q/right/x.png"), Path("z.png")]
    pairs, notes = match_photos(cameras, photos)
    assert [(path.name, found.name) for path, found in pairs] == [
        ("a.JPG", "./images/a.jpg"),
        ("r_0.png", "train/r_0"),
        ("x.png", "right/x.png"),
    ]
    assert notes == ["left out 1 photo without a camera: z.png", "left out 1 camera without a photo: left/x.png"]


def test_ambiguous_and_foreign_names_are_refused() -> None:
    with pytest.raises(UserError, match="fits the cameras of left/x.png and right/x.png"):
        match_photos([camera("left/x.png"), camera("right/x.png")], [Path("x.png")])
    with pytest.raises(UserError, match="none of the 1 photos"):
        match_photos([camera("a.png")], [Path("b.png")])


def test_our_own_camera_files_serve_as_well(tmp_path: Path) -> None:
    pinhole = torch.tensor([[50.0, 0, 31], [0, 40, 20], [0, 0, 1]])[None]
    pose = torch.eye(4)[None].clone()
    pose[0, :3, 3] = torch.tensor([1.0, 2, 3])
    save_cameras(tmp_path / "cameras.json", Cameras(pose, pinhole, (48, 64)), ["a.jpg"])
    (found,) = load_named_cameras(tmp_path / "cameras.json").cameras
    assert found.name == "a.jpg" and found.size_hw == (48, 64)
    np.testing.assert_allclose(found.cam_from_world, pose[0])
    np.testing.assert_allclose(found.intrinsics, pinhole[0])


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


@pytest.fixture
def photo_pairs(tmp_path: Path) -> list[tuple[Path, PosedCamera]]:
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


def test_photos_and_masks_are_reduced_together(photo_pairs: list[tuple[Path, PosedCamera]], tmp_path: Path) -> None:
    frames, paths, notes = load_posed_photos(photo_pairs, 32, MaskSource(tmp_path / "masks"))
    assert frames.images.shape == (3, 24, 32, 3) and [path.name for path in paths] == ["0.png", "1.png", "2.png"]
    assert frames.images[:, 0, 0, 0].tolist() == [0, 80, 160]
    np.testing.assert_allclose(frames.intrinsics[0], [[25, 0, 16], [0, 25, 12], [0, 0, 1]])
    assert np.unique(frames.group_ids[0]).tolist() == [-1]
    assert frames.group_ids[1, 0, [0, 3, 4, 15, 16, 31]].tolist() == [-1, -1, 3, 3, 300, 300]
    assert "no mask for 1 photos" in notes[0]
    other = load_posed_photos(photo_pairs, 1000, MaskSource(tmp_path / "masks", 300, 7))[0].group_ids
    assert other[1].shape == (48, 64) and np.unique(other[1]).tolist() == [-1, 7, 10]


def test_photos_of_another_shape_are_left_out(photo_pairs: list[tuple[Path, PosedCamera]], tmp_path: Path) -> None:
    Image.new("RGB", (48, 64)).save(tmp_path / "tall.png")
    pairs = [*photo_pairs, (tmp_path / "tall.png", camera("tall", (64, 48)))]
    _, paths, notes = load_posed_photos(pairs, 64, MaskSource(tmp_path / "masks"))
    assert len(paths) == 3 and "another shape" in notes[0] and "tall.png" in notes[0]


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
        (_nothing_labelled, "every pixel is 0"),
        (_noise, "different values, more than 1000"),
    ],
)
def test_bad_masks_are_refused(
    spoil: Any, message: str, photo_pairs: list[tuple[Path, PosedCamera]], tmp_path: Path
) -> None:
    spoil(tmp_path / "masks")
    with pytest.raises(UserError, match=message):
        load_posed_photos(photo_pairs, 64, MaskSource(tmp_path / "masks"))
