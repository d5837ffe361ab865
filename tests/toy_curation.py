"""A deterministic segmenter and tracker of pictures in which every object has a colour of its own, on black."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tokengroups.data.curation.base import Frames, Mask, Photo, Proposal


def by_color(photo: Photo, color: Sequence[int]) -> Mask:
    return (photo == np.array(color, np.uint8)).all(axis=2)


class ByColor:
    """Proposes the pixels of every colour but black; remembers what it was asked."""

    def __init__(self, weights: Path | None, device: str) -> None:
        assert weights is None and device == "cpu"
        self.calls: list[tuple[float, int]] = []

    def propose(self, photo: Photo, min_stability: float, crop_layers: int) -> list[Proposal]:
        self.calls.append((min_stability, crop_layers))
        colors = [color for color in np.unique(photo.reshape(-1, 3), axis=0).tolist() if any(color)]
        return [Proposal(by_color(photo, color), 0.9, 0.95) for color in colors]


class Follow:
    """Follows the colour under the earliest prompt; remembers what it was asked."""

    def __init__(self, weights: Path | None, device: str) -> None:
        assert weights is None and device == "cpu"
        self.asked: list[tuple[bool, dict[int, list[int]]]] = []

    def propagate(
        self, frames: Frames, prompts: Mapping[int, Mapping[int, Mask]], reverse: bool
    ) -> Iterator[tuple[int, dict[int, Mask]]]:
        self.asked.append((reverse, {frame: sorted(masks) for frame, masks in prompts.items()}))
        colors: dict[int, np.ndarray] = {}
        for frame in sorted(prompts):
            for number, mask in prompts[frame].items():
                colors.setdefault(number, frames[frame][mask][0])
        first = min(prompts)
        for frame in range(first, -1, -1) if reverse else range(first, len(frames)):
            photo = frames[frame]
            yield frame, {number: by_color(photo, color.tolist()) for number, color in colors.items()}
