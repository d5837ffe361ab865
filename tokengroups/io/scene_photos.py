"""The photos of a scene, found again by what its provenance records; cut and resized as they were when it was made."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.images import decode_photo, find_photos, pixels_inside, resize_window
from tokengroups.io.lenses import Lens, undistort_photo
from tokengroups.io.pixels import same_aspect
from tokengroups.reading import shown

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class RecordedPhoto:
    """A photo as a scene's provenance records it; `reconstruct` records the crop, both the lens."""

    name: str
    size_hw: tuple[int, int] | None = None  # of the upright photo
    crop_box: Box | None = None  # as in `Photo`; None = the whole photo as stored
    lens: Lens | None = None  # the scene saw the photo without its distortion; None = there is none
    pinhole: Box | None = None  # of the lens: focal lengths and centre, across and down, in widths and heights

    def straight(self, image: Image.Image) -> Image.Image:
        """The photo without its lens distortion.

        Raises:
            UserError: The lens cannot be that of the photo.
        """
        if self.lens is None or self.pinhole is None:
            return image
        fx, fy, cx, cy = (value * (image.width, image.height)[i % 2] for i, value in enumerate(self.pinhole))
        intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return Image.fromarray(undistort_photo(np.asarray(image), self.lens, intrinsics)[0])


def whole_photo_record(
    name: str, lens: Lens | None, intrinsics: Float[Tensor, "3 3"], size_hw: tuple[int, int]
) -> str | dict[str, Any]:
    """JSON of a whole photo, which `recorded_photos` reads; the intrinsics are in pixels of `size_hw`."""
    if lens is None:
        return name
    (height, width), ((fx, _, cx), (_, fy, cy), _) = size_hw, intrinsics.tolist()
    return {"name": name, "pinhole": [fx / width, fy / height, cx / width, cy / height], "lens": asdict(lens)}


@dataclass(frozen=True)
class ScenePhoto:
    """Photo file of a context view, and what is recorded of it; None = nothing."""

    path: Path
    recorded: RecordedPhoto | None

    def load(self, size_hw: tuple[int, int]) -> Float[Tensor, "3 H W"]:
        """The pixels of the context view, in [0, 1].

        Raises:
            UserError: The photo cannot be read, or has another shape than the one that the scene was made from.
        """
        image, box = self.whole(size_hw)
        pixels = torch.from_numpy(resize_window(image, box, size_hw).copy())
        return rearrange(pixels, "h w c -> c h w").float() / 255

    def shown_in(self, size_hw: tuple[int, int]) -> Bool[Tensor, "H W"]:
        """Which pixels of the context view show the photo, not padding."""
        if self._crop is None:
            return torch.ones(size_hw, dtype=torch.bool)
        return torch.from_numpy(pixels_inside(self._crop[1], self._crop[0], size_hw))

    def whole(self, size_hw: tuple[int, int]) -> tuple[Image.Image, Box]:
        """The photo as the scene saw it, upright or as stored, and the box in it that the context view shows.

        Raises:
            UserError: As `load`.
        """
        if self._crop is not None:
            image, box = self._upright(*self._crop)
            return image if self.recorded is None else self.recorded.straight(image), box
        image = self._whole(size_hw)
        return image, (0.0, 0.0, float(image.width), float(image.height))

    @property
    def _crop(self) -> tuple[tuple[int, int], Box] | None:
        """Size of the upright photo and the box that was cut out of it, if they are recorded."""
        photo = self.recorded
        return (
            None
            if photo is None or photo.size_hw is None or photo.crop_box is None
            else (photo.size_hw, photo.crop_box)
        )

    def _upright(self, size_hw: tuple[int, int], crop_box: Box) -> tuple[Image.Image, Box]:
        """The photo, or a reduced or enlarged copy of it, and the box to cut out."""
        image, (height, width), (left, top, right, bottom) = decode_photo(self.path)[0], size_hw, crop_box
        if not same_aspect((image.height, image.width), size_hw):
            found = f"{image.width}x{image.height} pixels, but the scene was made from {width}x{height}"
            raise UserError(f"{shown(self.path)}: {found}; give the photo itself")
        across, down = image.width / width, image.height / height
        return image, (left * across, top * down, right * across, bottom * down)

    def _whole(self, size_hw: tuple[int, int]) -> Image.Image:
        """As stored, as `fit` takes photos, or upright if only that has the view's shape; without lens distortion."""
        for upright in (False, True):
            image = decode_photo(self.path, upright)[0]
            if same_aspect((image.height, image.width), size_hw):
                return image if self.recorded is None else self.recorded.straight(image)
        shapes = f"{image.width}x{image.height} pixels, but the scene's views have {size_hw[1]}x{size_hw[0]}"
        raise UserError(f"{shown(self.path)}: {shapes}; give the photos as they were cut for the scene")


def find_scene_photos(
    sources: Sequence[str], provenance: dict[str, Any], count: int
) -> tuple[list[ScenePhoto], list[str]]:
    """Find the photo of every context view among files and folders, and notes for the user.

    They are found by the recorded names. Where none are recorded, or names repeat, the files in their order count.

    Args:
        sources: Files and folders.
        provenance: Of the scene.
        count: Number of context views.

    Raises:
        UserError: A photo is missing, or there are not as many as context views.
    """
    files = find_photos(list(sources))
    recorded = recorded_photos(provenance.get("photos"), count)
    if recorded is None:
        if len(files) != count:
            raise UserError(f"{len(files)} photos for {count} context views; the scene records none: give one for each")
        return [ScenePhoto(path, None) for path in files], ["the scene records no photos: taken in the order given"]
    names = [photo.name for photo in recorded]
    if [path.name for path in files] != names:
        if len(set(names)) < len(names):
            raise UserError("several photos of the scene have the same name; give all of its photos in their order")
        files = [_named(files, name) for name in names]
    return [ScenePhoto(path, photo) for path, photo in zip(files, recorded, strict=True)], []


def kept_frames(scene_file: str | os.PathLike[str], provenance: dict[str, Any], count: int) -> list[ScenePhoto]:
    """Find the photos of a scene of videos: `reconstruct` keeps them in ``STEM_frames`` beside it; [] = not there.

    Other photos are not looked for: a scene records their names alone, and many have the same.
    """
    folder = Path(scene_file).with_name(f"{Path(scene_file).stem}_frames")
    if recorded_photos(provenance.get("photos"), count) is None:
        return []
    try:
        return find_scene_photos([str(folder)], provenance, count)[0]
    except UserError:
        return []


def _named(files: Sequence[Path], name: str) -> Path:
    found = [path for path in files if path.name == name]
    if len(found) != 1:
        what = f"{len(found)} photos" if found else "no photo"
        raise UserError(f"{what} of the name '{shown(name)}', which the scene was made from; give that one")
    return found[0]


def recorded_photos(photos: Any, count: int) -> list[RecordedPhoto] | None:
    """What a provenance says about the photos; None where it is nothing, or not in the form of this package."""
    if not isinstance(photos, list) or len(photos) != count:
        return None
    try:
        return [RecordedPhoto(each) if isinstance(each, str) else _recorded(each) for each in photos]
    except (TypeError, ValueError, KeyError, OverflowError):
        return None


def _recorded(photo: Mapping[str, Any]) -> RecordedPhoto:
    """A photo that is recorded with its crop, with its lens, or with both."""
    crop = {key: value for key, value in photo.items() if key not in ("lens", "pinhole")}
    if "lens" not in photo:
        return _with_crop(**photo)
    bent = _with_lens(photo["name"], photo["pinhole"], photo["lens"])
    return replace(_with_crop(**crop), lens=bent.lens, pinhole=bent.pinhole) if "crop_box" in crop else bent


def _with_lens(name: str, pinhole: Sequence[float], lens: Mapping[str, Any]) -> RecordedPhoto:
    fx, fy, cx, cy = map(float, pinhole)
    radial, tangential, below = (tuple(map(float, lens[key])) for key in ("radial", "tangential", "denominator"))
    p1, p2 = tangential
    if not (all(map(math.isfinite, (fx, fy, cx, cy, *radial, p1, p2, *below))) and min(fx, fy) > 0):
        raise ValueError("no lens")
    read = Lens(radial, (p1, p2), below, bool(lens["fisheye"]))
    return RecordedPhoto(str(name), lens=read, pinhole=(fx, fy, cx, cy))


def _with_crop(name: str, size_hw: Sequence[int], crop_box: Sequence[float]) -> RecordedPhoto:
    height, width = map(int, size_hw)
    left, top, right, bottom = map(float, crop_box)
    reach = max(height, width)  # padding reaches as far beyond a photo at most
    inside = -reach <= left < right <= width + reach and -reach <= top < bottom <= height + reach
    if not (inside and min(right, width) > max(left, 0) and min(bottom, height) > max(top, 0)):
        raise ValueError("a crop outside of its photo")
    return RecordedPhoto(str(name), (height, width), (left, top, right, bottom))
