"""The photos that a scene was made of, found again by the names in its provenance."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokengroups.errors import UserError
from tokengroups.io.images import find_photos
from tokengroups.io.scene_photos import ScenePhoto
from tokengroups.reading import malformed, shown
from tokengroups.scene.consistency import whole_number
from tokengroups.types import TokenScene

_ADVICE = "leave --photos out to use renderings"
_LARGEST_SIDE = 2**20


def find_scene_photos(scene: TokenScene, folder: str | os.PathLike[str]) -> tuple[ScenePhoto, ...]:
    """Find the photo of each context camera in a folder; returns them in the cameras' order.

    Raises:
        UserError: The provenance does not name one photo for each camera, or the folder lacks some of them.
    """
    recorded = _recorded_photos(scene)
    paths = {path.name: path for path in find_photos(folder)}
    missing = [photo.path.name for photo in recorded if photo.path.name not in paths]
    if missing:
        lacks = f"lacks {len(missing)} of the scene's {len(recorded)} photos, such as {shown(missing[0])}"
        raise UserError(f"{shown(folder)}: {lacks}; give the folder of these photos, or {_ADVICE}")
    return tuple(replace(photo, path=paths[photo.path.name]) for photo in recorded)


def _recorded_photos(scene: TokenScene) -> list[ScenePhoto]:
    """Names, sizes and crops of the photos as `reconstruct` and `fit` record them; the paths have no folder."""
    entries = scene.provenance.get("photos")
    if not isinstance(entries, list) or len(entries) != len(scene.cameras.intrinsics):
        raise UserError(f"the scene does not say which photo belongs to which of its cameras; {_ADVICE}")
    with malformed("the scene's provenance of photos", _ADVICE):
        photos = [_parse(entry) for entry in entries]
    if len({photo.path for photo in photos}) < len(photos):
        raise UserError(f"several of the scene's photos have the same name, so names do not tell them apart; {_ADVICE}")
    return photos


def _parse(entry: Any) -> ScenePhoto:
    if isinstance(entry, str):
        return ScenePhoto(_name(entry), None, None)
    height, width = (whole_number(side, 1, _LARGEST_SIDE) for side in entry["size_hw"])
    left, top, right, bottom = (whole_number(value, 0, _LARGEST_SIDE) for value in entry["crop_box"])
    if not (left < right <= width and top < bottom <= height):
        raise ValueError(f"crop {entry['crop_box']} of a photo of {width}x{height}")
    return ScenePhoto(_name(entry["name"]), (height, width), (left, top, right, bottom))


def _name(value: Any) -> Path:
    """A file's name without a folder, whatever the scene says."""
    name = Path(value).name if isinstance(value, str) else ""
    if not name or name != value:
        raise ValueError(f"{value!r} is no file's name")
    return Path(name)
