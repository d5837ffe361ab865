"""What ``--fast`` (merged tokens in global attention) costs in accuracy and saves in time, by the number of photos.

Run: ``python benchmarks/fast.py [--views 16 32 64] [--rooms 6] [--seed 101] [--blocks 252 252] [--json FILE]``.

``rooms``: the encoder `vggt_tiny`, the only one with trained weights here, on held-out procedural rooms of 128 pixels,
exact and fast in turn. Depth is compared after alignment of medians: with the true one (absrel) and with the exact
one (depth_change, the mean relative difference). Rotations are angles of each camera to the first one's, against the
true and the exact ones, in degrees. ``blocks``: one global block of VGGT-1B's size on random tokens of photos of that
height and width. CPU seconds (`time.process_time`), one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.encoders import Geometry
from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt.merging import merged_attention
from tokengroups.encoders.weights import load_vggt
from tokengroups.geometry import invert_rigid
from tokengroups.nn.blocks import TransformerBlock, attend
from tokengroups.nn.rope import rope_tables
from tokengroups.types import Views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--rooms", type=int, default=6)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--blocks", type=int, nargs=2, default=[252, 252])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    for count in args.views:
        report[str(count)] = {"rooms": rooms(count, args.rooms, args.seed), "block": block(count, tuple(args.blocks))}
        print(f"{count} photos: {json.dumps(report[str(count)], indent=1)}", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


@torch.no_grad()
def rooms(count: int, number: int, seed: int) -> dict[str, dict[str, float]]:
    """Means over rooms of errors and seconds, exact and fast."""
    encoder = load_vggt("vggt_tiny")
    found: dict[str, list[dict[str, float]]] = {"exact": [], "fast": []}
    for index in range(number):
        views = to_views(generate_room(seed, index, "test", num_views=count), range(count))
        encoder.encode(views.images[None, :1])
        exact = None
        for name, rows in found.items():
            encoder.fast = name == "fast"
            geometry, seconds = timed(partial(encoder.encode, views.images[None]))
            exact = geometry.scene(0) if exact is None else exact
            rows.append({**errors(geometry.scene(0), exact, views), "seconds": seconds})
    return {name: {key: fmean(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


def errors(found: Geometry, exact: Geometry, views: Views) -> dict[str, float]:
    """Errors of depth and rotations, against the true and the exact ones."""
    true = views.cameras.cam_from_world @ invert_rigid(views.cameras.cam_from_world[:1])
    poses, known = found.cameras.cam_from_world, views.depth > 0
    return {
        "absrel": relative_difference(found.depth[known], views.depth[known]),
        "depth_change": relative_difference(found.depth.flatten(), exact.depth.flatten()),
        "rotation_error_deg": mean_angle(poses[1:], true[1:]),
        "rotation_change_deg": mean_angle(poses[1:], exact.cameras.cam_from_world[1:]),
    }


def relative_difference(depth: Tensor, other: Tensor) -> float:
    """Mean difference over the other depth, after alignment by the median ratio."""
    return float(((depth * (other / depth).median() - other).abs() / other).mean())


def mean_angle(poses: Tensor, others: Tensor) -> float:
    """Mean angle between rotations, in degrees."""
    difference = poses[:, :3, :3].double() @ others[:, :3, :3].double().mT
    # By the chord, which small angles do not lose to rounding.
    chord = (difference - torch.eye(3, dtype=torch.float64)).square().sum(dim=(1, 2)).sqrt()
    return float(torch.rad2deg(2 * torch.asin((chord / 8**0.5).clamp(max=1))).mean())


@torch.no_grad()
def block(count: int, size_hw: tuple[int, int]) -> dict[str, float]:
    """CPU seconds of one global block of VGGT-1B."""
    config = VGGTConfig()
    grid_hw = (size_hw[0] // config.patch_size, size_hw[1] // config.patch_size)
    torch.manual_seed(0)
    network = TransformerBlock(config.embed_dim, config.num_heads, layer_scale=0.01, qk_norm=True)
    rope = rope_tables(grid_hw, config.embed_dim // config.num_heads, config.num_special)
    tokens = torch.randn(1, count * len(rope[0]), config.embed_dim)
    merged = partial(merged_attention, grid_hw=grid_hw, num_special=config.num_special)
    seconds = {
        name: timed(partial(network, tokens, rope, mix))[1] for name, mix in (("exact", attend), ("fast", merged))
    }
    return {**seconds, "tokens": tokens.shape[1], "gain": seconds["exact"] / seconds["fast"]}


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A function's answer and its CPU seconds."""
    start = time.process_time()
    return function(), time.process_time() - start


if __name__ == "__main__":
    main()
