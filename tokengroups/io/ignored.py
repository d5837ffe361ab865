"""Masks of pixels that do not count, such as people who walk through; 0 = ignored, as in COLMAP and nerfstudio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.images import Photo, Photos
from tokengroups.io.matching import find_masks
from tokengroups.io.orientation import turn
from tokengroups.io.pixels import read_mask, same_aspect
from tokengroups.reading import shown


def ignore_pixels(photos: Photos, folder: str | os.PathLike[str], files: Sequence[Path]) -> Photos:
    """Take the pixels that masks ignore out of the photos' mask, with notes; the pixels of a photo without one count.

    A pixel of the model's image counts if the mask does at its centre. Masks are for the upright photos; one that has
    the shape of its photo as stored is turned with it.

    Args:
        photos: As they were loaded.
        folder: Masks, named as `find_masks` says.
        files: All photos that were given, also those that are not used: they decide what is unique.

    Raises:
        UserError: No mask for any photo, an unreadable one, one of another shape than its photo, or one that ignores
            all that the model sees of its photo.
    """
    masks, size_hw = find_masks(Path(folder), files), (photos.images.shape[-2], photos.images.shape[-1])
    shows = np.stack([photo.shown_in(size_hw) for photo in photos.photos])
    counts = shows.copy()
    for view, photo in enumerate(photos.photos):
        if photo.path in masks:
            mask = read_counted(masks[photo.path], photo.path.name, photo.size_hw, photo.exif_orientation)
            counts[view] &= _at_centres(mask, photo, size_hw)
            if not counts[view].any():
                nothing = f"ignores all of {shown(photo.path.name)}"
                raise UserError(
                    f"{shown(masks[photo.path])}: {nothing}; 0 = ignored, so invert it, or leave the photo out"
                )
    note = f"{1 - counts.sum() / shows.sum():.1%} of the pixels are ignored"
    missing = [photo.path for photo in photos.photos if photo.path not in masks]
    return replace(photos, mask=torch.from_numpy(counts), notes=(*photos.notes, note, *missing_notes(missing)))


def read_counted(
    mask: Path, photo: str, size_hw: tuple[int, int], exif_orientation: int = 1
) -> Bool[np.ndarray, "H W"]:
    """Which pixels of a photo count, at the mask's own size.

    Args:
        mask: Its file.
        photo: Name of the photo.
        size_hw: Of the photo.
        exif_orientation: By which the photo was turned, and by which the mask is turned if only that fits.

    Raises:
        UserError: Unreadable, or of another shape than the photo.
    """
    counted = read_mask(mask, indices=False) != 0
    if exif_orientation > 1 and not same_aspect(counted.shape, size_hw):
        counted = np.asarray(turn(Image.fromarray(counted), exif_orientation))
    if not same_aspect(counted.shape, size_hw):
        raise UserError(
            f"{shown(mask)}: {counted.shape[1]}x{counted.shape[0]} pixels, another shape than its photo {shown(photo)}"
            f" of {size_hw[1]}x{size_hw[0]}; export it again"
        )
    return counted


def missing_notes(photos: Sequence[Path]) -> list[str]:
    """A note on photos without a mask."""
    if not photos:
        return []
    some = ", ".join(shown(photo.name) for photo in photos[:3]) + (", ..." if len(photos) > 3 else "")
    return [f"no mask of ignored pixels for {some}: all pixels count"]


def _at_centres(counted: Bool[np.ndarray, "H W"], photo: Photo, size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The mask's values at the centres of the model's pixels; beyond the photo those of its border."""
    places = []
    for axis, (side, pixels) in enumerate(zip(reversed(photo.size_hw), reversed(counted.shape), strict=True)):
        centres = np.arange(size_hw[1 - axis]) + 0.5
        in_photo = photo.photo_from_model[axis, axis] * centres + photo.photo_from_model[axis, 2]
        places.append(np.clip((in_photo * pixels / side).astype(np.int64), 0, pixels - 1))
    return counted[np.ix_(places[1], places[0])]
