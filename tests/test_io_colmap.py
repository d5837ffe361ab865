"""COLMAP models, text and binary, against pycolmap, and answers to damaged ones."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from tolerances import tolerance

from tokengroups.errors import UserError
from tokengroups.io.colmap import find_model, load_colmap
from tokengroups.io.lenses import Lens
from tokengroups.io.posed_cameras import PosedCamera, check_pose

PARAMETERS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
}
BINARY = ("cameras", "images", "points3D")


def write_colmap(folder: Path, camera: str = "PINHOLE 64 48 50 40 30 20") -> Path:
    """A model of one image as COLMAP's text files: turned 90 degrees about y, then moved by (0.5, 0, 2)."""
    folder.mkdir(parents=True)
    half = math.sqrt(0.5)
    (folder / "cameras.txt").write_text(f"# cameras\n1 {camera}\n")
    (folder / "images.txt").write_text(f"1 {half} 0 {half} 0 0.5 0 2 1 a.jpg\n\n")
    (folder / "points3D.txt").write_text("2 4 5 6 0 0 0 0.1\n1 1 2 3 255 0 51 0.1\n")
    return folder


def pixel(camera: PosedCamera, point: list[float]) -> list[float]:
    x, y, z = camera.intrinsics @ (camera.cam_from_world @ [*point, 1.0])[:3]
    assert z > 0
    return [x / z, y / z]


def test_a_camera_projects_where_it_should(tmp_path: Path) -> None:
    write_colmap(tmp_path / "sparse" / "0")
    assert find_model(tmp_path) == tmp_path / "sparse/0"
    found = load_colmap(tmp_path)
    (camera,) = found.cameras
    assert camera.name == "a.jpg" and camera.size_hw == (48, 64)
    # The rotation takes (x, y, z) to (z, y, -x).
    x, y, z = 1.0 + 0.5, 0.25, 2.0 - (-0.5)
    assert pixel(camera, [-0.5, 0.25, 1.0]) == pytest.approx([50 * x / z + 30, 40 * y / z + 20])
    assert found.points is not None
    assert found.points.positions.tolist() == [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_allclose(found.points.colors[0], [1.0, 0.0, 0.2], **tolerance("float32"))


def test_far_away_points_keep_their_place(tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model")
    (folder / "points3D.txt").write_text("1 500000.03 4000000.05 100.5 255 0 0 0.1\n")
    points = load_colmap(folder).points
    assert points is not None and points.positions.tolist() == [[500000.03, 4000000.05, 100.5]]


@pytest.mark.parametrize("model", PARAMETERS)
def test_models_are_those_that_pycolmap_writes_and_reads(model: str, tmp_path: Path) -> None:
    """Text and binary; ids that are no indices, points with tracks, observations, a name with a folder."""
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 2, 1, 3, 40
    options.camera_model_id = getattr(pycolmap.CameraModelId, model)
    known = {"f": 900.0, "fx": 900.0, "fy": 910.0, "cx": 500.0, "cy": 390.0}
    options.camera_params = [known.get(name, 0.0) for name in PARAMETERS[model].split()]
    expected = pycolmap.synthesize_dataset(options)
    for suffix, write in (("text", expected.write_text), ("binary", expected.write_binary)):
        (tmp_path / suffix).mkdir()
        write(str(tmp_path / suffix))
        found = load_colmap(tmp_path / suffix)
        images = [image for _, image in sorted(expected.images.items())]
        assert [camera.name for camera in found.cameras] == [image.name for image in images]
        for camera, image in zip(found.cameras, images, strict=True):
            lens = expected.cameras[image.camera_id]
            assert camera.size_hw == (lens.height, lens.width)
            np.testing.assert_allclose(camera.intrinsics, lens.calibration_matrix(), **tolerance("float64"))
            pose = check_pose("oracle", image.cam_from_world().matrix())
            np.testing.assert_allclose(camera.cam_from_world, pose, **tolerance("float64"))
        points = [point for _, point in sorted(expected.points3D.items())]
        assert found.points is not None
        np.testing.assert_allclose(found.points.positions, [p.xyz for p in points], **tolerance("float64"))
        np.testing.assert_allclose(
            found.points.colors, np.array([p.color for p in points]) / 255, **tolerance("float32")
        )


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ("FOV 64 48 50 40 30 20 0.1", "FOV is not read; undistort the photos first"),
        ("DIVISION 64 48 50 40 30 20 0", "DIVISION is not read; undistort"),
        ("PINHOLE sixty", "wrong form"),
        ("PINHOLE 64 48 50 40 30", "PINHOLE has the parameters fx fy cx cy"),
        ("PINHOLE 64 48 50 40 30 20 1", "PINHOLE has the parameters fx fy cx cy"),
        ("PINHOLE 64 48 nan 40 30 20", "nan is not finite"),
        ("PINHOLE 64 48 1e39 40 30 20", "no such camera exists"),
        ("PINHOLE -1 48 50 40 30 20", "must be positive"),
        ("PINHOLE 99999999999999999999 48 50 40 30 20", "no such camera exists"),
        ("PINHOLE 64 48 50 40 30 20\n1 PINHOLE 64 48 50 40 30 20", "id 1 comes twice"),
    ],
)
def test_bad_cameras_are_refused_in_one_line(camera: str, message: str, tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model", camera)
    with pytest.raises(UserError, match=message) as error:
        load_colmap(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("", "without a registered image"),
        ("1 1 0 0 0 0.5 0 2 7 a.jpg\n", "its camera 7 is not in the file of cameras"),
        ("1 0 0 0 0 0.5 0 2 1 a.jpg\n", "its quaternion has no length"),
        ("1 nan 0 0 0 0.5 0 2 1 a.jpg\n", "nan is not finite"),
        ("1 1 0 0 0 inf 0 2 1 a.jpg\n", "finite"),
        ("1 1 0 0 0 1e39 0 2 1 a.jpg\n", "units away"),
        ("1 1 0 0 0 0.5\n", "wrong form"),
        ("1 1 0 0 0 0.5 0 2 1 a.jpg\n2 1 0 0 0 0.5 0 2 1 b.jpg\n", "the line after image 1 is not that of its points"),
        ("1 1 0 0 0 0.5 0 2 1 a.jpg\n\n1 1 0 0 0 0.5 0 2 1 b.jpg\n", "id 1 comes twice"),
    ],
)
def test_bad_images_are_refused_in_one_line(images: str, message: str, tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model")
    (folder / "images.txt").write_text(images)
    with pytest.raises(UserError, match=message) as error:
        load_colmap(folder)
    assert "\n" not in str(error.value)


def test_quaternions_may_have_any_length(tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model")
    expected = load_colmap(folder).cameras[0].cam_from_world
    for length in (1e-300, 7.0, 1e300):
        (folder / "images.txt").write_text(f"1 {length} 0 {length} 0 0.5 0 2 1 a.jpg\n")
        np.testing.assert_allclose(load_colmap(folder).cameras[0].cam_from_world, expected, **tolerance("float64"))


def test_the_last_line_and_a_byte_order_mark_may_be_as_editors_leave_them(tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model")
    (folder / "cameras.txt").write_text("\ufeff1 PINHOLE 64 48 50 40 30 20\r\n")
    (folder / "images.txt").write_text("1 1 0 0 0 0.5 0 2 1 my photo 1.jpg")
    assert [camera.name for camera in load_colmap(folder).cameras] == ["my photo 1.jpg"]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("damage", ["empty", "half", "huge count", "all ones"])
def test_damaged_binary_files_are_refused_and_take_no_memory(name: str, damage: str, tmp_path: Path) -> None:
    """Also the ones on which other readers take gigabytes or read zeros."""
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QIiQQ4d", 1, 1, 1, 64, 48, 50, 40, 30, 20))
    (tmp_path / "images.bin").write_bytes(struct.pack("<QI7dI6sQ", 1, 1, 1, 0, 0, 0, 0.5, 0, 2, 1, b"a.jpg\0", 0))
    (tmp_path / "points3D.bin").write_bytes(struct.pack("<QQ3d3BdQ2I", 1, 1, 1, 2, 3, 255, 0, 51, 0.1, 1, 1, 0))
    assert load_colmap(tmp_path).cameras[0].name == "a.jpg"
    path = tmp_path / f"{name}.bin"
    data = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": data[: len(data) // 2],
            "huge count": struct.pack("<Q", 2**61) + data[8:],
            "all ones": data[:8] + b"\xff" * (len(data) - 8),
        }[damage]
    )
    with pytest.raises(UserError, match="wrong form") as error:
        load_colmap(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ("SIMPLE_RADIAL 64 48 50 30 20 0.05", Lens((0.05, 0, 0, 0))),
        ("RADIAL 64 48 50 30 20 0.05 -0.1", Lens((0.05, -0.1, 0, 0))),
        ("OPENCV 64 48 50 40 30 20 0.1 0.2 0.01 0.02", Lens((0.1, 0.2, 0, 0), (0.01, 0.02))),
        (
            "FULL_OPENCV 64 48 50 40 30 20 0.1 0.2 0.01 0.02 0.3 0.4 0.5 0.6",
            Lens((0.1, 0.2, 0.3), (0.01, 0.02), (0.4, 0.5, 0.6)),
        ),
        ("OPENCV_FISHEYE 64 48 50 40 30 20 0.1 0.2 0.3 0.4", Lens((0.1, 0.2, 0.3, 0.4), fisheye=True)),
        ("SIMPLE_RADIAL_FISHEYE 64 48 50 30 20 0", Lens((0, 0, 0, 0), fisheye=True)),
        ("RADIAL_FISHEYE 64 48 50 30 20 0.1 0.2", Lens((0.1, 0.2, 0, 0), fisheye=True)),
    ],
)
def test_lenses_are_read(camera: str, expected: Lens, tmp_path: Path) -> None:
    assert load_colmap(write_colmap(tmp_path / "model", camera)).cameras[0].lens == expected


def test_a_distortion_of_zero_is_a_pinhole(tmp_path: Path) -> None:
    camera = load_colmap(write_colmap(tmp_path / "model", "SIMPLE_RADIAL 64 48 50 30 20 0")).cameras[0]
    np.testing.assert_allclose(camera.intrinsics, [[50, 0, 30], [0, 50, 20], [0, 0, 1]])


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no COLMAP model"):
        load_colmap(tmp_path)
    folder = write_colmap(tmp_path / "model")
    (folder / "images.txt").unlink()
    with pytest.raises(UserError, match=r"images.txt: there is no such file"):
        load_colmap(folder)
