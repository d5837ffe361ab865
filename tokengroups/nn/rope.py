"""Rotary position embedding on a 2D grid (Su et al. 2021; the 2D form of CroCo v2, Weinzaepfel et al. 2023).

The first half of a head's channels turns with the row, the second half with the column. Inside a half of D
channels, channels j and j + D/2 form a pair that turns by position * base^(-2 j / D).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

BASE = 100.0  # of the frequencies
RopeTables = tuple[Float[Tensor, "P D"], Float[Tensor, "P D"]]


@lru_cache(maxsize=32)
def rope_tables(
    grid_hw: tuple[int, int], head_dim: int, num_special: int = 0, device: torch.device | None = None
) -> RopeTables:
    """Cosines and sines, in float32, of every token of one view.

    Args:
        grid_hw: Rows and columns of patches, in row-major order.
        head_dim: Channels of one attention head; a multiple of 4.
        num_special: Tokens before the patches; they stand at position (0, 0), patch (r, c) at (r + 1, c + 1).
        device: Where the tables live.

    Returns:
        cos, sin [num_special + rows * columns, head_dim]; shared between calls, so never write into them.
    """
    if head_dim % 4:
        raise ValueError(f"head_dim must be a multiple of 4 for 2D rotary embedding, got {head_dim}")
    # A table first asked for under inference mode must still serve autograd later.
    with torch.inference_mode(False), torch.no_grad():
        half = head_dim // 2
        frequencies = BASE ** -(torch.arange(0, half, 2, device=device, dtype=torch.float32) / half)
        rows, columns = (torch.arange(1, n + 1, device=device, dtype=torch.float32) for n in grid_hw)
        grid = torch.cartesian_prod(rows, columns)
        positions = torch.cat([grid.new_zeros(num_special, 2), grid])
        angles = (positions[:, :, None] * frequencies).repeat(1, 1, 2).flatten(1)
        return angles.cos(), angles.sin()


def apply_rope(x: Float[Tensor, "*b N D"], tables: RopeTables) -> Float[Tensor, "*b N D"]:
    """Turn the channel pairs of `x` by the tables' angles; computed in the dtype of `x`.

    N may be a multiple of the tables' length: the tokens of several views, one after the other.
    """
    cos, sin = (table.to(x.dtype) for table in tables)
    views = x.unflatten(-2, (-1, cos.shape[0]))
    if not torch.is_grad_enabled():
        return _turn_in_place(views * cos, views, sin).flatten(-3, -2)
    # A product with a signed permutation is exact, and faster than cutting and stacking.
    turned = views @ quarter_turn(x.shape[-1], x.device).to(x.dtype)
    return torch.addcmul(views * cos, turned, sin).flatten(-3, -2)


def _turn_in_place(
    out: Float[Tensor, "*b V P D"], x: Float[Tensor, "*b V P D"], sin: Float[Tensor, "P D"]
) -> Float[Tensor, "*b V P D"]:
    """Add to `out`, which is x * cos, what the sines bring: as by the matrix, in a sixth of the time."""
    pairs, source, sines = (tensor.unflatten(-1, (2, 2, -1)) for tensor in (out, x, sin))
    pairs[..., 0, :].addcmul_(source[..., 1, :], sines[..., 0, :], value=-1)
    pairs[..., 1, :].addcmul_(source[..., 0, :], sines[..., 1, :])
    return out


@lru_cache(maxsize=32)
def quarter_turn(head_dim: int, device: torch.device) -> Float[Tensor, "D D"]:
    """The matrix Q for which x @ Q turns every channel pair by 90 degrees: (a, b) -> (-b, a)."""
    with torch.inference_mode(False), torch.no_grad():
        eye = torch.eye(head_dim // 4, device=device)
        zero = torch.zeros_like(eye)
        half = torch.cat([torch.cat([zero, eye], dim=1), torch.cat([-eye, zero], dim=1)])
        return torch.block_diag(half, half)
