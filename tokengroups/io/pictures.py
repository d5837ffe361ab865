"""Pictures for people and programs: colour, depth, and group maps as PNG files."""

from __future__ import annotations

import colorsys
import os

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from tokengroups.io.files import atomic_path

DEPTH_UNIT = 0.001  # one step of a 16-bit depth PNG, in scene units: ScanNet's millimetres when a unit is a metre
NO_GROUP_COLOR = (0, 0, 0)
_UINT16_MAX = 65535
_GOLDEN_RATIO = 0.618033988749895
# Stops of the depth preview, near to far: light yellow, orange, magenta, dark blue.
_DEPTH_STOPS = np.array([[252, 253, 191], [254, 159, 109], [183, 55, 121], [81, 18, 124], [8, 8, 40]], np.float64)


def save_color(path: str | os.PathLike[str], image: Float[Tensor, "H W 3"]) -> None:
    """Write colours in [0, 1] as 8-bit PNG; values outside are clipped."""
    _save(path, (image.detach().float().cpu().clamp(0, 1) * 255).round().byte().numpy())


def save_depth(path: str | os.PathLike[str], depth: Float[Tensor, "H W"]) -> None:
    """Write z-depth as 16-bit PNG in steps of `DEPTH_UNIT`; 0 = nothing there, beyond 65.535 clipped."""
    steps = (depth.detach().double().cpu() / DEPTH_UNIT).round().clamp(0, _UINT16_MAX)
    _save(path, steps.numpy().astype(np.uint16))


def save_depth_preview(path: str | os.PathLike[str], depth: Float[Tensor, "H W"]) -> None:
    """Write z-depth as colours, light = near, dark = far, stretched over the picture; black = nothing."""
    values = depth.detach().double().cpu().numpy()
    known = values > 0
    picture = np.zeros((*values.shape, 3), np.uint8)
    if known.any():
        near, far = np.quantile(values[known], [0.01, 0.99])
        place = ((values[known] - near) / max(far - near, 1e-9)).clip(0, 1) * (len(_DEPTH_STOPS) - 1)
        stops = np.arange(len(_DEPTH_STOPS))
        picture[known] = np.stack([np.interp(place, stops, channel) for channel in _DEPTH_STOPS.T], -1).round()
    _save(path, picture)


def save_group_colors(path: str | os.PathLike[str], group_map: Int64[Tensor, "H W"]) -> None:
    """Write a map of group ids in their fixed colours; black = no group (-1)."""
    _save(path, group_colors(group_map))


def group_colors(group_map: Int64[Tensor, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A map of group ids as a picture, in their fixed colours; black = no group (-1)."""
    ids = group_map.detach().cpu().numpy()
    picture = np.zeros((*ids.shape, 3), np.uint8)
    for group_id in np.unique(ids):
        picture[ids == group_id] = group_color(int(group_id))
    return picture


def save_group_ids(path: str | os.PathLike[str], group_map: Int64[Tensor, "H W"]) -> None:
    """Write a map of group ids for programs: 16-bit PNG, value = id + 1, 0 = no group."""
    _save(path, (group_map.detach().cpu().numpy() + 1).clip(0, _UINT16_MAX).astype(np.uint16))


def group_color(group_id: int) -> tuple[int, int, int]:
    """The fixed colour of a group id, the same in every picture: hues a golden angle apart."""
    if group_id < 0:
        return NO_GROUP_COLOR
    hue = (group_id * _GOLDEN_RATIO + 0.02) % 1.0
    value, saturation = ((1.0, 0.65), (0.75, 0.85), (0.9, 0.4))[group_id % 3]
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def color_name(color: tuple[int, int, int]) -> str:
    """``#rrggbb`` of an 8-bit colour."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _save(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
