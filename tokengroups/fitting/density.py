"""Density control as Markov chain Monte Carlo (Kheradmand et al. 2024, arXiv 2404.09591).

Dead Gaussians move onto live ones that are drawn by opacity. The opacity and scale of both are corrected so that the
picture stays the same. Noise lets faint Gaussians explore. The rasteriser needs no changes for it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.fitting.parameters import Parameters
from tokengroups.geometry import rotation_from_quaternion

MAX_COPIES = 51  # of one Gaussian at a time, as in the paper's code
_DEAD_OPACITY = 0.005
_GROWTH = 0.2  # share that is added at each relocation until the limit is reached
_OPACITY_WEIGHT, _SCALE_WEIGHT = 0.01, 0.01
_GATE_SLOPE, _GATE_OPACITY = 100.0, 0.005  # noise fades out where opacities exceed this (the paper's eq. 9)
_MOST_OPAQUE = 1 - 1e-4


def split_opacities(
    opacities: Float[Tensor, " A"], copies: Int64[Tensor, " A"]
) -> tuple[Float[Tensor, " A"], Float[Tensor, " A"]]:
    """Opacity of n equal Gaussians that replace one, and the factor of their scales.

    With o' = 1 - (1 - o)^(1/n) they let as much light through at the centre. The factor
    o / sum_j C(n, j) (-1)^(j-1) o'^j / sqrt(j) keeps the integral along a line (the paper's eq. 9, whose double
    sum is this one by the hockey-stick identity).

    Args:
        opacities: In (0, 1).
        copies: n, in [1, `MAX_COPIES`].
    """
    old, count = opacities.double().clamp(1e-6, _MOST_OPAQUE), copies.double()
    new = -torch.expm1(torch.log1p(-old) / count)
    powers = torch.arange(1, MAX_COPIES + 1, device=old.device)
    signs = (-1.0) ** (powers - 1) / powers.double().sqrt()
    binomials = [[math.comb(n, j) for j in range(1, MAX_COPIES + 1)] for n in range(MAX_COPIES + 1)]
    terms = count.new_tensor(binomials)[copies] * signs * new[:, None] ** powers
    return new.to(opacities), (old / terms.sum(dim=1)).to(opacities)


@torch.no_grad()
def relocate(parameters: Parameters, limit: int, generator: torch.Generator) -> int:
    """Move dead Gaussians onto live ones and add new ones up to a limit; return the number of new and moved ones."""
    opacities = parameters["logits"].sigmoid()
    is_dead, count = opacities <= _DEAD_OPACITY, len(opacities)
    dead = is_dead.nonzero()[:, 0]
    added = max(min(math.ceil(_GROWTH * count), limit - count), 0)
    moved = len(dead) + added
    if moved == 0 or len(dead) == count:
        return 0
    sources = torch.multinomial(opacities.masked_fill(is_dead, 0.0), moved, replacement=True, generator=generator)
    sources = _at_most(sources.sort().values, MAX_COPIES - 1)
    targets = torch.cat([dead, torch.arange(count, count + added, device=dead.device)])[: len(sources)]
    split = sources.unique()
    copies = torch.bincount(sources, minlength=count)[split] + 1
    new_opacities, factors = split_opacities(opacities[split], copies)
    parameters["logits"][split] = torch.logit(new_opacities.clamp(_DEAD_OPACITY, _MOST_OPAQUE))
    parameters["log_scales"][split] += factors.log()[:, None]
    if added:
        parameters.append(torch.zeros(max(int(targets.max()) + 1 - count, 0), dtype=torch.int64, device=dead.device))
    parameters.copy_rows(sources, targets)
    return len(targets)


@torch.no_grad()
def explore(parameters: Parameters, size: float, generator: torch.Generator) -> None:
    """Add noise to the means in place: shaped by each Gaussian's covariance times `size`, zero for opaque ones."""
    means, opacities = parameters["means"], parameters["logits"].sigmoid()
    noise = torch.randn(means.shape, generator=generator, device=means.device)
    noise *= torch.sigmoid(_GATE_SLOPE * (_GATE_OPACITY - opacities))[:, None] * size
    rotations = rotation_from_quaternion(parameters["quats"])
    variances = (2 * parameters["log_scales"]).exp()
    local = torch.einsum("nji,nj->ni", rotations, noise) * variances
    means += torch.einsum("nij,nj->ni", rotations, local)


def regulariser(opacities: Float[Tensor, " N"], scales: Float[Tensor, "N 3"]) -> Tensor:
    """Weighted sum of mean opacity and mean scale (in extents): Gaussians that no photo needs fade and can move."""
    return _OPACITY_WEIGHT * opacities.mean() + _SCALE_WEIGHT * scales.mean()


def _at_most(ordered: Int64[Tensor, " A"], limit: int) -> Int64[Tensor, " a"]:
    """Drop what exceeds `limit` occurrences of one value from sorted values."""
    kept = torch.ones_like(ordered, dtype=torch.bool)
    kept[limit:] = ordered[limit:] != ordered[:-limit]
    return ordered[kept]
