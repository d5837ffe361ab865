"""Small videos whose frames tell their numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH, BITS = 64, 96, 8


def coded(number: int) -> np.ndarray:
    """A picture [64, 96, 3] with its number as bars across the upper half, and noise that moves below."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(BITS):
        picture[: HEIGHT // 2, 12 * bit : 12 * bit + 12] = 230 if number >> bit & 1 else 20
    noise = np.random.default_rng(0).integers(0, 256, (4, 60), np.uint8)
    picture[HEIGHT // 2 :] = np.kron(noise, np.ones((8, 8), np.uint8))[:, 3 * number : 3 * number + WIDTH, None]
    return picture


def code(picture: np.ndarray) -> int:
    """The number that a decoded picture tells."""
    return sum(1 << bit for bit in range(BITS) if picture[4:28, 12 * bit + 3 : 12 * bit + 9].mean() > 125)


def write_video(
    path: Path,
    count: int,
    picture: Callable[[int], np.ndarray] = coded,
    *,
    rate: int = 10,
    codec: str = "libx264",
    key_frames: int = 6,
    matrix: list[int] | None = None,
) -> Path:
    """Write a video of so many pictures a second, with B-frames where the codec has them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", key_frames
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path
