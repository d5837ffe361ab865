"""`tokengroups reconstruct`: photos of a room to a scene file."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.postprocess import Reconstruction, Step
    from tokengroups.systems import SceneSystem

HELP = "make a scene of token groups from a few photos of a room; no cameras needed"
EXAMPLES = """\
  tokengroups reconstruct photos/ -o scene.safetensors
  tokengroups reconstruct photos/ -o scene.safetensors --focal exif
  tokengroups reconstruct photos/ -o scene.safetensors --postprocess none      # the fastest
  tokengroups reconstruct left.jpg right.jpg -o scene.safetensors --weights my_weights/ --json
  tokengroups reconstruct photos/ -o scene.safetensors --embed clip-vit-base-patch16/      # then query by any text
  tokengroups reconstruct photos/ -o scene.safetensors --weights iggt_tiny --max-gaussians 50000
  tokengroups reconstruct photos/ -o scene.safetensors --max-views 64 --fast   # approximate attention, recorded
"""
MAX_GAUSSIANS = 20_000_000  # bound of `CellGaussiansConfig.max_gaussians`


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    photo_options.add_photos(parser)
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write")
    photo_options.add_photo_options(parser, max_views=16)
    add_model_options(parser)
    add_embed_option(parser)
    budget_help = "at most N Gaussians, of a system with one per cell of pixels, such as iggt_tiny"
    add_number(parser, "--max-gaussians", 1, MAX_GAUSSIANS, metavar="N", help=budget_help)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> None:
    """Load photos and weights, reconstruct, write the scene."""
    from tokengroups.io.files import check_writable
    from tokengroups.io.images import find_photos
    from tokengroups.retrieval import embed_reconstruction
    from tokengroups.scene import save_scene
    from tokengroups.segmentation import NOTHING_FOUND, unrelated_notes
    from tokengroups.text import load_dense_encoder

    check_writable(args.out)
    device = pick_device(args.device)
    model, steps = load_model_and_steps(args, device)
    encoder = None if args.embed is None else load_dense_encoder(args.embed)
    adjusted = adjust_model(model, args.weights, max_gaussians=args.max_gaussians)
    photos, intrinsics, notes = photo_options.load(args, find_photos(args.photos), model, device)
    _check_budget(args.max_gaussians, len(photos.photos))
    start = time.perf_counter()
    made, unrelated = _predict(model, photos.images.to(device), intrinsics, steps, args.seed)
    notes += unrelated_notes(unrelated, [shown(photo.path.name) for photo in photos.photos])
    notes += [NOTHING_FOUND] if made.photo_groups is not None and len(made.photo_groups.scores) == 0 else []
    scene = made.scene if encoder is None else embed_reconstruction(made, photos.images, encoder).scene
    seconds = time.perf_counter() - start
    origin = photo_options.origin(args, photos, adjusted)
    scene = replace(scene, provenance={**scene.provenance, **origin})
    save_scene(args.out, scene)
    summary = scene_summary(args.out, scene, [str(photo.path) for photo in photos.photos], notes, seconds)
    summary["postprocess"] = [step["name"] for step in scene.provenance["postprocess"]]
    print_summary(summary, args.json)


def _predict(
    model: SceneSystem, images: Tensor, intrinsics: Tensor | None, steps: tuple[Step, ...], seed: int | None
) -> tuple[Reconstruction, tuple[int, ...]]:
    """What `SceneSystem.predict` returns, and the photos that hardly match the others."""
    import torch

    from tokengroups.postprocess import run_steps
    from tokengroups.postprocess.mutual_matches import unrelated_photos

    with torch.no_grad():
        draft = model.begin(images, intrinsics, steps, seed)
        unrelated = unrelated_photos(draft.geometry)
        return model.complete(run_steps(draft, steps, "before_decoding"), steps), unrelated


def _check_budget(max_gaussians: int | None, num_photos: int) -> None:
    """Refuse fewer Gaussians than photos: a cell is no larger than its photo."""
    if max_gaussians is not None and max_gaussians < num_photos:
        raise UserError(f"--max-gaussians {max_gaussians}: {num_photos} photos have at least {num_photos} Gaussians")
