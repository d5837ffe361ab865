"""Reader of ``.ksplat``, the format of mkkellogg's GaussianSplats3D, compression levels 0 to 2.

A header of 4096 bytes, headers of 1024 bytes for all sections, then the sections: sizes of the buckets that are not
full, centres of the buckets, Gaussians. With compression, positions are relative to their bucket's centre.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from tokengroups.gaussians import concatenate
from tokengroups.io.splats.packing import ADVICE, LARGEST_FILE, check_count, make_gaussians, sh_from_bytes, take
from tokengroups.reading import malformed, read_bytes
from tokengroups.types import Gaussians

_HEADER_BYTES, _SECTION_BYTES = 4096, 1024
_HEADER = struct.Struct("<BBxxIIIIHxx12x2f")  # version, most sections, ..., Gaussians, level, centre, range of SH
_SECTION = struct.Struct("<IIIIfHxxIIIIH")
_SH_COUNTS = (0, 9, 24, 45)
_SH_RANGE = (-1.5, 1.5)
_STEPS = 32767  # of a position to each side of its bucket's centre, unless the section says another number
_TYPES = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))  # positions; scales and quats; SH


@dataclass(frozen=True)
class _Section:
    """Header of a section; its numbers are not trusted."""

    count: int
    most: int  # that there is room for
    bucket_size: int
    buckets: int
    block_side: float
    bucket_bytes: int
    steps: int
    bytes_in_file: int
    full: int
    partly_full: int
    sh_degree: int


def load_ksplat(path: Path) -> Gaussians:
    """Read the Gaussians; axes as in a 3DGS PLY.

    Raises:
        UserError: Unreadable, another version, truncated, or numbers that do not fit.
    """
    data = read_bytes(path, ADVICE, LARGEST_FILE)
    with malformed(path, ADVICE), np.errstate(invalid="ignore", over="ignore"):
        if len(data) < _HEADER_BYTES:
            raise ValueError("truncated")
        major, minor, sections, _, _, _, level, *sh_range = _HEADER.unpack_from(data)
        if (major, minor) != (0, 1) or level >= len(_TYPES):
            raise ValueError(f"version {major}.{minor}, compression level {level}; 0.1 and levels 0 to 2 are read")
        offset = _HEADER_BYTES + sections * _SECTION_BYTES
        if offset > len(data):
            raise ValueError("truncated")
        ends = tuple(given or default for given, default in zip(sh_range, _SH_RANGE, strict=True))
        parts = []
        for index in range(sections):
            section = _Section(*_SECTION.unpack_from(data, _HEADER_BYTES + index * _SECTION_BYTES))
            part, offset = _read_section(data, offset, section, level, ends)
            parts.append(part)
        check_count(sum(len(part.means) for part in parts))
        if not parts:
            raise ValueError("no section")
        return concatenate(parts)


def _read_section(
    data: bytes, offset: int, section: _Section, level: int, sh_range: tuple[float, ...]
) -> tuple[Gaussians, int]:
    """Gaussians of a section at an offset, and the offset behind it."""
    if section.sh_degree >= len(_SH_COUNTS) or section.count > section.most:
        raise ValueError(f"a section of {section.count} in {section.most} Gaussians of SH degree {section.sh_degree}")
    position, number, coefficient = _TYPES[level]
    fields = [("mean", position, 3), ("scale", number, 3), ("quat", number, 4), ("color", "u1", 3), ("opacity", "u1")]
    layout = np.dtype([*fields, ("sh", coefficient, (_SH_COUNTS[section.sh_degree],))])
    sizes = take(data, offset, "<u4", section.partly_full)
    offset += 4 * section.partly_full
    centres = offset
    offset += section.bucket_bytes * section.buckets
    table = take(data, offset, layout, section.count)
    means = table["mean"].astype(np.float64)
    if level:
        if section.full + section.partly_full != section.buckets:
            raise ValueError(f"{section.full} full and {section.partly_full} other buckets of {section.buckets}")
        bucket = _buckets(section, sizes)
        step = section.block_side / 2 / (section.steps or _STEPS)
        places = take(data, centres, "<f4", section.buckets, 3).astype(np.float64)
        means = (means - (section.steps or _STEPS)) * step + places[bucket]
    rest = table["sh"].astype(np.float64)
    if level == 2:
        rest = sh_range[0] + rest / 255 * (sh_range[1] - sh_range[0])
    sh = np.concatenate([sh_from_bytes(table["color"]), _by_coefficient(rest)], axis=1)
    gaussians = make_gaussians(means, table["quat"], table["scale"], table["opacity"] / 255, sh)
    return gaussians, offset + section.most * layout.itemsize


def _buckets(section: _Section, sizes: np.ndarray) -> Int64[np.ndarray, " N"]:
    """Bucket of each Gaussian: the full ones come first."""
    in_full = section.full * section.bucket_size
    index = np.arange(section.count)
    ends = in_full + sizes.astype(np.int64).cumsum()
    partly = section.full + np.searchsorted(ends, index, side="right")
    return np.where(index < in_full, index // max(section.bucket_size, 1), partly)


def _by_coefficient(rest: Float[np.ndarray, "N R"]) -> Float[np.ndarray, "N S 3"]:
    """Coefficients that come degree by degree, and within it channel by channel."""
    blocks, start = [np.empty((len(rest), 0, 3))], 0
    for width in (3, 5, 7):
        if start < rest.shape[1]:
            blocks.append(rest[:, start : start + 3 * width].reshape(-1, 3, width).swapaxes(1, 2))
            start += 3 * width
    return np.concatenate(blocks, axis=1)
