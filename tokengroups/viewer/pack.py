"""Packed scenes: what a browser draws and picks, in one binary layout. The scene file stays the truth.

Little-endian: ``TGPK``, the header's length as uint32, the header (JSON, padded with spaces to a multiple of 4), and
blocks of N records, one per Gaussian: splats, then harmonics, shares and anchors where the header says so. Blocks lie
byte by byte (all first bytes, all second bytes, ...), and values are rounded to few bits of mantissa: gzip then halves
them.

Splat, 32 bytes: position relative to `origin` (3 float32), quaternion (uint32: index of the largest component in the
upper 2 bits, then the other three in w x y z order, 10 bits each, round(511 sqrt(2) q) + 511), then uint16: scales
over `scale_unit`, opacity and colour (0.5 + C0 sh, not clipped) as halves, index of the group.
Harmonics, 16, 32 or 48 bytes for degree 1, 2, 3: the others, coefficient by coefficient, int8 over 127 times their
largest, which is a half in the last two bytes. Shares, 3 bytes, of scenes with soft groups only: index of the second
group (uint16), and probabilities of the first (upper 4 bits) and the second, over 15. Anchors, 4 bytes, of scenes that
are packed whole: the index of a Gaussian's anchor minus that of the one before (int32; the first one's as it is).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int64, UInt8, UInt16, UInt32
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import footprints, select
from tokengroups.scene.consistency import scene_fault
from tokengroups.scene.groups import GroupSummary, gaussian_columns, summarise
from tokengroups.scene.layout import cameras_up
from tokengroups.scene.views import focus_depth
from tokengroups.spherical_harmonics import SH_C0, sh_degree
from tokengroups.types import Gaussians, TokenScene
from tokengroups.viewer.cameras import film_size, page_cameras
from tokengroups.viewer.looks import Looks, look

FORMAT, VERSION, MAGIC = "tokengroups.packed", 1, b"TGPK"
MAX_GROUPS = 65535
_POSITION_BITS, _HALF_BITS, _SCALE_BITS = 16, 8, 7  # significant bits that rounding leaves
_LARGEST_HALF = 57344.0  # rounds to no infinity
_SCALE_RANGE = 2.0**20  # scales that are larger than the median by more are cut
_SURE = 1 - 0.5 / 15  # a first share above rounds to 1


@dataclass(frozen=True)
class PackedScene:
    """A packed scene, and how many of the scene's Gaussians it holds."""

    data: bytes
    shown: int
    total: int


def pack_scene(
    scene: TokenScene, title: str = "", max_gaussians: int | None = None, looks: Looks | None = None
) -> PackedScene:
    """Pack a scene for the browser.

    Args:
        scene: On the CPU.
        title: Text that the page shows.
        max_gaussians: Leave out the faintest and smallest beyond this number, by opacity times area; None keeps all.
        looks: What it looks like; None: without photos, and as it is rendered now, which takes longer than packing.

    Raises:
        UserError: More than 65,535 groups.
        ValueError: The scene is inconsistent, empty, or holds NaN, or the looks are of another scene.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.viewer import pack_scene
        >>> packed = pack_scene(tg.example_scene(), max_gaussians=500)
        >>> packed.shown, packed.total, packed.data[:4]
        (500, 613, b'TGPK')
    """
    fault = scene_fault(scene)
    if fault:
        raise ValueError(f"inconsistent scene: {fault}")
    if len(scene.group_ids) > MAX_GROUPS:
        raise UserError(f"the scene has {len(scene.group_ids):,} groups; the viewer shows at most {MAX_GROUPS:,}")
    looks = looks or look(scene)
    total = len(scene.gaussians.means)
    kept = _most_visible(scene.gaussians, total if max_gaussians is None else max_gaussians)
    gaussians = select(scene.gaussians, kept).map(lambda values: values.float())
    origin = _origin(gaussians.means)
    unit = _scale_unit(gaussians.scales)
    columns = gaussian_columns(scene)[kept]
    blocks = [_splats(gaussians, columns, origin, unit)]
    degree = sh_degree(gaussians.sh.shape[1])
    if degree:
        blocks.append(_harmonics(gaussians.sh[:, 1:]))
    shares = _shares(scene, kept)
    if shares is not None:
        blocks.append(shares)
    if len(kept) == total:  # anchors of which some Gaussians are missing would be split elsewhere than in the scene
        blocks.append(_steps(scene.anchor_ids))
    facts = {
        "title": title, "gaussians": len(kept), "total": total, "sh_degree": degree, "soft": shares is not None,
        "anchors": len(kept) == total, "origin": origin.tolist(), "scale_unit": unit,
    }  # fmt: skip
    header = json.dumps(facts | _world(scene, looks, origin), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 4)
    data = b"".join([MAGIC, len(header).to_bytes(4, "little"), header, *map(_by_byte, blocks)])
    return PackedScene(data, len(kept), total)


def _most_visible(gaussians: Gaussians, count: int) -> Int64[Tensor, " M"]:
    """Indices of the `count` Gaussians of largest opacity times area, ascending."""
    if count >= len(gaussians.means):
        return torch.arange(len(gaussians.means))
    return footprints(gaussians).argsort(descending=True, stable=True)[:count].sort().values


def _world(scene: TokenScene, looks: Looks, origin: Float[Tensor, "3"]) -> dict[str, Any]:
    """Facts of the header about the scene as a whole: groups by column, and context cameras."""
    cameras, count = scene.cameras, len(scene.cameras.intrinsics)
    if len(looks.shares) != len(scene.group_ids) or len(looks.photos) not in (0, count):
        raise ValueError("looks of another scene")
    summaries = {group.id: group for group in summarise(scene, looks.shares)}
    groups = [summaries[group_id] for group_id in scene.group_ids.tolist()]
    weights = torch.zeros(len(groups), dtype=torch.float64)
    weights.index_add_(0, gaussian_columns(scene), scene.gaussians.opacities.double())
    depth = focus_depth(scene)
    seen = zip(page_cameras(cameras, origin, depth), looks.photos or [None] * count, strict=True)
    return {
        "format": FORMAT,
        "version": VERSION,
        "frame": _frame(cameras_up(cameras)).tolist(),
        "focus_depth": depth,
        "digits": min(max(4 - math.floor(math.log10(depth)), 0), 12),
        "snap": 10.0 ** round(math.log10(depth / 30)),
        "size_hw": list(cameras.size_hw),
        "film": film_size(cameras.size_hw),
        "cameras": [camera | ({} if photo is None else {"photo": photo}) for camera, photo in seen],
        "groups": [_group(*each) for each in zip(groups, weights.tolist(), looks.portraits, strict=True)],
    }


def _group(group: GroupSummary, weight: float, portrait: str | None) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "count": group.num_gaussians,
        "centre": group.centre,
        "weight": max(float(f"{weight:.6g}"), 1e-9),
        "size": [float(f"{side:.4g}") for side in group.size],
        "color": group.color,
        "share": round(group.visible_share, 6),
    } | ({} if portrait is None else {"picture": portrait})


def _frame(up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Unit axes right, up, forward: level in the room, with `right` close to the world's x."""
    up = torch.nn.functional.normalize(up.double(), dim=0)
    side = torch.tensor([1.0, 0.0, 0.0] if abs(float(up[0])) < 0.9 else [0.0, 0.0, 1.0], dtype=torch.float64)
    right = torch.nn.functional.normalize(side - (side @ up) * up, dim=0)
    return torch.stack([right, up, torch.linalg.cross(up, right)])


def _origin(means: Float[Tensor, "N 3"]) -> Float[Tensor, "3"]:
    """Middle of the Gaussians: relative to it, few bits are enough for positions."""
    return means.double().median(dim=0).values


def _scale_unit(scales: Float[Tensor, "N 3"]) -> float:
    """Power of two for which the largest scale, or what is left of it, is just below the largest half."""
    if not scales.any():
        return 1.0
    largest = min(float(scales.max()), _SCALE_RANGE * float(scales[scales > 0].median()))
    return 2.0 ** math.ceil(math.log2(largest / _LARGEST_HALF))


def _splats(
    gaussians: Gaussians, columns: Int64[Tensor, " N"], origin: Float[Tensor, "3"], unit: float
) -> UInt8[np.ndarray, "N 32"]:
    records = np.zeros(len(columns), [("position", "<u4", 3), ("quat", "<u4"), ("halves", "<u2", 7), ("group", "<u2")])
    positions = (gaussians.means.double() - origin).float().numpy()
    records["position"] = _rounded(positions.view(np.uint32), 24 - _POSITION_BITS)
    records["quat"] = _packed_quats(gaussians.quats)
    colors = 0.5 + SH_C0 * gaussians.sh[:, 0].double()
    shades = _halves(torch.cat([gaussians.opacities[:, None].double(), colors], dim=1), _HALF_BITS)
    records["halves"] = np.concatenate([_halves(gaussians.scales.double() / unit, _SCALE_BITS), shades], axis=1)
    records["group"] = columns.numpy()
    return records.view(np.uint8).reshape(len(records), 32)


def _packed_quats(quats: Float[Tensor, "N 4"]) -> UInt32[np.ndarray, " N"]:
    unit = torch.nn.functional.normalize(quats.double(), dim=1)
    largest = unit.abs().argmax(dim=1, keepdim=True)
    unit = unit * torch.where(unit.gather(1, largest) < 0, -1.0, 1.0)
    others = unit[torch.arange(4) != largest].reshape(-1, 3)
    levels = (511 * math.sqrt(2) * others).round().clamp(-511, 511).long() + 511
    return ((largest[:, 0] << 30) | (levels << torch.tensor([20, 10, 0])).sum(dim=1)).numpy().astype(np.uint32)


def _harmonics(sh: Float[Tensor, "N C 3"]) -> UInt8[np.ndarray, "N bytes"]:
    """All harmonics but the constant one."""
    values = rearrange(sh.double(), "n c rgb -> n (c rgb)")
    largest = _halves(values.abs().amax(dim=1, keepdim=True), _HALF_BITS)
    steps = torch.from_numpy(largest.view(np.float16).astype(np.float64)) / 127
    levels = (values / steps.clamp(min=1e-30)).round().clamp(-127, 127).to(torch.int8)
    records = np.zeros((len(values), -(-(values.shape[1] + 2) // 16) * 16), np.uint8)
    records[:, : values.shape[1]] = levels.numpy().view(np.uint8)
    records[:, -2:] = largest.view(np.uint8)
    return records


def _shares(scene: TokenScene, kept: Int64[Tensor, " M"]) -> UInt8[np.ndarray, "M 3"] | None:
    """Second group and the shares of the first two; None where every anchor has one group only."""
    if len(scene.group_ids) < 2:
        return None
    first, owners = scene.assignment.max(dim=1, keepdim=True)
    if bool((first > _SURE).all()):
        return None
    second, others = scene.assignment.scatter(1, owners, -1.0).max(dim=1, keepdim=True)
    levels = (15 * torch.cat([first, second], dim=1)).round().to(torch.uint8)
    records = np.zeros((len(first), 3), np.uint8)
    records[:, :2] = others.numpy().astype("<u2").view(np.uint8)
    records[:, 2] = (16 * levels[:, 0] + levels[:, 1]).numpy()
    return records[scene.anchor_ids[kept].numpy()]


def _steps(values: Int64[Tensor, " N"]) -> UInt8[np.ndarray, "N 4"]:
    """Differences between neighbours: gzip leaves next to nothing of ids that lie in order."""
    return np.diff(values.numpy(), prepend=0).astype("<i4").view(np.uint8).reshape(len(values), 4)


def _halves(values: Float[Tensor, "N C"], bits: int) -> UInt16[np.ndarray, "N C"]:
    """Half-precision numbers of that many significant bits."""
    halves = values.clamp(-_LARGEST_HALF, _LARGEST_HALF).numpy().astype("<f2")
    return _rounded(halves.view(np.uint16), 11 - bits)


def _rounded(words: Any, dropped: int) -> Any:
    """Round floating-point numbers, given as unsigned integers: the last `dropped` bits become 0."""
    step = words.dtype.type(1 << dropped)
    return (words + step // 2) & ~(step - words.dtype.type(1))


def _by_byte(records: UInt8[np.ndarray, "N bytes"]) -> bytes:
    return records.T.tobytes()
