"""What packed splat formats share: bounded reading, quaternions without their largest component, colours in bytes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians

ADVICE = "get the file again, or export it again from the program that wrote it"
LARGEST_FILE = 2**32  # bytes
MOST_GAUSSIANS = 2**25
_FREE_BYTES, _LARGEST_RATIO = 2**26, 100  # larger contents must not be that many times larger than their file
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def check_count(count: int) -> None:
    """Refuse more Gaussians than `MOST_GAUSSIANS`.

    Raises:
        ValueError: These are more.
    """
    if count > MOST_GAUSSIANS:
        raise ValueError(f"{count:,} Gaussians, more than {MOST_GAUSSIANS:,}")


def check_expansion(packed: int, unpacked: int) -> None:
    """Refuse contents that are so much larger than their file that they are an attack.

    Raises:
        ValueError: They are.
    """
    if unpacked > max(_FREE_BYTES, _LARGEST_RATIO * packed):
        raise ValueError(f"{packed:,} bytes would become {unpacked:,}, more than {_LARGEST_RATIO} times as many")


def take(data: bytes, offset: int, dtype: str | np.dtype, *shape: int) -> np.ndarray:
    """An array inside of bytes, without a copy.

    Raises:
        ValueError: It does not end inside of them.
    """
    dtype, count = np.dtype(dtype), int(np.prod(shape, dtype=np.float64))
    if offset + count * dtype.itemsize > len(data):
        raise ValueError("truncated")
    return np.frombuffer(data, dtype, count, offset).reshape(shape)


def complete_quaternions(
    others: Float[np.ndarray, "N 3"], largest: Int64[np.ndarray, " N"]
) -> Float[np.ndarray, "N 4"]:
    """Unit quaternions of their three smaller components, in order; the missing component is positive."""
    quats = np.empty((len(others), 4))
    np.put_along_axis(quats, _OTHERS[largest], others, axis=1)
    missing = np.sqrt(np.maximum(1 - np.square(others).sum(axis=1), 0))
    np.put_along_axis(quats, largest[:, None], missing[:, None], axis=1)
    return quats


def sh_from_bytes(colors: UInt8[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 1 3"]:
    """Constant SH coefficients of colours in bytes."""
    return ((colors / 255 - 0.5) / SH_C0)[:, None]


def make_gaussians(
    means: Float[np.ndarray, "N 3"],
    quats: Float[np.ndarray, "N 4"],
    scales: Float[np.ndarray, "N 3"],
    opacities: Float[np.ndarray, " N"],
    sh: Float[np.ndarray, "N S 3"],
) -> Gaussians:
    """Gaussians of arrays in our ranges; what float32 cannot hold becomes infinite, and is judged later."""
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [np.array(values, np.float32) for values in (means, quats, scales, opacities, sh)]
    return Gaussians(*map(torch.from_numpy, parts))
