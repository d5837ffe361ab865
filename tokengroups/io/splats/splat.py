"""Reader of ``.splat``, the format of antimatter15's viewer: 32 bytes a Gaussian, no header, no higher SH."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tokengroups.io.splats.packing import ADVICE, LARGEST_FILE, check_count, make_gaussians, sh_from_bytes, take
from tokengroups.reading import malformed, read_bytes
from tokengroups.types import Gaussians

_LAYOUT = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 3), ("opacity", "u1"), ("quat", "u1", 4)])


def load_splat(path: Path) -> Gaussians:
    """Read the Gaussians; axes as in a 3DGS PLY.

    Raises:
        UserError: Unreadable, or its size is no multiple of 32 bytes.
    """
    data = read_bytes(path, ADVICE, LARGEST_FILE)
    with malformed(path, ADVICE):
        if len(data) % _LAYOUT.itemsize:
            raise ValueError(f"its size is no multiple of {_LAYOUT.itemsize} bytes")
        check_count(len(data) // _LAYOUT.itemsize)
        table = take(data, 0, _LAYOUT, len(data) // _LAYOUT.itemsize)
    quats = (table["quat"] - 128.0) / 128
    opacities = table["opacity"] / 255
    return make_gaussians(table["mean"], quats, table["scale"], opacities, sh_from_bytes(table["color"]))
