"""Animated pictures (GIF), by Pillow, with one palette for all frames: colours do not flicker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image

from tokengroups.io.files import atomic_path

MAX_FPS = 50.0  # browsers slow down what is faster
MAX_SECONDS = 655.0  # of a whole film: its pictures may all be equal, and one stays for at most 16 bits of 1/100 s
MAX_PIXELS = 2**27  # of all frames: they are in memory, a byte each, until the end
_COLORS = 256
_TICK_S = 0.01  # unit of a frame's time in the format


def shared_palette(pictures: Iterable[UInt8[np.ndarray, "H W 3"]]) -> UInt8[np.ndarray, "n 3"]:
    """At most 256 colours for all pictures, by Heckbert's median cut (1982, SIGGRAPH), then k-means."""
    pixels = np.concatenate([rearrange(picture, "h w c -> (h w) 1 c") for picture in pictures])
    reduced = Image.fromarray(pixels).quantize(_COLORS, Image.Quantize.MEDIANCUT, kmeans=1)
    colors = np.array(reduced.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return colors[: int(np.asarray(reduced).max()) + 1]


@contextlib.contextmanager
def gif_writer(
    path: str | os.PathLike[str], palette: UInt8[np.ndarray, "n 3"], fps: float
) -> Iterator[Callable[[UInt8[np.ndarray, "H W 3"]], None]]:
    """Yield a function that adds a picture to a GIF file that repeats for ever; written whole or not at all.

    Every pixel takes the nearest colour: diffused errors would crawl over surfaces as the camera moves, and files would
    be 1.6 times as large (72 frames of a room).
    Equal pictures in a row become one that stays longer.

    Args:
        path: The file.
        palette: Of all pictures.
        fps: Pictures a second, at most `MAX_FPS`; times are multiples of 1/100 s, so that they are right in the mean.
    """
    frames: list[Image.Image] = []
    colors = palette.tobytes()
    holder = Image.new("P", (1, 1))
    holder.putpalette(colors)

    def add(picture: UInt8[np.ndarray, "H W 3"]) -> None:
        frames.append(Image.fromarray(picture).quantize(palette=holder, dither=Image.Dither.NONE))

    with atomic_path(path) as temporary:
        yield add
        ticks = np.diff(np.round(np.arange(len(frames) + 1) / (fps * _TICK_S))).astype(int)
        milliseconds = [round(1000 * _TICK_S) * tick for tick in ticks.tolist()]
        rest = {"save_all": True, "append_images": frames[1:], "duration": milliseconds, "loop": 0}
        frames[0].save(temporary, "GIF", palette=colors, optimize=False, **rest)
