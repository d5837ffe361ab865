"""Files of a COLMAP model, text and binary, as plain records; the format is documented at colmap.github.io/format.html.

The binary files begin with the number of records. Counts inside are checked against the bytes that are left, so that
damaged files never take more memory than they have bytes.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from tokengroups.reading import path_kind, read_bytes

# Parameters by model, in the order of COLMAP's numbers of the models.
MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "fx fy cx cy omega",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
    "RAD_TAN_THIN_PRISM_FISHEYE": "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
}
_LIMIT = 2**30  # bytes of one file
_CAMERA, _IMAGE, _POINT = struct.Struct("<IiQQ"), struct.Struct("<I7dI"), struct.Struct("<Q3d3BdQ")
_COUNT = struct.Struct("<Q")
_POINT_2D_BYTES, _TRACK_BYTES = 24, 8
_IMAGE_WORDS = 10  # in its line; those of points come in threes
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class ColmapCamera:
    """Intrinsics of images."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """Pose and name of an image."""

    camera_id: int
    name: str
    quaternion: tuple[float, ...]  # wxyz, camera from world
    translation: tuple[float, ...]


def read_file(folder: Path, name: str) -> tuple[bytes, bool]:
    """Content of a model's file, and whether it is binary."""
    binary = folder / f"{name}.bin"
    is_binary = path_kind(binary) != "missing"
    return read_bytes(binary if is_binary else folder / f"{name}.txt", "run COLMAP again", _LIMIT), is_binary


def parse_cameras(data: bytes, binary: bool) -> dict[int, ColmapCamera]:
    """Cameras by id.

    Raises:
        ValueError: A record is damaged, an id comes twice, or the model is unknown; likewise in the other functions.
    """
    return _unique(_binary_cameras(data) if binary else _text_cameras(data))


def parse_images(data: bytes, binary: bool) -> dict[int, ColmapImage]:
    """Registered images by id."""
    return _unique(_binary_images(data) if binary else _text_images(data))


def parse_points(data: bytes, binary: bool) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Positions and colours, [0, 1], in the order of their ids."""
    rows = _binary_points(data) if binary else _text_points(data)
    table: np.ndarray = np.fromiter(rows, np.dtype((np.float64, 7)))
    table = table[table[:, 0].argsort(kind="stable")]
    return table[:, 1:4], table[:, 4:] / 255


def _text_cameras(data: bytes) -> Iterator[tuple[int, ColmapCamera]]:
    for line in filter(None, _lines(data)):
        number, model, width, height, *parameters = line.split()
        yield int(number), _camera(model, int(width), int(height), tuple(map(float, parameters)))


def _binary_cameras(data: bytes) -> Iterator[tuple[int, ColmapCamera]]:
    names = list(MODELS)
    (count,), offset = _take(data, 0, _COUNT)
    for _ in range(count):
        (number, model, width, height), offset = _take(data, offset, _CAMERA)
        if not 0 <= model < len(names):
            raise ValueError(f"camera model number {model} is not known")
        parameters, offset = _take(data, offset, struct.Struct(f"<{len(MODELS[names[model]].split())}d"))
        yield number, _camera(names[model], width, height, parameters)


def _camera(model: str, width: int, height: int, parameters: tuple[float, ...]) -> ColmapCamera:
    if model in MODELS and len(parameters) != len(MODELS[model].split()):
        raise ValueError(f"camera model {model} has the parameters {MODELS[model]}")
    return ColmapCamera(model, width, height, parameters)


def _text_images(data: bytes) -> Iterator[tuple[int, ColmapImage]]:
    """Two lines an image: the second one has its points and may be empty, or lacking at the end."""
    lines = _lines(data)
    for line in lines:
        if not line:
            continue
        number, *pose, camera, name = line.split(maxsplit=9)
        yield int(number), _image(int(camera), name, tuple(map(float, pose)))
        words = next(lines, "").rsplit(maxsplit=_IMAGE_WORDS)
        if len(words) == _IMAGE_WORDS or (words and not words[-1].lstrip("-").isdigit()):
            raise ValueError(f"the line after image {number} is not that of its points; it may be empty, not lacking")


def _binary_images(data: bytes) -> Iterator[tuple[int, ColmapImage]]:
    (count,), offset = _take(data, 0, _COUNT)
    for _ in range(count):
        (number, *pose, camera), start = _take(data, offset, _IMAGE)
        end = data.index(b"\0", start)
        (points,), offset = _take(data, end + 1, _COUNT)
        offset = _skip(data, offset, points * _POINT_2D_BYTES)
        yield number, _image(camera, os.fsdecode(data[start:end]), tuple(pose))


def _image(camera_id: int, name: str, pose: tuple[float, ...]) -> ColmapImage:
    if len(pose) != 7:
        raise ValueError("an image needs IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")
    return ColmapImage(camera_id, name, pose[:4], pose[4:])


def _text_points(data: bytes) -> Iterator[tuple[float, ...]]:
    """Rows of id, position and colour."""
    for line in filter(None, _lines(data)):
        number, *values = line.split(maxsplit=7)[:7]
        if len(values) != 6:
            raise ValueError("a point needs POINT3D_ID X Y Z R G B")
        yield int(number), *map(float, values)


def _binary_points(data: bytes) -> Iterator[tuple[float, ...]]:
    (count,), offset = _take(data, 0, _COUNT)
    for _ in range(count):
        (number, x, y, z, red, green, blue, _, track), offset = _take(data, offset, _POINT)
        offset = _skip(data, offset, track * _TRACK_BYTES)
        yield number, x, y, z, red, green, blue


def _lines(data: bytes) -> Iterator[str]:
    """Lines without comments, stripped; empty ones too."""
    for line in io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")):
        if not line.startswith(b"#"):
            yield os.fsdecode(line).strip()


def _take(data: bytes, offset: int, layout: struct.Struct) -> tuple[tuple[Any, ...], int]:
    """Values at an offset, and the offset behind them."""
    end = _skip(data, offset, layout.size)
    return layout.unpack_from(data, offset), end


def _skip(data: bytes, offset: int, size: int) -> int:
    if offset + size > len(data):
        raise ValueError("the file is truncated")
    return offset + size


def _unique(rows: Iterable[tuple[int, _Record]]) -> dict[int, _Record]:
    found: dict[int, _Record] = {}
    for number, value in rows:
        if number in found:
            raise ValueError(f"id {number} comes twice")
        found[number] = value
    return found
