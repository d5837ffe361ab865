"""Writer of COLMAP models, text and binary; the format is documented at colmap.github.io/format.html.

COLMAP has our camera axes and pixel centres, so nothing is converted. Points have no tracks and the error 0.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from tokengroups.geometry import quaternion_from_rotation
from tokengroups.io.colmap_files import ColmapCamera, ColmapImage
from tokengroups.io.files import atomic_path
from tokengroups.io.points import PointCloud
from tokengroups.io.posed_cameras import PosedCamera

_PINHOLE = 1  # COLMAP's number of the model
_NUMBERS = "{:.17g}"  # every bit of a float64
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])


def save_colmap(folder: Path, cameras: Sequence[PosedCamera], points: PointCloud, binary: bool = True) -> list[Path]:
    """Write ``cameras``, ``images`` and ``points3D``, each atomically; returns the files.

    Cameras are PINHOLE, one for all images of the same intrinsics and size. The names of images are those of the
    cameras; the text format has no place for white space in them.

    Args:
        folder: An existing folder.
        cameras: With sizes.
        points: Of the scene.
        binary: ``.bin`` files; else ``.txt``.
    """
    lenses: dict[ColmapCamera, int] = {}
    images = [_image(camera, lenses) for camera in cameras]
    rgb = np.round(255 * points.colors.numpy()).astype(np.uint8)
    xyz = points.positions.double().numpy()
    if binary:
        contents = [_binary_cameras(lenses), _binary_images(images), _binary_points(xyz, rgb)]
    else:
        contents = [_text_cameras(lenses), _text_images(images), _text_points(xyz, rgb)]
    files = [folder / f"{name}.{'bin' if binary else 'txt'}" for name in ("cameras", "images", "points3D")]
    for path, content in zip(files, contents, strict=True):
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return files


def _image(camera: PosedCamera, lenses: dict[ColmapCamera, int]) -> ColmapImage:
    """Image of a camera, whose lens joins `lenses`; their numbers begin with 1."""
    assert camera.size_hw is not None, "give cameras whose pictures have a size"
    (height, width), k = camera.size_hw, camera.intrinsics
    lens = ColmapCamera("PINHOLE", width, height, (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])))
    pose = camera.cam_from_world
    quaternion = quaternion_from_rotation(torch.from_numpy(np.ascontiguousarray(pose[:3, :3]))).tolist()
    number = lenses.setdefault(lens, len(lenses) + 1)
    return ColmapImage(number, camera.name, tuple(quaternion), tuple(pose[:3, 3].tolist()))


def _binary_cameras(lenses: dict[ColmapCamera, int]) -> bytes:
    rows = (
        struct.pack("<IiQQ4d", i, _PINHOLE, lens.width, lens.height, *lens.parameters) for lens, i in lenses.items()
    )
    return struct.pack("<Q", len(lenses)) + b"".join(rows)


def _binary_images(images: Sequence[ColmapImage]) -> bytes:
    rows = (
        struct.pack("<I7dI", number, *image.quaternion, *image.translation, image.camera_id)
        + os.fsencode(image.name)
        + b"\0"
        + struct.pack("<Q", 0)
        for number, image in enumerate(images, 1)
    )
    return struct.pack("<Q", len(images)) + b"".join(rows)


def _binary_points(xyz: np.ndarray, rgb: np.ndarray) -> bytes:
    table = np.zeros(len(xyz), _POINT)
    table["id"], table["xyz"], table["rgb"] = np.arange(1, len(xyz) + 1), xyz, rgb
    return struct.pack("<Q", len(xyz)) + table.tobytes()


def _text_cameras(lenses: dict[ColmapCamera, int]) -> bytes:
    rows = (
        f"{number} {lens.model} {lens.width} {lens.height} {_joined(lens.parameters)}"
        for lens, number in lenses.items()
    )
    return _lines("CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY", rows)


def _text_images(images: Sequence[ColmapImage]) -> bytes:
    rows = (
        f"{number} {_joined((*image.quaternion, *image.translation))} {image.camera_id} {image.name}\n"
        for number, image in enumerate(images, 1)
    )
    return _lines("IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then an empty line: no points", rows)


def _text_points(xyz: np.ndarray, rgb: np.ndarray) -> bytes:
    pairs = enumerate(zip(xyz.tolist(), rgb.tolist(), strict=True), 1)
    return _lines(
        "POINT3D_ID X Y Z R G B ERROR",
        (f"{number} {_joined(place)} {color[0]} {color[1]} {color[2]} 0" for number, (place, color) in pairs),
    )


def _joined(numbers: Iterable[float]) -> str:
    return " ".join(map(_NUMBERS.format, numbers))


def _lines(comment: str, rows: Iterable[str]) -> bytes:
    return os.fsencode("".join(f"{row}\n" for row in (f"# {comment}", *rows)))
