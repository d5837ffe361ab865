"""Names of the files of a segmentation: one of each kind per photo, in folders like those of the photos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.io.files import check_folder
from tokengroups.reading import path_kind, shown

INSTANCES, CAMERAS, CONTACT_SHEET, VIDEO = "instances.json", "cameras.json", "contact_sheet.jpg", "overlays.mp4"
SUFFIXES = {"masks": ".png", "depth": ".png", "overlays": ".jpg"}  # by folder


@dataclass(frozen=True)
class Layout:
    """Files of a segmentation, as paths in its folder."""

    photos: dict[Path, str]  # name of each photo, with the folders in which it differs from others
    stems: dict[Path, str]  # of its files; the name without suffix, or the whole one where that is taken

    def file(self, folder: str, photo: Path) -> str:
        """Path of a photo's file in ``masks``, ``depth`` or ``overlays``."""
        return f"{folder}/{self.stems[photo]}{SUFFIXES[folder]}"

    def shared_stems(self) -> list[str]:
        """Names of the photos that share their stem with another one."""
        return [self.photos[photo] for photo in self.photos if self.stems[photo] == self.photos[photo]]


def plan_layout(photos: Sequence[Path]) -> Layout:
    """Name the files of photos so that no two share one, as `tokengroups.io.matching.find_masks` finds masks.

    Args:
        photos: All photos, also those that are not used, each once: they decide what is unique.
    """
    absolute = {photo: Path(os.path.abspath(photo)) for photo in photos}
    root = os.path.commonpath([place.parent for place in absolute.values()])
    names = {photo: place.relative_to(root) for photo, place in absolute.items()}
    stems = {photo: name.with_suffix("").as_posix() for photo, name in names.items()}
    counts = Counter(stems.values())
    stems = {photo: stem if counts[stem] == 1 else names[photo].as_posix() for photo, stem in stems.items()}
    if len(set(stems.values())) < len(stems):  # a.jpg, a.png and a.jpg.png
        stems = {photo: name.as_posix() for photo, name in names.items()}
    return Layout({photo: name.as_posix() for photo, name in names.items()}, stems)


def check_place(folder: Path, layout: Layout, used: Iterable[Path], video: bool) -> None:
    """Refuse a folder where the result would lie among files that it must not touch or be mixed with.

    Raises:
        UserError: It cannot be written, photos lie where pictures are to be written, or there are files of an earlier
            result that this one would not replace.
    """
    check_folder(folder)
    place = Path(os.path.realpath(folder))
    for photo in layout.photos:
        lies = Path(os.path.realpath(photo)).parent
        if lies == place or any(part in (lies, *lies.parents) for part in (place / name for name in SUFFIXES)):
            raise UserError(f"{shown(folder)}: photos such as {shown(photo.name)} lie there; give another folder")
    written = {layout.file(kind, photo) for kind in SUFFIXES for photo in used} | ({VIDEO} if video else set())
    stale = [name for name in _earlier(folder) if name not in written]
    if stale:
        more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        mixed = f"{shown(stale[0])}{more}, of other photos or settings, would stay beside the new files"
        raise UserError(f"{shown(folder)}: {mixed}; give another folder, or remove this one")


def _earlier(folder: Path) -> list[str]:
    """Files that an earlier segmentation may have left, as paths in the folder."""
    found = [VIDEO] if path_kind(folder / VIDEO) == "file" else []
    for kind in SUFFIXES:
        inside = sorted((folder / kind).rglob("*")) if path_kind(folder / kind) == "folder" else []
        found += [path.relative_to(folder).as_posix() for path in inside if path_kind(path) == "file"]
    return found
