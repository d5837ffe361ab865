"""Options of `reconstruct` about what is known beside the photos: their cameras, and a length."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tokengroups.cli import photos as photo_options
from tokengroups.cli.known_length import add_length_option
from tokengroups.cli.output import progress
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.io.images import Photos
    from tokengroups.io.posed_cameras import PosedCamera
    from tokengroups.postprocess import Reconstruction
    from tokengroups.systems import GivenPhotos, Registered, SceneSystem


def add_camera_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cameras``, ``--refine-cameras``, ``--poses``, ``--keep-all`` and ``--scale-between``."""
    add = parser.add_argument
    cameras_help = """the photos' cameras, which stay and whose world and unit become the scene's: transforms.json, a
        COLMAP model or a cameras.json, matched by the photos' names; lens distortion is undone"""
    add("--cameras", metavar="FILE|DIR", help=cameras_help)
    add("--refine-cameras", action="store_true", help="cameras are approximate: bundle adjustment may change them")
    poses_help = "let COLMAP find the cameras (extra `colmap`); photos that it does not register are left out"
    add("--poses", choices=["colmap"], help=poses_help)
    add("--keep-all", action="store_true", help="keep photos that do not fit the others, which are left out by default")
    add_length_option(parser)


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before long work.

    Raises:
        UserError: Says which.
    """
    from tokengroups.io.colmap_mapping import check_colmap

    for option, value in (("--cameras", args.cameras), ("--scale-between", args.scale_between)):
        if args.batch and value is not None:
            raise UserError(f"{option} is for one scene; leave it out, or make the scenes one by one")
    if args.cameras is not None and args.poses is not None:
        raise UserError("--cameras and --poses: give one of them")
    known = "--cameras" if args.cameras is not None else "--poses"
    if (args.cameras or args.poses) and args.focal is not None:
        raise UserError(f"{known} gives the focal lengths, too; leave --focal out")
    if args.refine_cameras and not (args.cameras or args.poses):
        raise UserError("--refine-cameras: there are none to refine; give them with --cameras")
    if args.poses is not None:
        check_colmap()


@contextlib.contextmanager
def given_photos(
    args: argparse.Namespace, frames: Path
) -> Iterator[tuple[list[Path], dict[Path, PosedCamera] | None, list[str]]]:
    """Yield the photos of one scene, their cameras if ``--cameras`` gives them, and notes.

    With cameras, photos are found as `fit` finds them; otherwise as `tokengroups.cli.photos.given_photos` does.

    Raises:
        UserError: No photo, unusable cameras, or names that do not tell whose camera is whose.
    """
    from tokengroups.data.readers.capture import photos_of_cameras
    from tokengroups.io.camera_files import load_camera_set
    from tokengroups.io.images import is_video
    from tokengroups.io.matching import match_photos

    if args.cameras is None:
        with photo_options.given_photos(args, args.photos, frames) as (paths, notes):
            yield paths, None, notes
        return
    videos = [name for name in args.photos if is_video(Path(name))]
    if videos:
        raise UserError(f"--cameras is for photos, and {shown(videos[0])} is a video; give the folder of its frames")
    found, _ = load_camera_set(Path(args.cameras), "--cameras")
    pairs, notes = match_photos(found.cameras, photos_of_cameras(args.photos, found))
    yield [path for path, _ in pairs], dict(pairs), notes


def load_given(
    args: argparse.Namespace,
    paths: Sequence[Path],
    cameras: Mapping[Path, PosedCamera] | None,
    model: SceneSystem,
    device: str,
) -> tuple[Photos, GivenPhotos, list[str]]:
    """Load photos and, as far as options give them, their cameras; and notes.

    Raises:
        UserError: Unusable photos or cameras, or options that do not fit them.
    """
    from tokengroups.io.colmap_mapping import map_photos
    from tokengroups.io.photo_cameras import pose_photos
    from tokengroups.systems import GivenPhotos

    known, poses = cameras is not None or args.poses is not None, None
    photos, intrinsics, notes = photo_options.load(args, paths, model, device, known)
    if args.poses is not None:
        cameras, more = map_photos(photos.photos, progress)
        photos = photos.select([view for view, photo in enumerate(photos.photos) if photo.path in cameras])
        notes += more
    if cameras is not None:
        photos, poses, intrinsics = pose_photos(photos, cameras)
        poses, intrinsics = poses.to(device), intrinsics.to(device)
        bent = sum(photo.lens is not None for photo in photos.photos)
        notes += [f"lens distortion undone in {bent} of {len(photos.photos)} photos"] if bent else []
    mask, full = (None if each is None else each.to(device) for each in (photos.mask, photos.full_images))
    return photos, GivenPhotos(photos.images.to(device), intrinsics, poses, mask, full, args.refine_cameras), notes


def registration_notes(registered: Registered, names: list[str], fixed: bool) -> list[str]:
    """A note on photos that do not fit the others."""
    apart = [
        f"{shown(name)} ({each.score:.2f})"
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
        "matched": round(median(each.matched for each in kept), 3) if len(kept) > 1 else None,
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
        matched = "one photo" if facts["matched"] is None else f"{facts['matched']:.0%} of patches matched{error}"
        lines.append(f"cameras {facts['cameras']}: {matched}")
    if facts["unit"] == "that of the cameras":
        lines[-1] += f"; a unit of predicted depth is {facts['depth_unit']:.3g} of theirs"
    elif facts["unit"] == "relative" and facts["cameras"] != "predicted":
        lines[-1] += "; lengths are not in their unit, which takes photos from several places"
    if changes := facts.get("camera_changes"):
        turned, moved = (max(change[name] for change in changes) for name in ("degrees", "distance"))
        lines.append(f"refined by up to {turned:.2g} degrees and {moved:.2g} units")
    if "scale_between" in facts:
        lines.append(f"scaled by {facts['scale_between']['factor']:.4g} to metres")
    return "".join(f"\n{line}" for line in lines)
