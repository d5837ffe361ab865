"""Reading of video files frame by frame, by PyAV: any frame by its number, the same on every machine."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from tokengroups.errors import UserError
from tokengroups.io.decoding import MAX_MEGAPIXELS, TooManyPixels
from tokengroups.reading import check_file, shown

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

ADVICE = "give an MP4, MOV, MKV, WEBM or AVI file, or take frames from it first"
# Containers that hold their own frames: FFmpeg also reads play lists, which name other files and hosts.
_OPTIONS = {"format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg", "protocol_whitelist": "file"}


class VideoSource:
    """The frames of an open video, numbered from 0 in the order in which they are shown."""

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = [packet.dts if packet.pts is None else packet.pts for packet in packets]
        known = [(time, packet.is_keyframe) for time, packet in zip(times, packets, strict=True) if time is not None]
        self._times = sorted({time for time, _ in known})
        self._starts = sorted({time for time, is_start in known if is_start})
        self._last: int | None = None  # time of the frame that was decoded last; None = none yet
        if known:
            container.seek(self._times[0], stream=stream)

    @property
    def seconds(self) -> Float[np.ndarray, " n"]:
        """Time of every frame after the first one."""
        times = np.array(self._times, np.float64)
        return (times - times[:1]) * float(self._stream.time_base or 1)

    def frames(self, numbers: Iterable[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode frames, whose numbers rise; damaged ones are left out, or the next intact one takes their place."""
        decoded = self._decoded()
        for number in numbers:
            wanted = self._times[number]
            start = self._starts[bisect_right(self._starts, wanted) - 1] if self._starts else None
            if start is not None and self._last is not None and self._last < start <= wanted:
                decoded = self._jumped(start) or decoded
            for frame in decoded:
                time = frame.dts if frame.pts is None else frame.pts
                if time is not None and time >= wanted:
                    self._last = time
                    yield bisect_right(self._times, time) - 1, frame
                    break

    def upright(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """Colours of a frame as players show it: turned by its metadata, with square pixels."""
        width = round(frame.width * float(self._stream.sample_aspect_ratio or 1))
        pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))

    def _jumped(self, start: int) -> Iterator[av.VideoFrame] | None:
        """Frames from a key frame on; None where the file cannot be wound."""
        import av

        try:
            self._container.seek(start, stream=self._stream)
        except av.FFmpegError:
            return None
        return self._decoded()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """All frames from here on; a damaged packet costs its own alone."""
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                found = packet.decode()
            except StopIteration:
                return
            except av.FFmpegError:
                continue
            yield from (frame for frame in found if isinstance(frame, av.VideoFrame))


def grey(frame: av.VideoFrame, side: int) -> Float[np.ndarray, "h w"]:
    """Brightness of a frame, 0 to 255, reduced to `side` pixels along the longer side, as it is stored."""
    factor = min(1.0, side / max(frame.width, frame.height))
    width, height = (max(round(length * factor), 1) for length in (frame.width, frame.height))
    return frame.to_ndarray(format="gray", width=width, height=height, interpolation="AREA").astype(np.float64)


@contextlib.contextmanager
def opened_video(path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[VideoSource]:
    """Open a video file; needs PyAV (extra `video`).

    Raises:
        UserError: No regular file, no video, a damaged one, or one without a frame.
        TooManyPixels: Its frames are beyond the limit.
    """
    import av
    from av.stream import Disposition

    path = check_file(path, ADVICE)
    try:
        with av.open(f"file:{os.path.abspath(path)}", options=_OPTIONS) as container:
            covers = Disposition.attached_pic  # pictures of records are streams too
            streams = [stream for stream in container.streams.video if not stream.disposition & covers]
            if not streams:
                raise UserError(f"{shown(path)}: no video in it; {ADVICE}")
            width, height = streams[0].codec_context.width, streams[0].codec_context.height
            if width * height > max_megapixels * 1e6:
                wrong = f"frames of {width}x{height}, more than {max_megapixels:g} megapixels"
                raise TooManyPixels(f"{shown(path)}: {wrong}; reduce it, or raise --max-megapixels")
            streams[0].thread_type = "AUTO"
            source = VideoSource(container, streams[0])
            if not len(source.seconds):
                raise UserError(f"{shown(path)}: a video without a frame; {ADVICE}")
            yield source
    except av.FFmpegError as error:
        raise UserError(
            f"{shown(path)}: damaged, or no video that is read ({shown(error.strerror)}); {ADVICE}"
        ) from error
