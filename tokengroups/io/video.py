"""Videos of pictures, by PyAV."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path

FRAMES_PER_SECOND = 2
_CODECS = ("libx264", "mpeg4")  # the first one that this build of FFmpeg has


def check_video(what: str = "--video") -> None:
    """Refuse, before long work, if videos can neither be read nor written; `what` needs it.

    Raises:
        UserError: Says what to install.
    """
    if importlib.util.find_spec("av") is None:
        raise UserError(f'{what} needs PyAV: pip install "tokengroups[video]"')


@contextlib.contextmanager
def video_writer(
    path: str | os.PathLike[str], size_hw: tuple[int, int]
) -> Iterator[Callable[[UInt8[np.ndarray, "H W 3"]], None]]:
    """Yield a function that adds a picture to an MP4 file, which is written whole or not at all.

    Args:
        path: The file.
        size_hw: Size that holds all pictures; smaller ones are centred on black.
    """
    import av

    height, width = (side + side % 2 for side in size_hw)  # colours are stored at half the resolution
    codec = next(name for name in _CODECS if name in av.codecs_available)
    with atomic_path(path) as temporary, _as_os_error(), av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=FRAMES_PER_SECOND)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"

        def add(picture: UInt8[np.ndarray, "H W 3"]) -> None:
            canvas = np.zeros((height, width, 3), np.uint8)
            top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))

        yield add
        container.mux(stream.encode(None))


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn FFmpeg's errors into those of the system that it met."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error
