"""Reader of SOG version 2 (PlayCanvas): ``meta.json`` and lossless WebP pictures, as a folder or a zip file.

A pixel, in rows, is a Gaussian: 16 bits a coordinate after sign(x) log(1 + |x|), scales, colours and higher SH
coefficients by codebooks, the latter as a palette of whole sets.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int64, UInt8

from tokengroups.errors import UserError
from tokengroups.io.decoding import opened_picture
from tokengroups.io.splats.packing import (
    ADVICE,
    LARGEST_FILE,
    check_count,
    check_expansion,
    complete_quaternions,
    make_gaussians,
)
from tokengroups.reading import TEXT_LIMIT, check_file, malformed, read_bytes, shown
from tokengroups.types import Gaussians

META = "meta.json"
_VERSION = 2
_ZIP_TYPES = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SH_COUNTS = (0, 3, 8, 15)  # coefficients of the degrees from 1 on
_PALETTE_WIDTH = 64  # entries in a row of centroids
_CODES = 256
_FIRST_TAG = 252  # alpha of quaternions whose w is the largest component; then x, y, z
_PIXELS_PER_GAUSSIAN, _FREE_PIXELS = 4, 2**22  # larger pictures are an attack

Read = Callable[[str, int], bytes]  # name and most bytes of a file


def load_sog(path: Path) -> Gaussians:
    """Read a ``.sog`` file, or the ``meta.json`` of an unpacked one; axes as in a 3DGS PLY.

    Raises:
        UserError: Unreadable, no SOG of version 2, or damaged.
    """
    if path.name == META:
        return _decode(path, lambda name, limit: read_bytes(path.parent / name, ADVICE, limit))
    try:
        with zipfile.ZipFile(check_file(path, ADVICE)) as archive:
            return _decode(path, lambda name, limit: _member(archive, name, limit))
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, NotImplementedError, ValueError) as error:
        raise UserError(f"{shown(path)}: damaged or truncated zip file ({shown(error)}); {ADVICE}") from error


def is_sog_meta(path: Path) -> bool:
    """Tell whether a JSON file is the ``meta.json`` of a SOG, of any version."""
    try:
        content = json.loads(read_bytes(path, limit=TEXT_LIMIT))
    except (UserError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"means", "scales", "quats", "sh0"} <= set(content)


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Content of a file in a zip file."""
    info = archive.getinfo(name)
    if info.file_size > limit or info.flag_bits & 1 or info.compress_type not in _ZIP_TYPES:
        raise ValueError(f"{name}: too large, or with a password, or packed by another method than deflate")
    check_expansion(info.compress_size, info.file_size)
    with archive.open(info) as file:
        return file.read(limit)


def _decode(path: Path, read: Read) -> Gaussians:
    with malformed(path, ADVICE):
        meta = json.loads(read(META, TEXT_LIMIT))
        if meta.get("version") != _VERSION:
            raise ValueError(f"version {meta.get('version', 1)!r}; {_VERSION} is read")
        pictures = _Pictures(path, read, int(meta["count"]))
        low, high = (pictures.rows(name) for name in meta["means"]["files"])
        ends = [np.array(meta["means"][end], np.float64) for end in ("mins", "maxs")]
        if any(end.shape != (3,) for end in ends):
            raise ValueError("'mins' and 'maxs' need 3 numbers each")
        steps = (low[:, :3] + 256.0 * high[:, :3]) / 65535
        with np.errstate(over="ignore", invalid="ignore"):
            logs = ends[0] + (ends[1] - ends[0]) * steps
            means = np.sign(logs) * np.expm1(np.abs(logs))
            scales = np.exp(_codebook(meta["scales"])[pictures.rows(*meta["scales"]["files"])[:, :3]])
        colors = pictures.rows(*meta["sh0"]["files"])
        sh = _codebook(meta["sh0"])[colors[:, None, :3]]
        if meta.get("shN"):
            sh = np.concatenate([sh, _higher_sh(meta["shN"], pictures)], axis=1)
        quats = _quaternions(pictures.rows(*meta["quats"]["files"]))
        return make_gaussians(means, quats, scales, colors[:, 3] / 255, sh)


class _Pictures:
    """Reads pictures of a SOG with a pixel per Gaussian."""

    def __init__(self, path: Path, read: Read, count: int) -> None:
        check_count(count)
        if count < 1:
            raise ValueError(f"'count' is {count}")
        self.path, self.read, self.count = path, read, count

    def rows(self, name: str) -> UInt8[np.ndarray, "N 4"]:
        """RGBA of all Gaussians."""
        pixels = rearrange(self.pixels(name), "h w c -> (h w) c")
        if len(pixels) < self.count:
            raise ValueError(f"{name} has {len(pixels)} pixels for {self.count} Gaussians")
        return pixels[: self.count]

    def pixels(self, name: str) -> UInt8[np.ndarray, "H W 4"]:
        """RGBA of a whole picture."""
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{name!r} is no name of a file")
        content = self.read(name, LARGEST_FILE)
        most = max(_PIXELS_PER_GAUSSIAN * self.count, _FREE_PIXELS) / 1e6
        place = self.path.parent / name if self.path.name == META else self.path
        with opened_picture(place, ("WEBP", "PNG"), ADVICE, max_megapixels=most, content=content) as image:
            return np.asarray(image.convert("RGBA"))


def _codebook(part: dict[str, Any]) -> Float[np.ndarray, "256"]:
    values = np.array(part["codebook"], np.float64)
    if values.ndim != 1 or not 0 < len(values) <= _CODES:
        raise ValueError(f"a codebook of shape {values.shape}")
    return np.pad(values, (0, _CODES - len(values)), constant_values=np.nan)  # bytes beyond it are refused as NaN


def _quaternions(rgba: UInt8[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    largest: Int64[np.ndarray, " N"] = rgba[:, 3].astype(np.int64) - _FIRST_TAG
    if largest.min() < 0:
        raise ValueError("a quaternion without the number of its largest component")
    return complete_quaternions((rgba[:, :3] / 255 * 2 - 1) / np.sqrt(2), largest)


def _higher_sh(part: dict[str, Any], pictures: _Pictures) -> Float[np.ndarray, "N S 3"]:
    """Entries of the palette that the labels name."""
    centroids, labels = (pictures.pixels(part["files"][0]), pictures.rows(part["files"][1]))
    width = _SH_COUNTS[int(part["bands"])]
    if centroids.shape[1] != _PALETTE_WIDTH * width or not width:
        raise ValueError(f"centroids {centroids.shape[1]} pixels wide for {part['bands']} bands")
    entries = rearrange(centroids[..., :3], "h (p s) c -> (h p) s c", s=width)
    return _codebook(part)[entries[labels[:, 0].astype(np.int64) + 256 * labels[:, 1].astype(np.int64)]]
