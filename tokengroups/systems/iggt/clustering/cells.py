"""Reading of a field view by view, as unit vectors of pixels and of square cells, so that no copy of it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

CELLS_PER_SIDE = 128  # about; IGGT's features carry detail at 0.57 of the photo's resolution


@dataclass(frozen=True)
class FieldReader:
    """A field [V, E, H, W] whose pixels are normalised, or left as they are, when they are read."""

    field: Float[Tensor, "V E H W"]
    cell: int = 1  # pixels per side of a cell; cells at the right and lower border may be smaller
    normalise: bool = True  # False: a smoothed field, whose short vectors mean borders

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.field)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the views."""
        return self.field.shape[-2], self.field.shape[-1]

    def pixels(self, view: int) -> Float[np.ndarray, "H W E"]:
        """Vectors of one view's pixels; zero vectors stay zero."""
        return _last(self._view(view)[None])

    def cells(self, view: int) -> Float[np.ndarray, "h w E"]:
        """Means of one view's cells, normalised like its pixels."""
        pixels = self._view(view)[None]
        if self.cell == 1:
            return _last(pixels)
        # With `ceil_mode`, a cell that is cut by the border is the mean of the pixels that it has.
        means = functional.avg_pool2d(pixels, self.cell, ceil_mode=True, count_include_pad=False)
        return _last(unit_vectors(means, dim=1) if self.normalise else means)

    def to_pixels(self, cells: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "H W"]:
        """Give every pixel its cell's value."""
        height, width = self.size_hw
        return cells.repeat(self.cell, axis=0)[:height].repeat(self.cell, axis=1)[:, :width]

    def _view(self, view: int) -> Float[Tensor, "E H W"]:
        pixels = self.field[view].detach().to("cpu", torch.float32)
        return unit_vectors(pixels, dim=0) if self.normalise else pixels


def cell_size(size_hw: tuple[int, int]) -> int:
    """Pixels per side of a cell: 1 at 128 pixels a side, 2 at 259, 4 at 392; a power of two."""
    return 2 ** max(0, round(np.log2(min(size_hw) / CELLS_PER_SIDE)))


def unit_vectors(maps: Float[Tensor, "*maps"], dim: int) -> Float[Tensor, "*maps"]:
    """Divide by the length along an axis; zero vectors stay zero. Much faster than `functional.normalize` here."""
    return maps / maps.square().sum(dim=dim, keepdim=True).sqrt_().clamp_(min=1e-12)


def _last(maps: Float[Tensor, "1 E H W"]) -> Float[np.ndarray, "H W E"]:
    return rearrange(maps, "1 e h w -> h w e").contiguous().numpy()
