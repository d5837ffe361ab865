"""Pictures for people: masks over photos, and sheets of many pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tokengroups.io.pictures import NO_GROUP_COLOR, group_color

LONGEST_PX, SHORTEST_PX = 1280, 640  # bounds of an overlay's longer side: the ids should be read
THUMBNAIL_PX, MANY_THUMBNAIL_PX, MANY = 256, 128, 64  # side of a sheet's pictures; from so many pairs on the smaller
_TINT = 0.5  # weight of the masks' colours
_UNUSED = 0.35  # brightness of what belongs to no mask
_TEXT_SHARE = 1 / 32  # height of ids, of the longer side
_ROOM = 0.45  # of the text height: instances with less space around their middle get no id
_PEELED = 160  # cells along the longer side where the middles of instances are looked for
_GAP_PX, _CAPTION_PX = 8, 16


def overlay_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the overlay of a photo."""
    longest = max(size_hw)
    factor = min(max(longest, SHORTEST_PX), LONGEST_PX) / longest
    return max(round(size_hw[0] * factor), 1), max(round(size_hw[1] * factor), 1)


def draw_overlay(photo: Image.Image, ids: Int64[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The photo with every instance in its fixed colour, outlined, with its id; dark where there is none (-1)."""
    height, width = ids.shape
    pixels = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS)).astype(np.float32)
    known, places = np.unique(ids, return_inverse=True)
    palette = np.array([NO_GROUP_COLOR if i < 0 else group_color(i) for i in known.tolist()], np.float32)
    colors = palette[places.reshape(ids.shape)]
    tinted = np.where((ids < 0)[..., None], _UNUSED * pixels, (1 - _TINT) * pixels + _TINT * colors)
    tinted[_outlines(ids)] = 255
    picture = Image.fromarray(tinted.round().clip(0, 255).astype(np.uint8))
    _write_ids(ImageDraw.Draw(picture), ids)
    return np.asarray(picture)


def _outlines(ids: Int64[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels whose right or lower neighbour is another instance."""
    border = np.zeros(ids.shape, bool)
    border[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    border[:-1] |= ids[1:] != ids[:-1]
    return border


def _write_ids(draw: ImageDraw.ImageDraw, ids: Int64[np.ndarray, "H W"]) -> None:
    """Write the id of each instance where there is most space around."""
    size = max(ids.shape) * _TEXT_SHARE
    font = ImageFont.load_default(size)
    step = math.ceil(max(ids.shape) / _PEELED)
    for instance, (row, column, room) in middles(ids[step // 2 :: step, step // 2 :: step]).items():
        if room * step >= _ROOM * size:
            place = ((column + 0.5) * step, (row + 0.5) * step)
            draw.text(place, str(instance), "white", font, anchor="mm", stroke_width=2, stroke_fill="black")


def middles(ids: Int64[np.ndarray, "h w"]) -> dict[int, tuple[int, int, int]]:
    """Of every id from 0 on, row and column of a cell far from other ids and the border, and its distance to them.

    Cells at the border of an instance are peeled off until none is left. The distance is in steps to the four
    neighbours; of equally good cells, the one nearest to their mean is taken.
    """
    left, layer = ids.astype(np.int64), np.zeros(ids.shape, np.int64)
    while (left >= 0).any():
        layer += left >= 0
        wide = np.pad(left, 1, constant_values=-1)
        around = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
        left = np.where(np.all([side == left for side in around], axis=0), left, -1)
    found = {}
    for instance in np.unique(ids[ids >= 0]).tolist():
        mine = ids == instance
        deepest = layer[mine].max()
        cells = np.argwhere(mine & (layer == deepest))
        row, column = cells[((cells - cells.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
        found[instance] = (row, column, int(deepest))
    return found


class ContactSheet:
    """A picture of many pairs of pictures with captions, added one by one."""

    def __init__(self, sizes_hw: Sequence[tuple[int, int]]) -> None:
        """Lay out a sheet for one pair of pictures of each size."""
        pairs = len(sizes_hw)
        self.side = THUMBNAIL_PX if pairs <= MANY else MANY_THUMBNAIL_PX
        self.height = round(max(self.side * height / max(height, width) for height, width in sizes_hw))
        self.cell = 2 * self.side + 3 * _GAP_PX, self.height + _CAPTION_PX + _GAP_PX  # width and height of a pair
        self.columns = max(1, round(math.sqrt(pairs * self.cell[1] / self.cell[0])))
        rows = math.ceil(pairs / self.columns)
        self.picture = Image.new("RGB", (self.columns * self.cell[0], rows * self.cell[1] + _GAP_PX), "white")
        self.draw, self.font, self.count = ImageDraw.Draw(self.picture), ImageFont.load_default(11), 0

    def add(self, left: UInt8[np.ndarray, "h w 3"], right: UInt8[np.ndarray, "H W 3"], caption: str) -> None:
        """Add a pair, each as large as its place allows."""
        row, column = divmod(self.count, self.columns)
        x, y = column * self.cell[0] + _GAP_PX, row * self.cell[1] + _GAP_PX
        for index, pixels in enumerate((left, right)):
            small = ImageOps.contain(Image.fromarray(pixels), (self.side, self.side), Image.Resampling.LANCZOS)
            shift = index * (self.side + _GAP_PX)
            place = x + shift + (self.side - small.width) // 2, y + (self.height - small.height) // 2
            self.picture.paste(small, place)
        self.draw.text((x, y + self.height + 1), _cut(caption, self._fits), "black", self.font)
        self.count += 1

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """The sheet."""
        return np.asarray(self.picture)

    def _fits(self, text: str) -> bool:
        return self.font.getlength(text) <= self.cell[0] - 2 * _GAP_PX


def _cut(text: str, fits: Callable[[str], bool]) -> str:
    """The text, shortened at its front until it fits: the end of a path tells more."""
    if fits(text):
        return text
    ends = (f"...{text[start:]}" for start in range(1, len(text)))
    return next((end for end in ends if fits(end)), "")
