"""`tokengroups evaluate`: held-out numbers of a model, with the protocol that they stand for."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli import text
from tokengroups.cli.devices import add_device_option, pick_device
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.evaluation.protocol import EvaluationData
    from tokengroups.evaluation.scenes import EvaluationScene
    from tokengroups.evaluation.semantic import SemanticEvaluation
    from tokengroups.losses.perceptual import Lpips
    from tokengroups.systems import Reconstruction

    Loader = Callable[[], EvaluationScene]

HELP = "measure a model on rooms it has not seen: views, groups, geometry and meaning"
EXAMPLES = """\
  tokengroups evaluate --data procedural --seed 1 --num-scenes 16 --json out.json
  tokengroups evaluate --data scans/ --views 2 --frame-step 10 --weights my_weights/
  tokengroups evaluate --weights my_weights/ --vocabulary "wall, floor, chair, table, other"
"""
PROCEDURAL = "procedural"
DEFAULT_NUM_SCENES = 16


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add(
        "--data",
        default=PROCEDURAL,
        metavar="NAME|DIR",
        help="'procedural', or a folder of scenes in ScanNet's exported-frames layout (%(default)s)",
    )
    add("--split", choices=("test", "train"), default="test", help="procedural rooms only (%(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="which procedural rooms (%(default)s)")
    add("--num-scenes", type=int, metavar="N", help=f"procedural: {DEFAULT_NUM_SCENES}; folder: all")
    add("--views", type=int, default=2, metavar="N", help="photos per scene, of 2N + 1 frames (%(default)s)")
    add("--frame-step", type=int, default=1, metavar="K", help="folder: take every K-th frame (%(default)s)")
    add(
        "--known-intrinsics",
        action="store_true",
        help="tell the model the photos' focal lengths, never poses",
    )
    add("--size", type=int, metavar="PX", help="side of the square images (the weights' own)")
    add("--weights", metavar="NAME|DIR", help="shipped name or weight folder (token_groups_tiny)")
    add_device_option(parser)
    add(
        "--lpips-weights", type=Path, metavar="FILE", help="torchvision's vgg16 .pth; without it LPIPS is '-'"
    )
    add(
        "--vocabulary",
        metavar="NAMES",
        help="weights with semantics: class names with commas between, one of them for every pixel; "
        "'other' stands for all classes not listed (procedural: all classes; folder: LSM's eight)",
    )
    text.add_text_encoder_option(parser)
    add("--json", type=Path, metavar="FILE", help="also write all numbers, and those of each scene")


def run(args: argparse.Namespace) -> None:
    """Evaluate, print the table, write the JSON."""
    from tqdm import tqdm

    from tokengroups.evaluation.evaluate import evaluate_scenes
    from tokengroups.evaluation.report import format_report
    from tokengroups.io.files import check_writable, write_text
    from tokengroups.systems.weights import DEFAULT_WEIGHTS, load_model

    _check_numbers(args)
    if args.json is not None:
        check_writable(args.json)
    weights = args.weights or DEFAULT_WEIGHTS
    device = pick_device(args.device)
    perceptual = _perceptual(args.lpips_weights, device)
    model = load_model(weights).to(device)
    semantics = _semantics(args, model.decoder.config.text_encoder)
    size = _size(args.size or model.image_size, model.size_multiple)
    data, loaders = _procedural(args, size) if args.data == PROCEDURAL else _folder(args, size)

    def predict(photos: Tensor, intrinsics: Tensor | None = None) -> Reconstruction:
        known = None if intrinsics is None else intrinsics.to(device)
        return model.predict(photos.to(device), intrinsics=known)

    progress = tqdm(loaders, desc="evaluate", unit="scene", file=sys.stderr, leave=False)
    result = evaluate_scenes(
        predict,
        (load() for load in progress),
        data,
        Path(weights).name,
        perceptual,
        semantics,
    )
    print(format_report(result))
    if args.json is not None:
        write_text(args.json, json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n")
        print(f"\nwrote {args.json}")


def _check_numbers(args: argparse.Namespace) -> None:
    lowest = {"views": 1, "frame_step": 1, "num_scenes": 1, "seed": 0, "size": 16}
    for name, least in lowest.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be at least {least}")


def _size(size: int, multiple: int) -> int:
    if size % multiple:
        raise UserError(f"--size {size}: the model sees patches of {multiple} pixels; use a multiple of that")
    return size


def _perceptual(weights: Path | None, device: str) -> Lpips | None:
    from tokengroups.losses.perceptual import Lpips

    return None if weights is None else Lpips("vgg", weights).to(device)


def _semantics(args: argparse.Namespace, encoder_name: str) -> SemanticEvaluation | None:
    """What meaning is measured with; None, with a note, where it cannot be and nobody chose an encoder."""
    from tokengroups.data.procedural.generate import CLASS_NAMES
    from tokengroups.evaluation.semantic import LSM_CLASSES, SemanticEvaluation

    vocabulary = CLASS_NAMES if args.data == PROCEDURAL else LSM_CLASSES
    if args.vocabulary is not None:
        vocabulary = tuple(text.parse_vocabulary(args.vocabulary))
    if not encoder_name:
        if args.vocabulary is not None or args.text_encoder is not None:
            _note("the weights have no semantics: --vocabulary and --text-encoder change nothing")
        return None
    try:
        return SemanticEvaluation(text.load_encoder_for(encoder_name, args.text_encoder), vocabulary)
    except UserError as error:
        if args.text_encoder is not None:
            raise
        _note(f"meaning is not measured: {error}")
        return None


def _note(message: str) -> None:
    print(f"note: {message}", file=sys.stderr)


def _procedural(args: argparse.Namespace, size: int) -> tuple[EvaluationData, list[Loader]]:
    from tokengroups.data.procedural.generate import generate_room
    from tokengroups.evaluation.protocol import EvaluationData
    from tokengroups.evaluation.scenes import evaluation_scene

    data = EvaluationData(
        PROCEDURAL, args.views, args.split, args.seed, known_intrinsics=args.known_intrinsics
    )

    def load(index: int) -> EvaluationScene:
        frames = generate_room(args.seed, index, args.split, num_views=2 * args.views + 1, size=size)
        return evaluation_scene(frames, data, size)

    return data, [partial(load, index) for index in range(args.num_scenes or DEFAULT_NUM_SCENES)]


def _folder(args: argparse.Namespace, size: int) -> tuple[EvaluationData, list[Loader]]:
    from tokengroups.data.readers.scannet import find_scenes, read_scannet
    from tokengroups.evaluation.protocol import EvaluationData
    from tokengroups.evaluation.scenes import evaluation_scene

    data = EvaluationData(
        Path(args.data).name,
        args.views,
        frame_step=args.frame_step,
        known_intrinsics=args.known_intrinsics,
    )

    def load(folder: Path) -> EvaluationScene:
        return evaluation_scene(read_scannet(folder, data.frames), data, size)

    return data, [partial(load, folder) for folder in find_scenes(Path(args.data))[: args.num_scenes]]
