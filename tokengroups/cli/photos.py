"""Options and loading of the photos that `reconstruct` and `segment` take."""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.arguments import MAX_COUNT, MAX_SIZE_PX, add_ignore_option, add_megapixels_option, add_number
from tokengroups.cli.output import counted, progress
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.io.images import Photos
    from tokengroups.systems import SceneSystem

EXIF = "exif"
MAX_PIXELS = 48  # of all photos, resized, in units of one photo at the weights' own size; memory grows with the square


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add the photos themselves."""
    help_text = "photo files, videos, or a folder of them; the first is the world"
    parser.add_argument("photos", nargs="*", metavar="PHOTO|VIDEO|DIR", help=help_text)


def add_photo_options(parser: argparse.ArgumentParser, max_views: int) -> None:
    """Add the options that say how photos are chosen and read."""
    add_limited = partial(add_number, parser)
    size_help = "longer side the photos are resized to (the weights' own)"
    add_limited("--size", 1, MAX_SIZE_PX, metavar="PX", help=size_help)
    crop_help = "cut the central square out of every photo (default: whole photos; other shapes are padded)"
    parser.add_argument("--crop", action="store_true", help=crop_help)
    add_limited("--max-views", 1, MAX_COUNT, default=max_views, metavar="N", help="use at most N photos (%(default)s)")
    frames_help = "frames of a video: even ones, or the sharpest of every stretch in which the camera moved (even)"
    parser.add_argument("--frames", choices=("even", "sharp"), help=frames_help)
    fps_help = "frames or stretches of a video a second (default: N in all)"
    add_limited("--fps", 1e-3, 1000, kind=float, metavar="F", help=fps_help)
    add_ignore_option(parser)
    add_megapixels_option(parser)
    seed_help = "start the anchor sampling elsewhere; the same seed gives the same scene"
    add_limited("--seed", 0, metavar="S", help=seed_help)
    focal_help = """focal length of all photos in their pixels, or 'exif' to read it from each; makes far better
        scenes than a predicted one"""
    parser.add_argument("--focal", type=_focal, metavar="PX|exif", help=focal_help)


@contextlib.contextmanager
def given_photos(
    args: argparse.Namespace, sources: Sequence[str], frames: Path, videos_elsewhere: bool = False
) -> Iterator[tuple[list[Path], list[str]]]:
    """Yield the photos among files and folders, and notes; frames of videos are written into a folder.

    They stay there, as whatever needs the photos again needs them. If the block fails, they are removed.

    Args:
        args: With the options of `add_photo_options`.
        sources: What the user named.
        frames: The folder, created only for a video.
        videos_elsewhere: Options for videos may be for other scenes of the command.

    Raises:
        UserError: No photo, an unusable video, or options for videos without one.
    """
    from tokengroups.io.images import find_photos, is_video

    files = find_photos(sources, videos=True)
    videos = [path for path in files if is_video(path)]
    if not videos:
        if not videos_elsewhere and (args.frames is not None or args.fps is not None):
            raise UserError("--frames and --fps choose frames of videos, but no video is given")
        yield files, []
        return
    most = max((args.max_views - len(files) + len(videos)) // len(videos), 1)
    with _removed_on_failure(frames):
        photos, notes, stems = [], [], Counter()
        for path in files:
            if path in videos:
                stems[path.stem] += 1
                stem = path.stem if stems[path.stem] == 1 else f"{path.stem}-{stems[path.stem]}"
                taken, more = _frames(args, path, frames, most, stem)
                notes += [*more, f"{counted(len(taken), 'frame')} of {shown(path.name)} are in {shown(frames)}"]
                photos += taken
            else:
                photos.append(path)
        yield photos, notes


def _frames(args: argparse.Namespace, video: Path, folder: Path, most: int, stem: str) -> tuple[list[Path], list[str]]:
    from tokengroups.io.video_frames import Sampling, extract_frames

    sampling = Sampling(most, args.frames or "even", args.fps)
    return extract_frames(video, folder, sampling, stem=stem, max_megapixels=args.max_megapixels, watch=progress)


@contextlib.contextmanager
def _removed_on_failure(folder: Path) -> Iterator[None]:
    """A folder, created where missing; what is new in it is removed if the block fails."""
    from tokengroups.io.files import check_folder, make_folder

    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(check_folder(folder))
    before = set(folder.iterdir())
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in set(folder.iterdir()) - before:
                path.unlink()
            for place in missing:
                place.rmdir()
        raise


def load(
    args: argparse.Namespace, paths: Sequence[Path], model: SceneSystem, device: str, known_cameras: bool = False
) -> tuple[Photos, Tensor | None, list[str]]:
    """Load photos for a model: photos, their intrinsics if ``--focal`` gives them, and notes.

    Where cameras are known, no note asks for a focal length.

    Raises:
        UserError: Unusable photos, or options that do not fit them.
    """
    from tokengroups.io.focal import exif_focal_px, photo_intrinsics
    from tokengroups.io.ignored import ignore_pixels
    from tokengroups.io.images import load_photos

    size = args.size or model.image_size
    _check_size(size, min(len(paths), args.max_views), model.image_size)
    limits = {"square": args.crop, "max_views": args.max_views, "max_megapixels": args.max_megapixels}
    photos = load_photos(paths, size, patch_size=model.size_multiple, **limits)
    if args.ignore is not None:
        photos = ignore_pixels(photos, args.ignore, paths)
    intrinsics, notes = None, photos.messages()
    if args.focal is not None:
        intrinsics = photo_intrinsics(photos, None if args.focal == EXIF else args.focal).to(device)
    elif not known_cameras and all(exif_focal_px(photo) is not None for photo in photos.photos):
        notes.append("the photos' EXIF data give their focal length: --focal exif makes a better scene")
    return photos, intrinsics, notes


def origin(args: argparse.Namespace, photos: Photos, adjusted: dict[str, Any]) -> dict[str, Any]:
    """Weights, photos and changed settings, for the provenance of a scene.

    File names only: a shared scene does not reveal the folders of this disk.
    """
    recorded = []
    for photo in photos.photos:
        fact = {"name": photo.path.name, "size_hw": list(photo.size_hw), "crop_box": list(photo.crop_box)}
        bent = {} if photo.lens is None else {"lens": asdict(photo.lens), "pinhole": photo.pinhole}
        recorded.append({**fact, **bent})
    return {"weights": Path(args.weights).name, "photos": recorded, **adjusted}


def _check_size(size: int, num_photos: int, own_size: int) -> None:
    """Refuse photos so much larger than the weights' own size that they would not fit into memory."""
    largest = max(own_size, int(own_size * (MAX_PIXELS / max(num_photos, 1)) ** 0.5))
    if size > largest:
        raise UserError(f"--size {size}: too large for {counted(num_photos, 'photo')}; give at most {largest}")


def _focal(text: str) -> float | str:
    """Parse a number of pixels, or the word for the photos' own focal lengths."""
    if text.lower() == EXIF:
        return EXIF
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number of pixels nor 'exif'") from None
