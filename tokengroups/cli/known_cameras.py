"""Options of `reconstruct` about what is known beside the photos: their cameras, and a length."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tokengroups.cli import photos as photo_options
from tokengroups.cli.output import progress
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.io.images import Photo, Photos
    from tokengroups.io.posed_cameras import PosedCamera
    from tokengroups.postprocess import Reconstruction
    from tokengroups.systems import GivenPhotos, Registered, SceneSystem

_FORM = "U,V U,V METRES, or PHOTO:U,V in place of U,V"
Pixel = tuple[str | None, float, float]  # photo's name (None: the first), x and y in the upright photo
Place = tuple[int, float, float]  # view, and x and y in the model's image


@dataclass(frozen=True)
class KnownLength:
    """A distance between the surface points behind two pixels."""

    first: Pixel
    second: Pixel
    metres: float


def add_camera_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cameras``, ``--refine-cameras``, ``--poses``, ``--keep-all`` and ``--scale-between``."""
    add = parser.add_argument
    cameras_help = """the photos' cameras, which stay and whose world and unit become the scene's: transforms.json, a
        COLMAP model or a cameras.json, matched by the photos' names; pinholes without distortion"""
    add("--cameras", metavar="FILE|DIR", help=cameras_help)
    add("--refine-cameras", action="store_true", help="cameras are approximate: bundle adjustment may change them")
    poses_help = "let COLMAP find the cameras (extra `colmap`); photos that it does not register are left out"
    add("--poses", choices=["colmap"], help=poses_help)
    add("--keep-all", action="store_true", help="keep photos that do not fit the others, which are left out by default")
    scale_help = """scale the scene so that the points behind two pixels of the first photo, or of photos named, are so
        far apart"""
    add("--scale-between", nargs=3, metavar=("U,V", "U,V", "METRES"), help=scale_help)


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before long work.

    Raises:
        UserError: Says which.
    """
    from tokengroups.io.colmap_mapping import check_colmap

    if args.cameras is not None and args.poses is not None:
        raise UserError("--cameras and --poses: give one of them")
    known = "--cameras" if args.cameras is not None else "--poses"
    if (args.cameras or args.poses) and args.focal is not None:
        raise UserError(f"{known} gives the focal lengths, too; leave --focal out")
    if args.refine_cameras and not (args.cameras or args.poses):
        raise UserError("--refine-cameras: there are none to refine; give them with --cameras")
    if args.poses is not None:
        check_colmap()


def load_given(args: argparse.Namespace, model: SceneSystem, device: str) -> tuple[Photos, GivenPhotos, list[str]]:
    """Load photos and, as far as options give them, their cameras; and notes.

    Raises:
        UserError: Unusable photos or cameras, or options that do not fit them.
    """
    from tokengroups.io.colmap_mapping import map_photos
    from tokengroups.io.images import find_photos
    from tokengroups.io.photo_cameras import cameras_of_photos
    from tokengroups.systems import GivenPhotos

    known = args.cameras is not None or args.poses is not None
    cameras, notes = _read_cameras(args) if args.cameras is not None else ({}, [])
    paths = list(cameras) or find_photos(args.photos)
    photos, intrinsics, more = photo_options.load(args, paths, model, device, known)
    notes += more
    if args.poses is not None:
        cameras, more = map_photos(photos.photos, progress)
        photos = photos.select([view for view, photo in enumerate(photos.photos) if photo.path in cameras])
        notes += more
    poses = None
    if known:
        poses, intrinsics = (tensor.to(device) for tensor in cameras_of_photos(photos, cameras))
    mask = None if photos.mask is None else photos.mask.to(device)
    return photos, GivenPhotos(photos.images.to(device), intrinsics, poses, mask, None, args.refine_cameras), notes


def _read_cameras(args: argparse.Namespace) -> tuple[dict[Path, PosedCamera], list[str]]:
    """Cameras of the photos by their files, and notes on what has no partner."""
    from tokengroups.data.readers.capture import photos_of_cameras
    from tokengroups.io.camera_files import load_camera_set
    from tokengroups.io.matching import match_photos

    found, _ = load_camera_set(Path(args.cameras), "--cameras")
    pairs, notes = match_photos(found.cameras, photos_of_cameras(args.photos, found))
    return dict(pairs), notes


def parse_length(words: list[str] | None) -> KnownLength | None:
    """Read ``--scale-between``; None = not given.

    Raises:
        UserError: Other words than two pixels and a length.
    """
    if words is None:
        return None
    first, second, metres = _pixel(words[0]), _pixel(words[1]), _number(words[2])
    if first is None or second is None or metres is None or not 0 < metres < 1e6 or first == second:
        raise UserError(f"--scale-between {shown(' '.join(words))}: give {_FORM}, such as 120,340 410,338 2.05")
    return KnownLength(first, second, metres)


def _pixel(word: str) -> Pixel | None:
    name, _, place = word.rpartition(":")
    numbers = [_number(part) for part in place.split(",")]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return None
    return name or None, numbers[0], numbers[1]


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def find_places(photos: Photos, known: KnownLength | None) -> list[Place]:
    """Places of a length's two pixels among the photos; none without a length.

    Raises:
        UserError: No photo of that name, or no such pixel.
    """
    return [] if known is None else [_place(photos, known.first), _place(photos, known.second)]


def apply_length(made: Reconstruction, kept: Sequence[int], known: KnownLength, places: list[Place]) -> Reconstruction:
    """Scale a reconstruction so that the length is right; the unit becomes the metre.

    Args:
        made: The reconstruction.
        kept: Indices of its photos among those that the places are in.
        known: The length.
        places: Of its two pixels.

    Raises:
        UserError: One of the photos was left out, depth is unknown there, or both pixels are one point.
    """
    from tokengroups.systems import distance_between, scaled

    if any(view not in kept for view, _, _ in places):
        raise UserError("--scale-between: its photo does not fit the others and is left out; choose pixels of another")
    first, second = ((kept.index(view), x, y) for view, x, y in places)
    distance = distance_between(made, first, second)
    if not 0 < distance < math.inf:
        raise UserError("--scale-between: depth is unknown at one of the pixels, or both are one point; choose others")
    factor = known.metres / distance
    made = scaled(made, factor, "metre")
    fact = {"pixels": [known.first, known.second], "metres": known.metres, "factor": float(f"{factor:.6g}")}
    provenance = {**made.scene.provenance, "scale_between": fact}
    return replace(made, scene=replace(made.scene, provenance=provenance))


def _place(photos: Photos, pixel: Pixel) -> Place:
    """View and pixel of the model's image for a pixel of a photo."""
    import numpy as np

    name, x, y = pixel
    views = [view for view, photo in enumerate(photos.photos) if name in (None, *_names(photo))]
    if not views or (name is not None and len(views) > 1):
        what = "is no photo of the scene" if not views else "are several photos"
        raise UserError(f"--scale-between {shown(name)}: {what}; give the name of one")
    photo = photos.photos[views[0]]
    height, width = photo.size_hw
    column, row, _ = np.linalg.solve(photo.photo_from_model, [x, y, 1.0]).tolist()
    tall, wide = photos.images.shape[-2:]
    if not (0 <= x < width and 0 <= y < height and 0 <= column < wide and 0 <= row < tall):
        size = f"{photo.path.name} has {width}x{height} pixels"
        raise UserError(f"--scale-between {x:g},{y:g}: the scene shows no such pixel; {shown(size)}")
    return views[0], column, row


def _names(photo: Photo) -> tuple[str, str]:
    return photo.path.name, photo.path.stem


def registration_notes(registered: Registered, names: list[str], fixed: bool) -> list[str]:
    """A note on photos that do not fit the others."""
    apart = [
        f"{name} ({each.score:.2f})"
        for name, each in zip(names, registered.registrations, strict=True) if not each.registered
    ]  # fmt: skip
    if not apart:
        return []
    some = ", ".join(apart[:4]) + (f" and {len(apart) - 4} more" if len(apart) > 4 else "")
    if len(registered.kept) < len(names):
        return [
            f"left out {len(apart)} of {len(names)} photos that do not fit the others: {some}; --keep-all keeps them"
        ]
    cause = "their cameras may be wrong, or they overlap little" if fixed else "the scene may fall apart"
    return [f"{len(apart)} of {len(names)} photos do not fit the others: {some}; {cause}"]


def report(made: Reconstruction, registered: Registered) -> dict[str, Any]:
    """Residuals and scale, for the summary."""
    provenance, kept = made.scene.provenance, [registered.registrations[view] for view in registered.kept]
    distances = [each.reprojection_px for each in kept if each.reprojection_px is not None]
    facts = {
        "cameras": provenance.get("cameras", "predicted"),
        "unit": provenance.get("unit", "relative"),
        "matched": round(median(each.matched for each in kept), 3),
        "reprojection_px": round(median(distances), 3) if distances else None,
    }
    facts |= {
        name: provenance[name] for name in ("depth_unit", "camera_changes", "scale_between") if name in provenance
    }
    return facts


def report_lines(facts: dict[str, Any]) -> str:
    """The same as text after the summary's first line."""
    lines = []
    if len(facts) > 4:
        error = "" if facts["reprojection_px"] is None else f", {facts['reprojection_px']:.2f} px off (median)"
        lines.append(f"cameras {facts['cameras']}: {facts['matched']:.0%} of patches matched{error}")
    if facts["unit"] == "that of the cameras":
        lines[-1] += f"; a unit of predicted depth is {facts['depth_unit']:.3g} of theirs"
    if changes := facts.get("camera_changes"):
        turned, moved = (max(change[name] for change in changes) for name in ("degrees", "distance"))
        lines.append(f"refined by up to {turned:.2g} degrees and {moved:.2g} units")
    if "scale_between" in facts:
        lines.append(f"scaled by {facts['scale_between']['factor']:.4g} to metres")
    return "".join(f"\n{line}" for line in lines)
