"""`tokengroups reconstruct`: photos of a room to a scene file."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from tokengroups.cli.arguments import (
    MAX_COUNT,
    MAX_SIZE_PX,
    add_embed_option,
    add_megapixels_option,
    add_model_options,
    add_number,
    load_model_and_steps,
    pick_device,
)
from tokengroups.cli.output import counted, print_summary, scene_summary
from tokengroups.errors import UserError

HELP = "make a scene of token groups from a few photos of a room; no cameras needed"
EXAMPLES = """\
  tokengroups reconstruct photos/ -o scene.safetensors
  tokengroups reconstruct photos/ -o scene.safetensors --focal exif
  tokengroups reconstruct photos/ -o scene.safetensors --postprocess none      # the fastest
  tokengroups reconstruct left.jpg right.jpg -o scene.safetensors --weights my_weights/ --json
  tokengroups reconstruct photos/ -o scene.safetensors --embed clip-vit-base-patch16/      # then query by any text
"""
EXIF = "exif"
MAX_PIXELS = 48  # of all photos, resized, in units of one photo at the weights' own size; memory grows with the square


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add, add_limited = parser.add_argument, partial(add_number, parser)
    add("photos", nargs="*", metavar="PHOTO|DIR", help="photo files, or a folder of them; the first is the world")
    add("-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write")
    add_limited("--size", 1, MAX_SIZE_PX, metavar="PX", help="side the photos are resized to (the weights' own)")
    add_limited("--max-views", 1, MAX_COUNT, default=16, metavar="N", help="use at most N photos (%(default)s)")
    add_megapixels_option(parser)
    seed_help = "start the anchor sampling elsewhere; the same seed gives the same scene"
    add_limited("--seed", 0, metavar="S", help=seed_help)
    focal_help = """focal length of all photos in their pixels, or 'exif' to read it from each; makes far better
        scenes than a predicted one"""
    add("--focal", type=_focal, metavar="PX|exif", help=focal_help)
    add_model_options(parser)
    add_embed_option(parser)
    add("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> None:
    """Load photos and weights, reconstruct, write the scene."""
    from tokengroups.io.files import check_writable
    from tokengroups.io.focal import exif_focal_px, photo_intrinsics
    from tokengroups.io.images import find_photos, load_photos
    from tokengroups.retrieval import embed_reconstruction
    from tokengroups.scene import save_scene
    from tokengroups.text import load_dense_encoder

    check_writable(args.out)
    device = pick_device(args.device)
    model, steps = load_model_and_steps(args, device)
    encoder = None if args.embed is None else load_dense_encoder(args.embed)
    size = args.size or model.image_size
    _check_size(size, min(len(find_photos(args.photos)), args.max_views), model.image_size)
    limits = {"max_views": args.max_views, "max_megapixels": args.max_megapixels}
    photos = load_photos(args.photos, size, patch_size=model.size_multiple, **limits)
    intrinsics, notes = None, photos.messages()
    if args.focal is not None:
        intrinsics = photo_intrinsics(photos, None if args.focal == EXIF else args.focal).to(device)
    elif all(exif_focal_px(photo) is not None for photo in photos.photos):
        notes.append("the photos' EXIF data give their focal length: --focal exif makes a better scene")
    start = time.perf_counter()
    made = model.predict(photos.images.to(device), intrinsics, postprocess=steps, fps_start=args.seed)
    scene = made.scene if encoder is None else embed_reconstruction(made, photos.images, encoder).scene
    seconds = time.perf_counter() - start
    origin = {  # file names only: a shared scene does not reveal the folders of this disk
        "weights": Path(args.weights).name,
        "photos": [
            {"name": photo.path.name, "size_hw": list(photo.size_hw), "crop_box": list(photo.crop_box)}
            for photo in photos.photos
        ],
    }
    scene = replace(scene, provenance={**scene.provenance, **origin})
    save_scene(args.out, scene)
    summary = scene_summary(args.out, scene, [str(photo.path) for photo in photos.photos], notes, seconds)
    summary["postprocess"] = [step["name"] for step in scene.provenance["postprocess"]]
    print_summary(summary, args.json)


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
