"""`tokengroups reconstruct`: photos of a room to a scene file."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from tokengroups.cli import cost
from tokengroups.cli import known_cameras as known
from tokengroups.cli import photos as photo_options
from tokengroups.cli.arguments import (
    add_embed_option,
    add_model_options,
    add_number,
    adjust_model,
    load_model_and_steps,
    pick_device,
)
from tokengroups.cli.output import print_summary, scene_summary
from tokengroups.errors import UserError
from tokengroups.reading import shown

HELP = "make a scene of token groups from a few photos of a room; no cameras needed"
EXAMPLES = """\
  tokengroups reconstruct photos/ -o scene.safetensors
  tokengroups reconstruct photos/ -o scene.safetensors --focal exif
  tokengroups reconstruct photos/ -o scene.safetensors --postprocess none      # the fastest
  tokengroups reconstruct photos/ -o scene.safetensors --cameras sparse/0/     # in COLMAP's world and unit
  tokengroups reconstruct photos/ -o scene.safetensors --poses colmap          # COLMAP first; needs the extra `colmap`
  tokengroups reconstruct photos/ -o scene.safetensors --scale-between 120,340 410,338 2.05    # in metres
  tokengroups reconstruct left.jpg right.jpg -o scene.safetensors --weights my_weights/ --json
  tokengroups reconstruct photos/ -o scene.safetensors --embed clip-vit-base-patch16/      # then query by any text
  tokengroups reconstruct photos/ -o scene.safetensors --weights iggt_tiny --max-gaussians 50000
"""
MAX_GAUSSIANS = 20_000_000  # bound of `CellGaussiansConfig.max_gaussians`


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    photo_options.add_photos(parser)
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write")
    photo_options.add_photo_options(parser, max_views=16)
    known.add_camera_options(parser)
    add_model_options(parser)
    add_embed_option(parser)
    budget_help = "at most N Gaussians, of a system with one per cell of pixels, such as iggt_tiny"
    add_number(parser, "--max-gaussians", 1, MAX_GAUSSIANS, metavar="N", help=budget_help)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> None:
    """Load photos and weights, reconstruct, write the scene."""
    from tokengroups.io.files import check_writable
    from tokengroups.retrieval import embed_reconstruction
    from tokengroups.scene import save_scene
    from tokengroups.segmentation import NOTHING_FOUND
    from tokengroups.systems import begin_registered, registration_facts
    from tokengroups.text import load_dense_encoder

    check_writable(args.out)
    known.check_options(args)
    length = known.parse_length(args.scale_between)
    device = pick_device(args.device)
    model, steps = load_model_and_steps(args, device)
    encoder = None if args.embed is None else load_dense_encoder(args.embed)
    adjusted = adjust_model(model, args.weights, max_gaussians=args.max_gaussians)
    photos, given, notes = known.load_given(args, model, device)
    places = known.find_places(photos, length)
    _check_budget(args.max_gaussians, len(photos.photos))
    cost.announce(model, len(photos.photos), (photos.images.shape[-2], photos.images.shape[-1]), device)
    start = time.perf_counter()
    registered = begin_registered(model, given, steps, args.seed, args.keep_all)
    names = [photo.path.name for photo in photos.photos]
    notes += known.registration_notes(registered, [shown(name) for name in names], given.cam_from_world is not None)
    photos = photos.select(registered.kept)
    made = model.complete(registered.draft, steps)
    made = made if length is None else known.apply_length(made, registered.kept, length, places)
    notes += [NOTHING_FOUND] if made.photo_groups is not None and len(made.photo_groups.scores) == 0 else []
    scene = made.scene if encoder is None else embed_reconstruction(made, photos.images, encoder).scene
    seconds = time.perf_counter() - start
    origin = photo_options.origin(args, photos, adjusted) | ({} if args.poses is None else {"poses": args.poses})
    origin["registration"] = registration_facts(registered, names)
    scene = replace(scene, provenance={**scene.provenance, **origin})
    save_scene(args.out, scene)
    summary = scene_summary(args.out, scene, [str(photo.path) for photo in photos.photos], notes, seconds)
    summary["postprocess"] = [step["name"] for step in scene.provenance["postprocess"]]
    summary["peak_memory_gb"] = peak = cost.peak_gb(device)
    summary["geometry"] = facts = known.report(made, registered)
    memory = "" if peak is None else f", at most {peak:.1f} GB of memory"
    print_summary(summary, args.json, memory + known.report_lines(facts))


def _check_budget(max_gaussians: int | None, num_photos: int) -> None:
    """Refuse fewer Gaussians than photos: a cell is no larger than its photo."""
    if max_gaussians is not None and max_gaussians < num_photos:
        raise UserError(f"--max-gaussians {max_gaussians}: {num_photos} photos have at least {num_photos} Gaussians")
