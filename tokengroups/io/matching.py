"""Which camera and which mask belong to which photo: by names, never by guesses."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from tokengroups.errors import UserError
from tokengroups.io.files import natural_key
from tokengroups.io.images import PHOTO_SUFFIXES
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.reading import path_kind, shown

_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")


def match_photos(
    cameras: Sequence[PosedCamera], photos: Sequence[Path]
) -> tuple[list[tuple[Path, PosedCamera]], list[str]]:
    """Pairs of photo and camera in the photos' order, and notes on what has no partner.

    Names are compared without suffix, from the file name upwards through the folders. Of several photos that fit one
    camera, the one with more folders in common gets it.

    Raises:
        UserError: No pair at all, a photo that fits two cameras, or two photos that fit one equally well.
    """
    photos = list(dict.fromkeys(photos))
    chosen: dict[Path, PosedCamera] = {}
    for rivals in _claims(cameras, photos):
        nearest = [rival for rival in rivals if rival[0] == max(length for length, _, _ in rivals)]
        if len(nearest) > 1:
            names = f"{shown(nearest[0][1])} and {shown(nearest[1][1])}"
            raise UserError(f"{names}: both fit the camera of {shown(nearest[0][2].name)}; give one of them")
        chosen[nearest[0][1]] = nearest[0][2]
    if not chosen:
        raise UserError(
            f"none of the {len(photos)} photos ({shown(photos[0].name)}, ...) has a camera "
            f"({shown(cameras[0].name)}, ...); names must agree up to the suffix"
        )
    used = {id(camera) for camera in chosen.values()}
    lone = [photo.name for photo in photos if photo not in chosen]
    without = [camera.name for camera in cameras if id(camera) not in used]
    notes = [*_note(lone, "photo", "without a camera"), *_note(without, "camera", "without a photo")]
    return [(photo, chosen[photo]) for photo in photos if photo in chosen], notes


def _claims(cameras: Sequence[PosedCamera], photos: Sequence[Path]) -> Iterable[list[tuple[int, Path, PosedCamera]]]:
    """For each camera the photos that it fits best, with the number of path components in common."""
    by_stem: dict[str, list[PosedCamera]] = defaultdict(list)
    for camera in cameras:
        if not camera.name:
            raise UserError("a camera has no img_name, the name of its photo; add the names to the camera file")
        by_stem[_parts(camera.name)[0]].append(camera)
    claims: dict[int, list[tuple[int, Path, PosedCamera]]] = defaultdict(list)
    for photo in photos:
        parts = _parts(str(photo))
        common = [(len(os.path.commonprefix([parts, _parts(c.name)])), c) for c in by_stem.get(parts[0], [])]
        best = [pair for pair in common if pair[0] == max(n for n, _ in common)]
        if len(best) > 1:
            names = f"{shown(best[0][1].name)} and {shown(best[1][1].name)}"
            raise UserError(f"{shown(photo)}: fits the cameras of {names}; rename one of them")
        for length, camera in best:
            claims[id(camera)].append((length, photo, camera))
    return claims.values()


def find_masks(folder: Path, photos: Sequence[Path]) -> dict[Path, Path]:
    """Mask file of each photo, as far as there are masks.

    Masks lie in the folder like the photos in theirs (``masks/cam0/000.png`` for ``images/cam0/000.png``). A mask that
    lies elsewhere belongs to the photo with its stem, if no other photo and no other mask has it. In place of the stem
    may stand the photo's whole name (``000.jpg.png``).

    Args:
        folder: Masks, also in folders below; suffixes in any case.
        photos: All photos of the capture, also those that are not used: they decide what is unique.

    Raises:
        UserError: No such folder, no mask for any photo, or names that do not tell whose mask is whose.
    """
    if path_kind(folder) != "folder":
        raise UserError(f"{shown(folder)}: no such folder of masks")
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in _mask_files(folder):
        if path not in photos:
            by_name[path.stem].append(path)
    photos = list(dict.fromkeys(photos))
    root = os.path.commonpath([os.path.abspath(photo.parent) for photo in photos])
    found = {}
    for photo in photos:
        candidates = [path for name in _mask_names(photo) for path in by_name[name]]
        lengths = [_agreement(path.relative_to(folder), photo, root) for path in candidates]
        best = [path for path, n in zip(candidates, lengths, strict=True) if n == max(lengths) > 0]
        if len(best) > 1:
            raise _ambiguous(folder, best, [photo])
        if best:
            found[photo] = best[0]
    _add_unique(folder, photos, by_name, found)
    owners = Counter(found.values())
    for path in (path for path, count in owners.items() if count > 1):
        raise _ambiguous(folder, [path], [photo for photo in photos if found.get(photo) == path])
    if not found:
        wanted = f"{shown(photos[0].stem)}.png for {shown(photos[0].name)}"
        raise UserError(f"{shown(folder)}: no mask in it for any of the {len(photos)} photos, such as {wanted}")
    return found


def _add_unique(folder: Path, photos: Sequence[Path], by_name: dict[str, list[Path]], found: dict[Path, Path]) -> None:
    """Give the photos without a mask those of their stems that no photo has got by its folder."""
    sharing = defaultdict(list)
    for photo in photos:
        for name in _mask_names(photo):
            sharing[name].append(photo)
    taken = set(found.values())
    for photo in [photo for photo in photos if photo not in found]:
        names = _mask_names(photo)
        candidates = [path for name in names for path in by_name[name]]
        rivals = list(dict.fromkeys(other for name in names if by_name[name] for other in sharing[name]))
        if set(candidates) <= taken:
            continue
        if len(candidates) > 1 or len(rivals) > 1:
            raise _ambiguous(folder, candidates, rivals)
        found[photo] = candidates[0]


def _mask_files(folder: Path) -> list[Path]:
    """Pictures in a folder and below, links followed, in natural order; no pipes, which would block."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        masks = [name for name in names if name.lower().endswith(_MASK_SUFFIXES) and not name.startswith(".")]
        paths = [] if real in seen else [Path(place, name) for name in masks]
        found += [path for path in paths if path_kind(path) == "file"]
        seen.add(real)
    return sorted(found, key=lambda path: natural_key(str(path)))


def _mask_names(photo: Path) -> tuple[str, str]:
    """Stems of masks that a photo may have."""
    return photo.stem, photo.name


def _agreement(mask: Path, photo: Path, root: str) -> int:
    """Number of parts of a mask's path in its folder if all agree with the photo's path, else 0.

    A mask without a folder agrees with a photo right in the folder `root` of all photos.
    """
    folders = mask.parts[:-1]
    above = Path(os.path.abspath(photo.parent)).parts
    if above == (*Path(root).parts, *folders):
        return len(above) + 1  # the same layout: no other mask can agree as well
    return len(mask.parts) if folders and above[-len(folders) :] == folders else 0


def _ambiguous(folder: Path, masks: Sequence[Path], photos: Sequence[Path]) -> UserError:
    """Error about masks and photos that go by one name."""
    masks_text = ", ".join(shown(path.relative_to(folder)) for path in masks[:2])
    photos_text = ", ".join(shown(photo) for photo in photos[:2])
    example = shown(folder / photos[0].parent.name / f"{photos[0].stem}.png")
    return UserError(
        f"{shown(folder)}: cannot tell which mask is whose: {masks_text} for {photos_text};"
        f" give one mask per photo, in folders like the photos', e.g. {example}"
    )


def _parts(name: str) -> list[str]:
    """Path components, the last one first and without the suffix of a photo."""
    path = PurePosixPath(name.replace("\\", "/"))
    last = path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name
    return [last, *(part for part in reversed(path.parts[:-1]) if part != ".")]


def _note(names: Sequence[str], kind: str, lack: str) -> list[str]:
    if not names:
        return []
    text = ", ".join(shown(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return [f"left out {len(names)} {kind}{'s' if len(names) > 1 else ''} {lack}: {text}"]
