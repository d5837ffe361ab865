"""Options and loading of the photos that `reconstruct` and `segment` take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.arguments import MAX_COUNT, MAX_SIZE_PX, add_megapixels_option, add_number
from tokengroups.cli.output import counted
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.io.images import Photos
    from tokengroups.systems import SceneSystem

EXIF = "exif"
MAX_PIXELS = 48  # of all photos, resized, in units of one photo at the weights' own size; memory grows with the square


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add the photos themselves."""
    help_text = "photo files, or a folder of them; the first is the world"
    parser.add_argument("photos", nargs="*", metavar="PHOTO|DIR", help=help_text)


def add_photo_options(parser: argparse.ArgumentParser, max_views: int) -> None:
    """Add ``--size``, ``--max-views``, ``--max-megapixels``, ``--seed`` and ``--focal``."""
    add_limited = partial(add_number, parser)
    size_help = "longer side the photos are resized to (the weights' own)"
    add_limited("--size", 1, MAX_SIZE_PX, metavar="PX", help=size_help)
    crop_help = "cut the central square out of every photo (default: whole photos; other shapes are padded)"
    parser.add_argument("--crop", action="store_true", help=crop_help)
    add_limited("--max-views", 1, MAX_COUNT, default=max_views, metavar="N", help="use at most N photos (%(default)s)")
    add_megapixels_option(parser)
    seed_help = "start the anchor sampling elsewhere; the same seed gives the same scene"
    add_limited("--seed", 0, metavar="S", help=seed_help)
    focal_help = """focal length of all photos in their pixels, or 'exif' to read it from each; makes far better
        scenes than a predicted one"""
    parser.add_argument("--focal", type=_focal, metavar="PX|exif", help=focal_help)


def load(
    args: argparse.Namespace, paths: Sequence[Path], model: SceneSystem, device: str, known_cameras: bool = False
) -> tuple[Photos, Tensor | None, list[str]]:
    """Load photos for a model: photos, their intrinsics if ``--focal`` gives them, and notes.

    Where cameras are known, no note asks for a focal length.

    Raises:
        UserError: Unusable photos, or options that do not fit them.
    """
    from tokengroups.io.focal import exif_focal_px, photo_intrinsics
    from tokengroups.io.images import load_photos

    size = args.size or model.image_size
    _check_size(size, min(len(paths), args.max_views), model.image_size)
    limits = {"square": args.crop, "max_views": args.max_views, "max_megapixels": args.max_megapixels}
    photos = load_photos(paths, size, patch_size=model.size_multiple, **limits)
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
    return {
        "weights": Path(args.weights).name,
        "photos": [
            {"name": photo.path.name, "size_hw": list(photo.size_hw), "crop_box": list(photo.crop_box)}
            for photo in photos.photos
        ],
        **adjusted,
    }


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
