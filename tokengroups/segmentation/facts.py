"""What masks show of every instance: where it is seen, and how large."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt16


@dataclass
class Sightings:
    """Pixels and boxes of instances by their values in masks, then by photo."""

    pixels: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    boxes: dict[int, dict[str, list[int]]] = field(default_factory=lambda: defaultdict(dict))
    shares: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))  # of the photo's pixels

    def add(self, photo: str, mask: UInt16[np.ndarray, "H W"]) -> None:
        """Count the instances of one photo; 0 = none.

        Boxes are left, top, right and bottom in pixels; right and bottom do not belong to them.
        """
        for value, (count, box) in _count(mask).items():
            self.pixels[value][photo] = count
            self.boxes[value][photo] = box
            self.shares[value][photo] = count / mask.size

    def of(self, value: int) -> dict[str, Any]:
        """JSON of one instance that was seen; of equal photos the first one is the best."""
        shares = self.shares[value]
        best = max(shares, key=lambda photo: shares[photo])
        return {"pixels": dict(self.pixels[value]), "boxes": dict(self.boxes[value]), "best_photo": best}


def _count(mask: UInt16[np.ndarray, "H W"]) -> dict[int, tuple[int, list[int]]]:
    """Pixels and box of every value but 0, by the runs of equal values in the rows."""
    height, width = mask.shape
    starts = np.ones((height, width), bool)
    starts[:, 1:] = mask[:, 1:] != mask[:, :-1]
    places = np.flatnonzero(starts)
    lengths = np.diff(places, append=mask.size)
    rows, columns = places // width, places % width
    values, index = np.unique(mask.ravel()[places], return_inverse=True)
    left, top = np.full(len(values), width), np.full(len(values), height)
    right, bottom, counts = np.zeros((3, len(values)), np.int64)
    np.minimum.at(left, index, columns)
    np.minimum.at(top, index, rows)
    np.maximum.at(right, index, columns + lengths)
    np.maximum.at(bottom, index, rows + 1)
    np.add.at(counts, index, lengths)
    boxes = np.stack([left, top, right, bottom], axis=1).tolist()
    found = zip(values.tolist(), counts.tolist(), boxes, strict=True)
    return {value: (count, box) for value, count, box in found if value > 0}
