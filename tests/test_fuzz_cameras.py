"""Damaged camera files and point clouds: each is refused in one line, or what is read from it can be used."""

from __future__ import annotations

import json
import math
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzzing import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tokengroups.errors import UserError
from tokengroups.io.camera_paths import MAX_SECONDS, CameraPath, load_camera_path
from tokengroups.io.cameras import load_cameras, load_named_cameras
from tokengroups.io.colmap import load_colmap
from tokengroups.io.points import FARTHEST, PointCloud, load_points
from tokengroups.io.posed_cameras import MAX_SIDE_PX, CameraSet
from tokengroups.io.transforms import load_transforms
from tokengroups.scene import path_cameras

fuzzed = settings(
    max_examples=examples(100), deadline=None, derandomize=os.environ.get("FUZZ_FACTOR", "1") == "1", database=None
)
ROTATION = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
POSE = [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0]]
ENTRY = {"img_name": "a", "width": 64, "height": 48, "position": [1, 2, 3], "rotation": ROTATION, "fx": 50.0, "fy": 40}
CAMERAS = [ENTRY, {**ENTRY, "cx": 30.0, "cy": 20, "cam_from_world": POSE}]
PATH = {"format": "tokengroups.path", "version": 1, "seconds": 6, "closed": False, "viewpoints": CAMERAS}
FRAMES = [
    {"file_path": "images/a.png", "transform_matrix": POSE},
    {"file_path": "b", "transform_matrix": POSE[:3], "fl_x": 70, "camera_angle_y": 0.6},
]
PIXELS = {"w": 64, "h": 48.0, "fl_x": 50.0, "fl_y": 40.0, "cx": 30.0, "cy": 20.0, "k1": 0, "camera_model": "OPENCV"}
TRANSFORMS = [
    {**PIXELS, "is_fisheye": False, "distortion_params": [0.0, 0], "ply_file_path": "none.ply", "frames": FRAMES},
    {"camera_angle_x": 0.8, "frames": FRAMES[:1]},
]
COLMAP = {
    "cameras": "# list\n1 OPENCV 64 48 50 40 30 20 0 0 0 0\n2 SIMPLE_PINHOLE 64 48 50 32 24\n",
    "images": "1 0.7 0 0.7 0 0.5 0 2 1 a.jpg\n1 2 7 3.5 4 -1\n4 1 0 0 0 0 0 0 2 cam/b c.jpg\n\n",
    "points3D": "7 1 2 3 255 0 51 0.1 1 0\n9 4 5 6 0 0 0 0.1\n",
}
BINARY = {
    "cameras": struct.pack("<QIiQQ4d", 1, 1, 1, 64, 48, 50, 40, 30, 20),
    "images": struct.pack("<QI7dI6sQ2dQ", 1, 1, 1, 0, 0, 0, 0.5, 0, 2, 1, b"a.jpg\0", 1, 5, 6, 1),
    "points3D": struct.pack("<QQ3d3BdQ2I", 1, 1, 1, 2, 3, 255, 0, 51, 0.1, 1, 1, 0),
}
HEADER = "element vertex 2\n" + "".join(
    f"property {kind}\n" for kind in ("double x", "float y", "float z", "uchar red")
)
PLY = (
    f"ply\nformat ascii 1.0\n{HEADER}property uchar green\nproperty uchar blue\nend_header\n1 2 3 255 0 9\n4 5 6 0 0 0"
)
PLY_BINARY = f"ply\nformat binary_little_endian 1.0\n{HEADER}end_header\n".encode() + struct.pack(
    "<dffBdffB", 1, 2, 3, 4, 5, 6, 7, 8
)


# --- mutations -------------------------------------------------------------------------------------------------------

NUMBERS = (
    0,
    -1,
    1,
    1e39,
    -1e39,
    1e300,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    2**31,
    2**64,
    -(2**63),
    10**400,
    0.5,
    4096,
)
hostile_values = st.one_of(
    st.sampled_from(NUMBERS),
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from(["", "0.05", "nan", "../a", "/dev/zero", "\x1b[2J", "\ud800", "a" * 5000, "a\0b", "FISHEYE"]),
    st.recursive(st.sampled_from(NUMBERS), lambda inner: st.lists(inner, max_size=4), max_leaves=20),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
hostile_words = st.one_of(
    st.sampled_from([str(value) for value in NUMBERS]),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(
        ["", "\0", "PINHOLE", "FOV", "9" * 5000, "9223372036854775808", "list", "uchar", "ascii", "#", "\n"]
    ),
)


def places(document: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys or indices."""
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in list(keys):
        found.append((document, key))
        places(document[key], found)
    return found


def mutated_json(data: st.DataObject, document: Any) -> bytes:
    """Change, remove or nest some values."""
    document = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(document, [])))
        action = data.draw(st.sampled_from(["replace", "replace", "remove", "nest", "many"]))
        if action == "remove":
            del container[key]
        else:
            changes = {"nest": lambda old: [old], "many": lambda old: [old] * 3}
            container[key] = changes.get(action, lambda _: data.draw(hostile_values))(container[key])
        if not places(document, []):
            break
    text = json.dumps(document)
    if data.draw(st.integers(0, 30)) == 0:
        text = text.replace("]", "]" + "[" * 50_000, 1)
    return text.encode()


def mutated_bytes(data: st.DataObject, content: bytes) -> bytes:
    """Cut, overwrite or repeat some bytes."""
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 12))
        middle = data.draw(
            st.one_of(st.binary(max_size=9), st.just(content[at : at + length] * 2), st.just(b"\xff" * length))
        )
        content = content[:at] + middle + content[at + length :]
    return content if data.draw(st.integers(0, 9)) else content[: data.draw(st.integers(0, len(content)))]


def mutated_words(data: st.DataObject, content: str) -> bytes:
    """Replace, remove or repeat some words of a text file, or whole lines."""
    lines = [line.split(" ") for line in content.split("\n")]
    for _ in range(data.draw(st.integers(1, 3))):
        line = data.draw(st.sampled_from(lines))
        at = data.draw(st.integers(0, len(line)))
        action = data.draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
        words = [data.draw(hostile_words)] if action == "replace" else []
        line[at : at + 1] = line * 2 if action == "repeat" else words
    return "\n".join(" ".join(line) for line in lines).encode()


# --- what a reader may answer ----------------------------------------------------------------------------------------


def check(read: Callable[[], Any], judge: Callable[[Any], None]) -> None:
    """One line of refusal, or a result that the judge accepts."""
    try:
        result = read()
    except UserError as error:
        assert str(error) and "\n" not in str(error) and str(error).isprintable(), str(error)
    else:
        judge(result)


def judge_cloud(cloud: PointCloud) -> None:
    assert len(cloud.positions) == len(cloud.colors) > 0
    assert float(cloud.positions.abs().max()) <= FARTHEST
    assert 0 <= float(cloud.colors.min()) and float(cloud.colors.max()) <= 1


def judge_set(found: CameraSet) -> None:
    assert found.cameras
    for camera in found.cameras:
        rotation = camera.cam_from_world[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=3e-3)
        assert np.linalg.det(rotation) > 0 and camera.cam_from_world[3].tolist() == [0, 0, 0, 1]
        assert np.abs(camera.cam_from_world).max() <= 2 * FARTHEST
        if camera.size_hw is not None:
            assert all(1 <= side <= MAX_SIDE_PX for side in camera.size_hw)
        if camera.size_hw is not None or camera.in_widths:
            pinhole = camera.pinhole((48, 64))
            assert np.isfinite(np.float32(pinhole)).all() and pinhole[0, 0] > 0 and pinhole[1, 1] > 0
    if found.points is not None:
        judge_cloud(found.points)


def read_file(load: Callable[[Path], Any], name: str, content: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        return load(Path(folder) / name)


def read_model(files: dict[str, bytes], suffix: str) -> CameraSet:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / f"{name}{suffix}").write_bytes(content)
        return load_colmap(folder)


# --- readers ---------------------------------------------------------------------------------------------------------


def test_the_sound_files_are_read() -> None:
    """What is mutated below is accepted as it is."""
    judge_set(read_file(load_named_cameras, "c.json", json.dumps(CAMERAS).encode()))
    assert read_file(load_camera_path, "p.json", json.dumps(PATH).encode()).seconds == 6
    for document in TRANSFORMS:
        judge_set(read_file(load_transforms, "t.json", json.dumps(document).encode()))
    judge_set(read_model({name: text.encode() for name, text in COLMAP.items()}, ".txt"))
    judge_set(read_model(BINARY, ".bin"))
    for content in (PLY.encode(), PLY_BINARY):
        judge_cloud(read_file(load_points, "p.ply", content))


@fuzzed
@given(data=st.data(), raw=st.booleans())
def test_cameras(data: st.DataObject, raw: bool) -> None:
    content = mutated_bytes(data, json.dumps(CAMERAS).encode()) if raw else mutated_json(data, CAMERAS)

    def judge(cameras: Any) -> None:
        count = len(cameras.intrinsics)
        assert cameras.cam_from_world.shape == (count, 4, 4) and cameras.intrinsics.shape == (count, 3, 3) and count
        assert cameras.cam_from_world.dtype == cameras.intrinsics.dtype == torch.float32
        assert bool(cameras.cam_from_world.isfinite().all() and cameras.intrinsics.isfinite().all())

    check(lambda: read_file(load_cameras, "cameras.json", content), judge)
    check(lambda: read_file(load_named_cameras, "cameras.json", content), judge_set)


@fuzzed
@given(data=st.data(), raw=st.booleans())
def test_camera_paths(data: st.DataObject, raw: bool) -> None:
    content = mutated_bytes(data, json.dumps(PATH).encode()) if raw else mutated_json(data, PATH)

    def judge(path: CameraPath) -> None:
        film = path_cameras(path.viewpoints, 7, path.closed)
        assert 0 < path.seconds <= MAX_SECONDS
        assert bool(film.cam_from_world.isfinite().all() and film.intrinsics.isfinite().all())

    check(lambda: read_file(load_camera_path, "path.json", content), judge)


@fuzzed
@given(data=st.data(), raw=st.booleans(), document=st.sampled_from(TRANSFORMS))
def test_transforms(data: st.DataObject, raw: bool, document: Any) -> None:
    content = mutated_bytes(data, json.dumps(document).encode()) if raw else mutated_json(data, document)
    check(lambda: read_file(load_transforms, "transforms.json", content), judge_set)


@fuzzed
@given(data=st.data(), raw=st.booleans(), name=st.sampled_from(sorted(COLMAP)))
def test_colmap_text(data: st.DataObject, raw: bool, name: str) -> None:
    files = {key: text.encode() for key, text in COLMAP.items()}
    files[name] = mutated_bytes(data, files[name]) if raw else mutated_words(data, COLMAP[name])
    check(lambda: read_model(files, ".txt"), judge_set)


@fuzzed
@given(data=st.data(), name=st.sampled_from(sorted(BINARY)))
def test_colmap_binary(data: st.DataObject, name: str) -> None:
    files = {**BINARY, name: mutated_bytes(data, BINARY[name])}
    check(lambda: read_model(files, ".bin"), judge_set)


@fuzzed
@given(data=st.data(), raw=st.booleans(), binary=st.booleans())
def test_points(data: st.DataObject, raw: bool, binary: bool) -> None:
    whole = PLY_BINARY if binary else PLY.encode()
    content = mutated_bytes(data, whole) if raw or binary else mutated_words(data, PLY)
    check(lambda: read_file(load_points, "points.ply", content), judge_cloud)
