"""Numbers inside of SPZ files: positions in fixed point, all else in bytes; axes y up, z backward, as in the file.

Numbers as in Niantic's library: scales as logarithms in steps of 1/16 from -10; colours with room beyond [0, 1];
higher SH coefficients in [-1, 1), of which the writer keeps 5 bits (degree 1) or 4; version 3 stores the three smaller
components of quaternions in 10 bits each, version 2 x, y and z in bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8

from tokengroups.gaussians import log_from_scale
from tokengroups.io.splats.packing import complete_quaternions, make_gaussians, take
from tokengroups.spherical_harmonics import sh_degree
from tokengroups.types import Gaussians

_SH_COUNTS = (0, 9, 24, 45)
_COLOR_SCALE = 0.15
_LOG_START, _LOG_STEPS = 10.0, 16.0
_SMALLEST_THREE = 3  # version from which on
_MAGNITUDE = 511  # of a component, beside its sign
_POSITION_BITS, _MIN_FRACTION, _MAX_FRACTION = 23, 4, 23
_SPARE_BITS = 3  # positions use 20 bits and a sign: one millionth of the scene is fine, and noise does not compress
_DEGREE_1, _STEP_1, _STEP_REST = 9, 8, 16  # coefficients; units of the SH bytes that the writer rounds to
_XYZW = [1, 2, 3, 0]


@dataclass(frozen=True)
class SpzHeader:
    """What the values mean."""

    version: int
    count: int
    sh_degree: int
    fractional_bits: int


def attribute_bytes(header: SpzHeader) -> list[int]:
    """Sizes of positions, opacities, colours, scales, rotations and SH."""
    return [header.count * width for width in _widths(header)]


def _widths(header: SpzHeader) -> tuple[int, ...]:
    return 9, 1, 3, 3, 4 if header.version >= _SMALLEST_THREE else 3, _SH_COUNTS[header.sh_degree]


def unpack_values(header: SpzHeader, data: bytes) -> Gaussians:
    """Gaussians of the values.

    Raises:
        ValueError: The values are too few.
    """
    columns, start = [], 0
    for width in _widths(header):
        columns.append(take(data, start, "u1", header.count, width))
        start += header.count * width
    positions, alphas, colors, scales, rotations, rest = columns
    rest = rearrange((rest - 128.0) / 128, "n (s c) -> n s c", c=3)
    sh = np.concatenate([((colors / 255 - 0.5) / _COLOR_SCALE)[:, None], rest], axis=1)
    quats = _smallest_three(rotations) if header.version >= _SMALLEST_THREE else _first_three(rotations)
    means = _fixed_point(positions) / 2.0**header.fractional_bits
    scales = np.exp(scales / _LOG_STEPS - _LOG_START)
    return make_gaussians(means, quats, scales, alphas[:, 0] / 255, sh)


def pack_values(gaussians: Gaussians) -> tuple[SpzHeader, bytes]:
    """Values of version 3. Scales below exp(-10) become that, colours are clipped to SH coefficients of +-3.3.

    Raises:
        ValueError: Positions or scales beyond the range.
    """
    means = gaussians.means.double().numpy()
    farthest = float(np.abs(means).max(initial=0))
    bits = _POSITION_BITS - _SPARE_BITS - math.ceil(math.log2(max(farthest, 1e-9)))
    bits = min(max(bits, _MIN_FRACTION), _MAX_FRACTION)
    fixed = np.round(means * 2.0**bits).astype(np.int64)
    if np.abs(fixed).max(initial=0) >= 1 << _POSITION_BITS:
        raise ValueError(f"SPZ has no place for positions {farthest:.3g} units away")
    logs = log_from_scale(gaussians.scales.double()).numpy()
    if (logs + _LOG_START).max(initial=0) * _LOG_STEPS > 255.5:
        raise ValueError(f"SPZ has no place for scales of {float(gaussians.scales.max()):.3g} units")
    constant, rest = gaussians.sh[:, 0].double().numpy(), gaussians.sh[:, 1:].double().numpy()
    parts = [
        fixed.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3],
        _bytes(gaussians.opacities.double().numpy() * 255),
        _bytes(constant * (_COLOR_SCALE * 255) + 127.5),
        _bytes((logs + _LOG_START) * _LOG_STEPS),
        _pack_rotations(torch.nn.functional.normalize(gaussians.quats.double(), dim=1).numpy()[:, _XYZW]),
        _pack_rest(rearrange(rest, "n s c -> n (s c)")),
    ]
    header = SpzHeader(_SMALLEST_THREE, len(means), sh_degree(gaussians.sh.shape[1]), bits)
    return header, b"".join(part.tobytes() for part in parts)


def _fixed_point(values: UInt8[np.ndarray, "N 9"]) -> Float[np.ndarray, "N 3"]:
    """Whole numbers of 24 bits with a sign."""
    low, middle, high = (values[:, byte::3].astype(np.int64) for byte in range(3))
    numbers = low | middle << 8 | high << 16
    return (numbers - ((numbers >> 23) << 24)).astype(np.float64)


def _first_three(values: UInt8[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4"]:
    """Quaternions wxyz of x, y and z; w is positive."""
    return complete_quaternions(values / 127.5 - 1, np.zeros(len(values), np.int64))


def _smallest_three(values: UInt8[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    """Quaternions wxyz of 10 bits for each smaller component, and 2 for the place of the largest of x, y, z, w."""
    packed = take(values.tobytes(), 0, "<u4", len(values)).astype(np.int64)
    fields = np.stack([packed >> 20, packed >> 10, packed], axis=1) & 1023
    signs = np.where(fields >> 9, -1.0, 1.0)
    others = signs * (fields & _MAGNITUDE) / _MAGNITUDE * math.sqrt(0.5)
    return np.roll(complete_quaternions(others, packed >> 30), 1, axis=1)


def _pack_rotations(quats: Float[np.ndarray, "N 4"]) -> np.ndarray:
    """Inverse of `_smallest_three`, of xyzw."""
    largest = np.abs(quats).argmax(axis=1)
    sign = np.sign(np.take_along_axis(quats, largest[:, None], axis=1))
    others = sign * quats[np.arange(4) != largest[:, None]].reshape(-1, 3)
    magnitudes = np.round(np.abs(others) * (_MAGNITUDE / math.sqrt(0.5))).astype(np.int64).clip(0, _MAGNITUDE)
    fields = magnitudes | np.where(others < 0, 512, 0)
    packed = largest << 30 | fields[:, 0] << 20 | fields[:, 1] << 10 | fields[:, 2]
    return packed.astype("<u4")


def _pack_rest(rest: Float[np.ndarray, "N R"]) -> UInt8[np.ndarray, "N R"]:
    """SH coefficients, rounded to buckets of which 0 is one."""
    step = np.where(np.arange(rest.shape[1]) < _DEGREE_1, _STEP_1, _STEP_REST)
    return _bytes(np.round(rest * (128 / step)) * step + 128)


def _bytes(values: np.ndarray) -> UInt8[np.ndarray, "..."]:
    return np.round(values).clip(0, 255).astype(np.uint8)
