"""Videos of pictures, by PyAV."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path

FRAMES_PER_SECOND = 2  # of photos and overlays
_CODECS = ("libx264", "mpeg4")  # the first one that this build of FFmpeg has
_OPTIONS = {"libx264": {"crf": "18"}, "mpeg4": {}}  # nearly without visible loss
_BITS_PER_PIXEL = 0.4  # of mpeg4, whose own default is a fixed rate, too low for large pictures
_LEAST_BITS, _MOST_BITS = 200_000, 200_000_000  # a second
_FINEST_TICK = 1001  # denominator of frame rates, such as 30000/1001
_BT709 = 1  # number of the standard in the H.264 specification, table E-3 to E-5


def check_video(what: str = "--video") -> None:
    """Refuse, before long work, if videos can neither be read nor written; `what` needs it.

    Raises:
        UserError: Says what to install.
    """
    if importlib.util.find_spec("av") is None:
        raise UserError(f'{what} needs PyAV: pip install "tokengroups[video]"')


def video_codec() -> str:
    """FFmpeg's name of the codec that videos are written with: H.264, or MPEG-4 part 2 where that is missing.

    Raises:
        UserError: There is neither.
    """
    import av

    found = next((name for name in _CODECS if name in av.codecs_available), None)
    if found is None:
        raise UserError(f"this FFmpeg has no {' and no '.join(_CODECS)}: pip install --force-reinstall av")
    return found


@contextlib.contextmanager
def video_writer(
    path: str | os.PathLike[str], size_hw: tuple[int, int], fps: float = FRAMES_PER_SECOND
) -> Iterator[Callable[[UInt8[np.ndarray, "H W 3"]], None]]:
    """Yield a function that adds a picture to an MP4 file, which is written whole or not at all.

    Colours are stored by BT.709, as the file says, at half the resolution.

    Args:
        path: The file.
        size_hw: Size that holds all pictures; smaller ones, and the last row and column of odd sizes, are centred on
            black.
        fps: Pictures a second.
    """
    import av

    height, width = (side + side % 2 for side in size_hw)
    codec, rate = video_codec(), Fraction(fps).limit_denominator(_FINEST_TICK)
    options = {"movflags": "+faststart"}  # the index comes first, so that browsers begin at once
    with (
        atomic_path(path) as temporary,
        _as_os_error(),
        av.open(str(temporary), "w", format="mp4", container_options=options) as container,
    ):
        stream = container.add_stream(codec, rate=rate, options=_OPTIONS[codec])
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        if codec == "mpeg4":
            bits = round(_BITS_PER_PIXEL * width * height * fps)
            context.bit_rate = min(max(bits, _LEAST_BITS), _MOST_BITS)

        def add(picture: UInt8[np.ndarray, "H W 3"]) -> None:
            canvas = _centred(picture, (height, width))
            frame = av.VideoFrame.from_ndarray(canvas, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))

        yield add
        container.mux(stream.encode(None))


def _centred(picture: UInt8[np.ndarray, "h w 3"], size_hw: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture in the middle of a black one."""
    canvas = np.zeros((*size_hw, 3), np.uint8)
    top, left = (size_hw[0] - picture.shape[0]) // 2, (size_hw[1] - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn FFmpeg's errors into those of the system that it met."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error
