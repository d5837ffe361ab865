"""Covisible pairs of photos, as a graph that joins all photos.

Shares of what two photos have in common come from match descriptors where an encoder gives them, otherwise from
predicted depth and cameras.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import invert_rigid, transform_points
from tokengroups.postprocess.bundle_adjustment.frames import Frame

PARTNERS = 2  # of every view
SAMPLES = 24  # pixels along the shorter side of a photo whose points are looked up in the other photos
DEPTH_TOLERANCE = 0.2  # of log depth: a larger difference is an occlusion


def covisible_pairs(shares: Float[Tensor, "V V"], partners: int = PARTNERS) -> list[tuple[int, int]]:
    """Pairs (u, v), u < v, in ascending order: every view's best partners, and a maximum spanning tree of all views.

    Args:
        shares: Symmetric; what two views have in common, and -1 on the diagonal.
        partners: Of every view.
    """
    best = shares.topk(min(partners, len(shares) - 1), dim=1).indices.tolist()
    pairs = {(min(view, partner), max(view, partner)) for view, row in enumerate(best) for partner in row}
    joined, rest = [0], set(range(1, len(shares)))
    while rest:  # Prim's algorithm
        _, view, partner = max((float(shares[u, v]), v, u) for u in joined for v in rest)
        pairs.add((min(view, partner), max(view, partner)))
        joined.append(view)
        rest.remove(view)
    return sorted(pairs)


def overlap_shares(frames: list[Frame], poses: Float[Tensor, "V 4 4"]) -> Float[Tensor, "V V"]:
    """Share of points of one view that another one sees, by predicted depth and cameras; -1 on the diagonal.

    A point counts if it falls inside the other photo and the depth predicted there agrees (occlusion test). Shares
    are the mean of both directions.
    """
    height, width = frames[0].size_hw
    step = max(1, min(height, width) // SAMPLES)
    y = torch.arange(step / 2, height, step, device=poses.device)
    x = torch.arange(step / 2, width, step, device=poses.device)
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
    limits = pixels.new_tensor([width, height])
    shares = poses.new_full((len(frames), len(frames)), -1.0)
    seen = torch.zeros_like(shares)
    for u, source in enumerate(frames):
        points = source.lift(pixels)
        for v, target in enumerate(frames):
            if u == v:
                continue
            moved = transform_points(poses[v] @ invert_rigid(poses[u]), points)
            landed, depth = target.project(moved), moved[:, 2]
            inside = ((landed >= 0) & (landed < limits)).all(dim=-1) & (depth > 0)
            apart = (depth.clamp_min(1e-6).log() - target.depth_at(landed).clamp_min(1e-6).log()).abs()
            seen[u, v] = (inside & (apart < DEPTH_TOLERANCE)).float().mean()
    off_diagonal = ~torch.eye(len(frames), dtype=torch.bool, device=poses.device)
    return torch.where(off_diagonal, (seen + seen.T) / 2, shares)


def directions(pairs: list[tuple[int, int]], both_ways: bool) -> list[tuple[int, int]]:
    """(source, target) pairs to search: both ways, or each pair once - from view 0, otherwise from the later view."""
    if both_ways:
        return [ends for first, second in pairs for ends in ((first, second), (second, first))]
    return [(first, second) if first == 0 else (second, first) for first, second in pairs]
