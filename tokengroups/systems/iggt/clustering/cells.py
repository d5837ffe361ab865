"""Reading of a field view by view, as unit vectors of pixels and of square cells, so that no copy of it is made."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

CELLS_PER_SIDE = 128  # about; IGGT's features carry detail at 0.57 of the photo's resolution


class FieldReader:
    """A field [V, E, H, W] whose vectors are normalised when they are read.

    What it returns is overwritten when the next view is read. (Large arrays that come and go between small ones that
    stay would leave the heap in pieces, of several times their size.)

    Args:
        field: Any float type, on any device.
        cell: Pixels per side of a cell; cells at the right and lower border may be smaller.
        normalise: False leaves vectors as they are: in a smoothed field, short ones mean borders.
    """

    def __init__(self, field: Float[Tensor, "V E H W"], cell: int = 1, normalise: bool = True) -> None:
        self.field, self.cell, self.normalise = field.detach(), cell, normalise
        self._maps = torch.empty(self.dim, *self.size_hw)
        self._rows = np.empty((*self.size_hw, self.dim), dtype=np.float32)

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.field)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.field.shape[1]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the views."""
        return self.field.shape[-2], self.field.shape[-1]

    def pixels(self, view: int) -> Float[np.ndarray, "H W E"]:
        """Vectors of one view's pixels; zero vectors stay zero."""
        np.copyto(self._rows, rearrange(self._read(view), "e h w -> h w e").numpy())
        return self._rows

    def cells(self, view: int) -> Float[np.ndarray, "h w E"]:
        """Means of one view's cells, normalised like its pixels."""
        if self.cell == 1:
            return self.pixels(view)
        # With `ceil_mode`, a cell that is cut by the border is the mean of the pixels that it has.
        means = functional.avg_pool2d(self._read(view)[None], self.cell, ceil_mode=True, count_include_pad=False)[0]
        if self.normalise:
            means /= _lengths(means.square())
        return rearrange(means, "e h w -> h w e").contiguous().numpy()

    def to_pixels(self, cells: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "H W"]:
        """Give every pixel its cell's value."""
        height, width = self.size_hw
        return cells.repeat(self.cell, axis=0)[:height].repeat(self.cell, axis=1)[:, :width]

    def _read(self, view: int) -> Float[Tensor, "E H W"]:
        vectors = self.field[view].to("cpu", torch.float32)
        if not self.normalise:
            return vectors
        torch.square(vectors, out=self._maps)
        return torch.div(vectors, _lengths(self._maps), out=self._maps)


def cell_size(size_hw: tuple[int, int]) -> int:
    """Pixels per side of a cell: 1 at 128 pixels a side, 2 at 259, 4 at 392; a power of two."""
    return 2 ** max(0, round(np.log2(min(size_hw) / CELLS_PER_SIDE)))


def _lengths(squares: Float[Tensor, "E h w"]) -> Float[Tensor, "1 h w"]:
    """Lengths of vectors whose squared components are given, not quite 0. Faster than `functional.normalize` here."""
    return squares.sum(dim=0, keepdim=True).sqrt_().clamp_(min=1e-12)
