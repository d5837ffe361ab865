"""Frames of videos as photos: evenly spaced ones, or the sharpest of every stretch in which the camera moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float

from tokengroups.bounds import Between, Settings
from tokengroups.errors import UserError
from tokengroups.io.decoding import MAX_MEGAPIXELS
from tokengroups.io.pixels import write_pixels
from tokengroups.io.video import check_video
from tokengroups.io.video_reading import ADVICE, VideoSource, grey, opened_video
from tokengroups.reading import shown

if TYPE_CHECKING:
    import av

_CANDIDATES = 12  # frames of a window that are compared
_SHARPNESS_SIDE, _THUMBNAIL_SIDE = 640, 64  # pixels along the longer side
_STILL = 2.0  # mean difference of two thumbnails, of 255, below which the camera stood still
Watch = Callable[[Iterable[int], int, str], Iterable[int]]  # shows progress: items, their number, what


@dataclass(frozen=True)
class Sampling(Settings):
    """Which frames of a video are taken."""

    count: Annotated[int, Between(1, 10**6)]  # at most
    frames: Literal["even", "sharp"] = (
        "even"  # or the sharpest one of every window of time, without windows in which nothing moved
    )
    fps: Annotated[float, Between(1e-3, 1000)] | None = None  # frames or windows a second; None = `count` in all


def extract_frames(
    video: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    sampling: Sampling,
    *,
    stem: str = "",
    max_megapixels: float = MAX_MEGAPIXELS,
    watch: Watch = lambda items, total, what: items,  # noqa: ARG005
) -> tuple[list[Path], list[str]]:
    """Write frames of a video as ``STEM_000123.png``, upright, by their numbers from 0; return them, and notes.

    Args:
        video: A file; needs PyAV (extra `video`).
        folder: An existing one.
        sampling: Which frames.
        stem: Of their names; "" = that of the video.
        max_megapixels: Limit of the frames.
        watch: Shows progress.

    Raises:
        UserError: PyAV is missing, the file is no video, is damaged or empty, or a frame cannot be written.
        TooManyPixels: Frames beyond the limit.
    """
    check_video(shown(video))
    written: list[Path] = []
    last, still = None, 0
    with opened_video(video, max_megapixels) as source:
        windows, notes = _windows(source.seconds, sampling)
        for number, frame in _sharpest(source, windows, watch):
            thumbnail = grey(frame, _THUMBNAIL_SIDE)
            if sampling.frames == "sharp" and last is not None and np.abs(thumbnail - last).mean() < _STILL:
                still += 1
                continue
            last = thumbnail
            written.append(Path(folder) / f"{stem or Path(video).stem}_{number:06d}.png")
            write_pixels(written[-1], source.upright(frame))
    if not written:
        raise UserError(f"{shown(video)}: no frame of it can be decoded; {ADVICE}")
    notes += [f"{still} of {len(windows)} stretches left out: nothing moved"] if still else []
    lost = len(windows) - still - len(written)
    notes += [f"{lost} of {len(windows)} frames cannot be decoded"] if lost else []
    return written, [f"{shown(Path(video).name)}: {note}" for note in notes]


def sharpness(image: Float[np.ndarray, "h w"]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000, ICPR): the larger, the sharper."""
    inner = image[1:-1, 1:-1]
    laplacian = image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:] - 4 * inner
    return float(laplacian.var()) if laplacian.size else 0.0


def _sharpest(source: VideoSource, windows: list[list[int]], watch: Watch) -> Iterator[tuple[int, av.VideoFrame]]:
    """The sharpest frame of every window of candidates, with its number."""
    window_of = {number: i for i, window in enumerate(windows) for number in window}
    best: tuple[int, av.VideoFrame] | None = None
    highest, current = -1.0, 0
    for number, frame in source.frames(watch(list(window_of), len(window_of), "reading the video")):
        window = window_of.get(number, current)
        if window != current and best is not None:
            yield best
            best, highest = None, -1.0
        current = window
        score = sharpness(grey(frame, _SHARPNESS_SIDE)) if len(windows[window]) > 1 else 0.0
        if score > highest:
            best, highest = (number, frame), score
    if best is not None:
        yield best


def _windows(seconds: Float[np.ndarray, " n"], sampling: Sampling) -> tuple[list[list[int]], list[str]]:
    """Candidates of every frame that is taken, and a note if `count` leaves some out."""
    number, notes = min(sampling.count, len(seconds)), []
    if sampling.fps is not None:
        wanted = int(seconds[-1] * sampling.fps * (1 + 1e-9)) + 1
        if wanted > sampling.count:
            notes.append(f"{sampling.count} of {wanted} frames at {sampling.fps:g} a second; --max-views allows more")
        number = min(number, wanted)
    if sampling.frames == "sharp":
        parts = np.array_split(np.arange(len(seconds)), number)
        return [_spread(part, _CANDIDATES) for part in parts], notes
    if sampling.fps is not None and number == wanted:
        nearest = np.searchsorted((seconds[1:] + seconds[:-1]) / 2, np.arange(number) / sampling.fps)
        return [[index] for index in dict.fromkeys(nearest.tolist())], notes
    return [[index] for index in _spread(np.arange(len(seconds)), number)], notes


def _spread(items: np.ndarray, count: int) -> list[int]:
    """At most so many items, evenly spaced, the first and last included."""
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [int(items[round(place)]) for place in places]
