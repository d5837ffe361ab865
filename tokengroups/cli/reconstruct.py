"""`tokengroups reconstruct`: photos of a room to a scene file."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.devices import add_device_option, pick_device
from tokengroups.cli.output import print_json
from tokengroups.cli.postprocess import add_postprocess_option, pick_steps

if TYPE_CHECKING:
    from tokengroups.io.images import Photos
    from tokengroups.types import TokenScene

HELP = "make a scene of token groups from a few photos of a room; no cameras needed"
EXAMPLES = """\
  tokengroups reconstruct photos/ -o scene.safetensors
  tokengroups reconstruct photos/ -o scene.safetensors --focal exif
  tokengroups reconstruct photos/ -o scene.safetensors --postprocess none      # as decoded: the fastest
  tokengroups reconstruct left.jpg right.jpg -o scene.safetensors --weights my_weights/ --json
"""
DEFAULT_MAX_VIEWS = 16
EXIF = "exif"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "photos", nargs="*", metavar="PHOTO|DIR", help="photo files, or a folder of them; first = world"
    )
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write")
    parser.add_argument("--weights", metavar="NAME|DIR", help="shipped name or weight folder (token_groups_tiny)")
    parser.add_argument("--size", type=int, metavar="PX", help="side the photos are resized to (the weights' own)")
    parser.add_argument(
        "--max-views", type=int, default=DEFAULT_MAX_VIEWS, metavar="N", help="use at most N photos (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help="start the anchor sampling elsewhere; same seed, same scene")
    parser.add_argument(
        "--focal",
        type=_focal,
        metavar="PX|exif",
        help="focal length of all photos in their pixels, or 'exif' to read it from each; far better scenes than "
        "with a predicted one",
    )
    add_postprocess_option(parser)
    add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> None:
    """Load photos and weights, reconstruct, write the scene."""
    from tokengroups.io.files import check_writable
    from tokengroups.io.focal import exif_focal_px, photo_intrinsics
    from tokengroups.io.images import load_photos
    from tokengroups.scene import save_scene
    from tokengroups.systems import DEFAULT_WEIGHTS, load_model

    check_writable(args.out)
    weights = args.weights or DEFAULT_WEIGHTS
    device = pick_device(args.device)
    model = load_model(weights).to(device)
    steps = pick_steps(args.postprocess, model)
    photos = load_photos(
        args.photos, args.size or model.image_size, patch_size=model.size_multiple, max_views=args.max_views
    )
    intrinsics = None
    notes = photos.messages()
    if args.focal is None and all(exif_focal_px(photo) is not None for photo in photos.photos):
        notes.append("the photos' EXIF data tell their focal length: --focal exif makes a better scene")
    elif args.focal is not None:
        intrinsics = photo_intrinsics(photos, None if args.focal == EXIF else args.focal).to(device)
    start = time.perf_counter()
    images = photos.images.to(device)
    scene = model.reconstruct(images, intrinsics, postprocess=steps, fps_start=args.seed)
    seconds = time.perf_counter() - start
    scene = replace(scene, provenance={**scene.provenance, **_origin(weights, photos)})
    save_scene(args.out, scene)
    summary = _summary(args.out, scene, photos, notes, seconds)
    if args.json:
        print_json(summary)
    else:
        print(_as_text(summary))


def _focal(text: str) -> float | str:
    """A number of pixels, or the word that stands for the photos' own."""
    if text.lower() == EXIF:
        return EXIF
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number of pixels nor 'exif'") from None


def _origin(weights: str, photos: Photos) -> dict[str, Any]:
    """What the scene was made from; file names only, so that a shared scene tells nothing about the disk."""
    return {
        "weights": Path(weights).name,
        "photos": [
            {"name": photo.path.name, "size_hw": list(photo.size_hw), "crop_box": list(photo.crop_box)}
            for photo in photos.photos
        ],
    }


def _summary(output: Path, scene: TokenScene, photos: Photos, notes: list[str], seconds: float) -> dict[str, Any]:
    return {
        "scene": str(output),
        "photos": [str(photo.path) for photo in photos.photos],
        "notes": notes,
        "size_hw": list(scene.cameras.size_hw),
        "num_groups": len(scene.group_ids),
        "num_gaussians": len(scene.gaussians.means),
        "postprocess": [step["name"] for step in scene.provenance["postprocess"]],
        "seconds": round(seconds, 3),
    }


def _as_text(summary: dict[str, Any]) -> str:
    height, width = summary["size_hw"]
    return "\n".join(
        [
            *summary["notes"],
            f"{len(summary['photos'])} photos at {width}x{height} -> {summary['num_groups']} groups, "
            f"{summary['num_gaussians']} Gaussians in {summary['seconds']:.2f} s",
            f"wrote {summary['scene']}; next: tokengroups list {summary['scene']}",
        ]
    )
