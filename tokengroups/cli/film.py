"""Films of a scene: ``--video`` of `tokengroups render`."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import counted, note, progress
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from tokengroups.scene import SceneView
    from tokengroups.types import Cameras, TokenScene

FPS, GIF_FPS = 30.0, 15.0
GIF_SIDE_PX = 480  # longest side of a GIF unless --size is given: they are large files
_SAMPLES, _SAMPLE_SIDE_PX = 16, 128  # pictures that a palette is made of


@dataclass(frozen=True)
class Film:
    """A film to be written."""

    path: Path
    fps: float
    groups: bool  # it shows the groups in their fixed colours

    @property
    def is_gif(self) -> bool:
        """Whether it is an animated picture and no video."""
        return self.path.suffix.lower() == ".gif"


def add_film_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--video``, ``--fps`` and ``--seconds``."""
    # Copies of the limits of `tokengroups.io.camera_paths`: their import slows --help down.
    video_help = "write a film: .mp4 (extra: video) or .gif; of the colours, or with --what groups of the groups"
    parser.add_argument("--video", metavar="FILE", help=video_help)
    fps_help = f"frames a second of a film, and of a camera path (default: {FPS:g}; of a .gif {GIF_FPS:g})"
    add_number(parser, "--fps", 1, 120, kind=float, metavar="N", help=fps_help)
    seconds_help = "length of a camera path (default: as its file says)"
    add_number(parser, "--seconds", 0.01, 3600, kind=float, metavar="S", help=seconds_help)


def parse_film(args: argparse.Namespace, kinds: Sequence[str]) -> Film | None:
    """The film that the options ask for, if any; `kinds` are those of ``--what``.

    Raises:
        UserError: Neither film nor pictures, a film that cannot be made or written, or a missing extra.
    """
    from tokengroups.io.files import check_writable
    from tokengroups.io.gif import MAX_FPS
    from tokengroups.io.video import check_video, video_codec

    if args.video is None:
        if args.output is None:
            raise UserError("nothing to write: give -o DIR for pictures, --video FILE for a film, or both")
        return None
    if args.output is None and kinds not in (["color"], ["groups"]):
        raise UserError(f"--what {shown(args.what)}: a film shows color or groups; -o DIR writes pictures of all kinds")
    path, kind = Path(args.video), Path(args.video).suffix.lower()
    if kind not in (".mp4", ".gif"):
        raise UserError(f"--video {shown(args.video)}: give a file name that ends in .mp4 or .gif")
    film = Film(path, args.fps or (GIF_FPS if kind == ".gif" else FPS), kinds == ["groups"])
    if not film.is_gif:
        check_video("--video with an .mp4")
        if video_codec() != "libx264":
            note("this FFmpeg has no libx264: the film is MPEG-4 part 2, which browsers do not play")
    elif film.fps > MAX_FPS:
        raise UserError(f"--fps {film.fps:g}: a .gif has at most {MAX_FPS:g} frames a second; write an .mp4")
    if args.output is not None and Path(os.path.abspath(path)) in (Path(os.path.abspath(args.output)) / "x").parents:
        raise UserError(f"-o {shown(args.output)}: it is the film of --video, or in it; give another folder")
    check_writable(path)
    return film


def fit_cameras(film: Film, cameras: Cameras, resized: bool) -> Cameras:
    """Cameras whose pictures the film can take: of a GIF they are smaller, unless the user `resized` them.

    Raises:
        UserError: The film would be too large, or its pictures too small.
    """
    from tokengroups.io.gif import MAX_PIXELS, MAX_SECONDS
    from tokengroups.scene.views import resize_cameras

    (height, width), count = cameras.size_hw, len(cameras.intrinsics)
    if film.is_gif and not resized and max(height, width) > GIF_SIDE_PX:
        cameras = resize_cameras(cameras, max(round(height * GIF_SIDE_PX / max(height, width)), 1))
        reduced = f"are reduced to {shown_size(cameras.size_hw)} for a .gif"
        note(f"pictures of {width}x{height} {reduced}; --size sets the height")
        height, width = cameras.size_hw
    if film.is_gif and height * width * count > MAX_PIXELS:
        limit = f"{counted(count, 'frame')} of {width}x{height} are more than {MAX_PIXELS / 1e6:.0f} megapixels in all"
        raise UserError(f"--video {shown(film.path)}: {limit}; lower --size, --fps or --seconds, or write an .mp4")
    if film.is_gif and count / film.fps > MAX_SECONDS:
        raise UserError(f"--video {shown(film.path)}: a .gif lasts at most {MAX_SECONDS:g} s; write an .mp4")
    if not film.is_gif and min(height, width) < 2:
        raise UserError(f"pictures of {width}x{height} are too small for a video; raise --size")
    if not film.is_gif and (height % 2 or width % 2):
        cut = shown_size((height - height % 2, width - width % 2))
        note(f"videos have even sides: the film is cut from {width}x{height} to {cut}, at the right and lower edge")
    return cameras


@contextlib.contextmanager
def film_writer(
    film: Film, scene: TokenScene, cameras: Cameras, background: Tensor
) -> Iterator[Callable[[SceneView], None]]:
    """Yield a function that adds a view to the film, which is written whole or not at all."""
    from tokengroups.io.gif import gif_writer, shared_palette
    from tokengroups.io.video import video_writer

    height, width = cameras.size_hw
    if film.is_gif:
        writer = gif_writer(film.path, shared_palette(_samples(film, scene, cameras, background)), film.fps)
    else:
        height, width = height - height % 2, width - width % 2
        writer = video_writer(film.path, (height, width), film.fps)
    with writer as add:
        yield lambda view: add(_pixels(film, view)[:height, :width])


def _pixels(film: Film, view: SceneView) -> np.ndarray:
    from tokengroups.io.pictures import color_pixels, group_colors

    return group_colors(view.group_map) if film.groups else color_pixels(view.color)


def _samples(film: Film, scene: TokenScene, cameras: Cameras, background: Tensor) -> Iterator[np.ndarray]:
    """Small pictures with the colours of the film."""
    import torch

    from tokengroups.io.pictures import group_colors
    from tokengroups.scene.views import render_views, resize_cameras, select_cameras

    if film.groups:
        yield group_colors(torch.cat([torch.tensor([-1]), scene.group_ids])[None])
        return
    count, height = len(cameras.intrinsics), cameras.size_hw[0]
    chosen = torch.linspace(0, count - 1, min(count, _SAMPLES)).round().long().tolist()
    small = select_cameras(cameras, chosen)
    if max(cameras.size_hw) > _SAMPLE_SIDE_PX:
        small = resize_cameras(small, max(round(height * _SAMPLE_SIDE_PX / max(cameras.size_hw)), 1))
    for view in progress(render_views(scene, small, background), len(chosen), "choosing colours"):
        yield _pixels(film, view)


def shown_size(size_hw: tuple[int, int]) -> str:
    """Width and height, as people say them."""
    return f"{size_hw[1]}x{size_hw[0]}"
