"""`tokengroups reconstruct`: photos of a room to a scene file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli import cost, known_length
from tokengroups.cli import known_cameras as known
from tokengroups.cli import photos as photo_options
from tokengroups.cli.arguments import (
    add_embed_option,
    add_model_options,
    add_number,
    adjust_model,
    load_model_and_steps,
    pick_device,
    with_budget,
)
from tokengroups.cli.output import print_summary, scene_summary
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from tokengroups.io.posed_cameras import PosedCamera
    from tokengroups.postprocess import Step
    from tokengroups.systems import SceneSystem
    from tokengroups.text import DenseEncoder

HELP = "make a scene of token groups from a few photos of a room; no cameras needed"
EXAMPLES = """\
  tokengroups reconstruct photos/ -o scene.safetensors
  tokengroups reconstruct photos/ -o scene.safetensors --focal exif
  tokengroups reconstruct photos/ -o scene.safetensors --postprocess none      # the fastest
  tokengroups reconstruct photos/ -o scene.safetensors --cameras sparse/0/     # in COLMAP's world and unit
  tokengroups reconstruct photos/ -o scene.safetensors --poses colmap          # COLMAP first; needs the extra `colmap`
  tokengroups reconstruct photos/ -o scene.safetensors --scale-between 120,340 410,338 2.05    # in metres
  tokengroups reconstruct room.mp4 -o scene.safetensors --frames sharp         # frames are kept in scene_frames/
  tokengroups reconstruct photos/ -o scene.safetensors --ignore people/        # masks of who walked through: 0
  tokengroups reconstruct left.jpg right.jpg -o scene.safetensors --weights my_weights/ --json
  tokengroups reconstruct photos/ -o scene.safetensors --embed clip-vit-base-patch16/      # then query by any text
  tokengroups reconstruct photos/ -o scene.safetensors --weights iggt_tiny --max-gaussians 50000
  tokengroups reconstruct photos/ -o scene.safetensors --max-views 64 --fast   # approximate attention, recorded
  tokengroups reconstruct --batch rooms/ -o scenes/                            # every folder in it; run again: goes on
  torchrun --nproc_per_node 2 -m tokengroups reconstruct --batch rooms.txt -o scenes/     # or accelerate launch -m

batch:    a scene for every folder of photos (or of videos), video, or line of a text file: DIR/NAME.safetensors;
          scenes that exist are skipped, a failure does not stop the others and makes the exit code 1;
          DIR/results.jsonl has a line a scene: name, output, seconds, photos, groups, gaussians, notes, or the error"""
MAX_GAUSSIANS = 20_000_000  # bound of `CellGaussiansConfig.max_gaussians`


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    photo_options.add_photos(parser)
    batch_help = "make a scene of each folder, video, or line of a list, in the folder that -o names"
    parser.add_argument("--batch", nargs="+", default=[], metavar="DIR|LIST", help=batch_help)
    parser.add_argument(
        "-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write; a folder with --batch"
    )
    photo_options.add_photo_options(parser, max_views=16)
    known.add_camera_options(parser)
    add_model_options(parser)
    add_embed_option(parser)
    budget_help = "at most N Gaussians: of the step densify, and of systems with one per cell of pixels (300000)"
    add_number(parser, "--max-gaussians", 1, MAX_GAUSSIANS, metavar="N", help=budget_help)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


@dataclass(frozen=True)
class _Tools:
    """What all scenes of a command share."""

    model: SceneSystem
    steps: tuple[Step, ...]
    encoder: DenseEncoder | None
    adjusted: dict[str, Any]
    device: str


def run(args: argparse.Namespace) -> int | None:
    """Load weights, reconstruct one scene or a batch."""
    from tokengroups.io.files import check_scene_name

    known.check_options(args)
    if args.batch:
        return _run_batch(args)
    check_scene_name(args.out)
    with known.given_photos(args, _frames_of(args.out)) as (paths, cameras, notes):
        summary = _make(args, _load(args, pick_device(args.device)), paths, notes, args.out, cameras)
    peak = summary["peak_memory_gb"]
    memory = "" if peak is None else f", at most {peak:.1f} GB of memory"
    print_summary(summary, args.json, memory + known.report_lines(summary["geometry"]))
    return None


def _run_batch(args: argparse.Namespace) -> int:
    """Reconstruct the scenes of this process's share."""
    from tokengroups.cli.batch import check_masks, find_scenes, run_batch
    from tokengroups.io.files import check_folder, make_folder
    from tokengroups.training.shares import join_processes

    if args.photos:
        raise UserError("--batch names all scenes itself; leave the other photos out")
    scenes = find_scenes(args.batch, check_folder(args.out))
    if args.ignore is not None:
        check_masks(scenes, args.ignore)
    processes = join_processes(pick_device(args.device))
    tools = _load(args, processes.device)

    def make(source: str, out: Path) -> dict[str, Any]:
        with photo_options.given_photos(args, [source], _frames_of(out), videos_elsewhere=True) as (paths, notes):
            return _make(args, tools, paths, notes, out)

    return run_batch(scenes, make_folder(args.out), make, processes, args.json)


def _frames_of(out: Path) -> Path:
    """Folder for frames of videos, beside the scene."""
    return out.with_name(f"{out.stem}_frames")


def _load(args: argparse.Namespace, device: str) -> _Tools:
    from tokengroups.text import load_dense_encoder

    model, steps = load_model_and_steps(args, device)
    encoder = None if args.embed is None else load_dense_encoder(args.embed)
    steps, kept_to = with_budget(steps, args.max_gaussians)
    if kept_to and "max_gaussians" not in model.adjustable:
        return _Tools(model, steps, encoder, {"max_gaussians": args.max_gaussians}, device)
    return _Tools(model, steps, encoder, adjust_model(model, args.weights, max_gaussians=args.max_gaussians), device)


def _make(
    args: argparse.Namespace,
    tools: _Tools,
    paths: list[Path],
    notes: list[str],
    out: Path,
    cameras: Mapping[Path, PosedCamera] | None = None,
) -> dict[str, Any]:
    """Load photos, reconstruct, write the scene; returns its summary."""
    from tokengroups.retrieval import embed_reconstruction
    from tokengroups.scene import save_scene
    from tokengroups.segmentation import NOTHING_FOUND
    from tokengroups.systems import begin_registered, registration_facts

    model, device = tools.model, tools.device
    photos, given, more = known.load_given(args, paths, cameras, model, device)
    places = known_length.find_places(photos, args.scale_between)
    _check_budget(args.max_gaussians, len(photos.photos))
    cost.announce(model, len(photos.photos), (photos.images.shape[-2], photos.images.shape[-1]), device)
    start = time.perf_counter()
    found = begin_registered(model, given, tools.steps, args.seed, args.keep_all)
    names, photos = [photo.path.name for photo in photos.photos], photos.select(found.kept)
    notes = [*notes, *more, *known.registration_notes(found, names, given.cam_from_world is not None)]
    made = known_length.apply_length(model.complete(found.draft, tools.steps), found.kept, args.scale_between, places)
    notes += [NOTHING_FOUND] if made.photo_groups is not None and len(made.photo_groups.scores) == 0 else []
    count = len(made.scene.gaussians.means)
    if args.max_gaussians is not None and count > args.max_gaussians:
        notes.append(f"--max-gaussians {args.max_gaussians}: the anchors alone have {count:,} Gaussians")
    scene = made.scene if tools.encoder is None else embed_reconstruction(made, photos.images, tools.encoder).scene
    seconds = time.perf_counter() - start
    origin = photo_options.origin(args, photos, tools.adjusted) | ({} if args.poses is None else {"poses": args.poses})
    origin["registration"] = registration_facts(found, names)
    scene = replace(scene, provenance={**scene.provenance, **origin})
    save_scene(out, scene)
    summary = scene_summary(out, scene, [str(photo.path) for photo in photos.photos], notes, seconds)
    summary["postprocess"] = [step["name"] for step in scene.provenance["postprocess"]]
    summary["geometry"] = known.report(made, found)
    summary["peak_memory_gb"] = cost.peak_gb(device)
    return summary


def _check_budget(max_gaussians: int | None, num_photos: int) -> None:
    """Refuse fewer Gaussians than photos: a cell is no larger than its photo."""
    if max_gaussians is not None and max_gaussians < num_photos:
        raise UserError(f"--max-gaussians {max_gaussians}: {num_photos} photos have at least {num_photos} Gaussians")
