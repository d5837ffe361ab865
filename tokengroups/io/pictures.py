"""Pictures for people and programs: colour, depth, and group maps as PNG files."""

from __future__ import annotations

import colorsys
import itertools
import os
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int64, UInt8, UInt16
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.pixels import write_pixels

DEPTH_UNIT = 0.001  # one step of a 16-bit depth PNG, in scene units: ScanNet's millimetres when a unit is a metre
NO_GROUP_COLOR = (0, 0, 0)
_UINT16_MAX = 65535
_GOLDEN_RATIO = 0.618033988749895
# Stops of the depth preview, near to far: light yellow, orange, magenta, dark blue.
_DEPTH_STOPS = np.array([[252, 253, 191], [254, 159, 109], [183, 55, 121], [81, 18, 124], [8, 8, 40]], np.float64)


def save_color(path: str | os.PathLike[str], image: Float[Tensor, "H W 3"]) -> None:
    """Write colours in [0, 1] as 8-bit PNG; values outside are clipped."""
    write_pixels(path, color_pixels(image))


def color_pixels(image: Float[Tensor, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Colours in [0, 1] as bytes; values outside are clipped."""
    return image.detach().float().cpu().clamp(0, 1).mul_(255).round_().byte().numpy()


def save_depth(path: str | os.PathLike[str], depth: Float[Tensor, "H W"]) -> float:
    """Write z-depth as 16-bit PNG; 0 = nothing there, or no finite depth.

    Returns:
        One step in scene units, as `depth_steps` chooses it.
    """
    steps, unit = depth_steps(depth)
    write_pixels(path, steps)
    return unit


def depth_steps(depth: Float[Tensor, "H W"]) -> tuple[UInt16[np.ndarray, "H W"], float]:
    """Z-depth in steps for a 16-bit picture; 0 = nothing there, or no finite depth.

    Returns:
        The picture, and one step in scene units: `DEPTH_UNIT`, or the next power of ten that the largest depth fits.
    """
    values = depth.detach().double().cpu().numpy()
    values = np.where(np.isfinite(values), values.clip(min=0), 0)
    powers = (DEPTH_UNIT * 10.0**power for power in itertools.count())
    unit = next(unit for unit in powers if round(values.max(initial=0) / unit) <= _UINT16_MAX)
    return (values / unit).round().astype(np.uint16), unit


def save_depth_preview(path: str | os.PathLike[str], depth: Float[Tensor, "H W"]) -> None:
    """Write z-depth as colours, light = near, dark = far, stretched over the picture; black = nothing."""
    values = depth.detach().double().cpu().numpy()
    visible = values > 0
    picture = np.zeros((*values.shape, 3), np.uint8)
    if visible.any():
        near, far = np.quantile(values[visible], [0.01, 0.99])
        place = ((values[visible] - near) / max(far - near, 1e-9)).clip(0, 1) * (len(_DEPTH_STOPS) - 1)
        stops = np.arange(len(_DEPTH_STOPS))
        picture[visible] = np.stack([np.interp(place, stops, channel) for channel in _DEPTH_STOPS.T], -1).round()
    write_pixels(path, picture)


def save_group_colors(path: str | os.PathLike[str], group_map: Int64[Tensor, "H W"]) -> None:
    """Write a map of group ids in their fixed colours; black = no group (-1)."""
    write_pixels(path, group_colors(group_map))


def group_colors(group_map: Int64[Tensor, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Picture of a map of group ids in their fixed colours; black = no group (-1)."""
    ids, places = np.unique(group_map.detach().cpu().numpy(), return_inverse=True)
    palette = np.array([group_color(group_id) for group_id in ids.tolist()], np.uint8)
    return palette[places.reshape(group_map.shape)]


def id_values(group_ids: Iterable[int]) -> dict[int, int]:
    """Value of each group in pictures of 16-bit ids: id + 1 where that fits, else one of the largest free values.

    Raises:
        UserError: There are more groups than values.
    """
    values = {group_id: group_id + 1 for group_id in group_ids}
    too_large = [group_id for group_id, value in values.items() if value > _UINT16_MAX]
    if len(values) > _UINT16_MAX:
        raise UserError(f"{len(values):,} groups are too many for pictures of 16-bit ids; leave groups out")
    free = (value for value in range(_UINT16_MAX, 0, -1) if value - 1 not in values)
    return values | dict(zip(too_large, free, strict=False))


def save_group_ids(path: str | os.PathLike[str], group_map: Int64[Tensor, "H W"], values: Mapping[int, int]) -> None:
    """Write a map of group ids for programs: 16-bit PNG of the groups' `id_values`, 0 = no group."""
    write_pixels(path, group_id_pixels(group_map, values))


def group_id_pixels(group_map: Int64[Tensor, "H W"], values: Mapping[int, int]) -> UInt16[np.ndarray, "H W"]:
    """Picture of a map of group ids: the groups' `id_values`, 0 = no group (-1)."""
    ids, places = np.unique(group_map.detach().cpu().numpy(), return_inverse=True)
    table = np.array([values[group_id] if group_id >= 0 else 0 for group_id in ids.tolist()], np.uint16)
    return table[places.reshape(group_map.shape)]


def group_color(group_id: int) -> tuple[int, int, int]:
    """Fixed colour of a group id, the same in every picture; hues are a golden angle apart."""
    if group_id < 0:
        return NO_GROUP_COLOR
    hue = (group_id * _GOLDEN_RATIO + 0.02) % 1.0
    value, saturation = ((1.0, 0.65), (0.75, 0.85), (0.9, 0.4))[group_id % 3]
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def color_name(color: tuple[int, int, int]) -> str:
    """``#rrggbb`` of an 8-bit colour."""
    return "#{:02x}{:02x}{:02x}".format(*color)
