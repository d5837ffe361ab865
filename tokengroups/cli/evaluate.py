"""`tokengroups evaluate`: measure a model on held-out scenes; print the numbers with their protocol."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli import text
from tokengroups.cli.arguments import (
    MAX_COUNT,
    MAX_SIZE_PX,
    add_embed_option,
    add_model_options,
    add_number,
    check_room_size,
    load_model_and_steps,
    pick_device,
)
from tokengroups.cli.output import note, progress, say
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.data.base import Dataset
    from tokengroups.data.example import FramePlan
    from tokengroups.evaluation.semantic import SemanticEvaluation
    from tokengroups.postprocess import Reconstruction
    from tokengroups.text import DenseEncoder

HELP = "measure a model on held-out scenes: views, groups, geometry and semantics"
EXAMPLES = """\
  tokengroups evaluate --data procedural --seed 1 --num-scenes 16 --json out.json
  tokengroups evaluate --data scans/ --views 2 --frame-step 10 --weights my_weights/
  tokengroups evaluate --data my_rooms:MyRooms --root rooms/ --split val
  tokengroups evaluate --weights my_weights/ --vocabulary "wall, floor, chair, table, other"
  tokengroups evaluate --embed clip-vit-base-patch16/ --json out.json
"""
PROCEDURAL, ALL = "procedural", "all"
DEFAULT_NUM_SCENES = 16
MAX_VIEWS = 1000
DATA_HELP = """'procedural', a folder of scenes in ScanNet's exported-frames layout, or package.module:Class, a data
set of your own (%(default)s)"""
VOCABULARY_HELP = """class names with commas between, one of them for every pixel; 'other' is all classes not listed
(default: those of the data set; folder: LSM's eight)"""
METRIC_HELP = "also measure a metric of your own; see tokengroups.evaluation.metrics (may be repeated)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add, add_limited = parser.add_argument, partial(add_number, parser)
    add("--data", default=PROCEDURAL, metavar="NAME|DIR", help=DATA_HELP)
    add("--root", metavar="DIR", help="package.module:Class: its folder")
    split_help = f"which scenes: 'test', 'val' or 'train', or '{ALL}' (test if the data set has it, else val)"
    add("--split", metavar="NAME", help=split_help)
    add_limited("--seed", 0, default=0, metavar="S", help="which procedural rooms (%(default)s)")
    num_scenes_help = f"procedural: {DEFAULT_NUM_SCENES}; else all of the split"
    add_limited("--num-scenes", 1, MAX_COUNT, metavar="N", help=num_scenes_help)
    add_limited(
        "--views", 1, MAX_VIEWS, default=2, metavar="N", help="photos per scene, of 2N + 1 frames (%(default)s)"
    )
    add_limited("--frame-step", 1, MAX_COUNT, default=1, metavar="K", help="take every K-th frame (%(default)s)")
    add("--given-intrinsics", action="store_true", help="give the model the photos' intrinsics, never their poses")
    add("--known-intrinsics", action="store_true", dest="given_intrinsics", help=argparse.SUPPRESS)  # its old name
    add_limited("--size", 16, MAX_SIZE_PX, metavar="PX", help="side of the square images (the weights' own)")
    add_model_options(parser)
    add_embed_option(parser)
    add("--lpips-weights", type=Path, metavar="FILE", help="torchvision's vgg16 .pth; without it LPIPS is '-'")
    add("--vocabulary", metavar="NAMES", help=VOCABULARY_HELP)
    text.add_text_encoder_option(parser)
    add("--metric", action="append", default=[], metavar="MODULE:FUNCTION", help=METRIC_HELP)
    add("--json", type=Path, metavar="FILE", help="also write all numbers, and those of each scene")


def run(args: argparse.Namespace) -> None:
    """Evaluate, print the table, write the JSON."""
    from tokengroups.data.example import FramePlan, cut_example
    from tokengroups.evaluation.evaluate import evaluate_scenes
    from tokengroups.evaluation.metrics import load_metrics
    from tokengroups.evaluation.protocol import EvaluationData
    from tokengroups.evaluation.report import format_report
    from tokengroups.io.files import check_writable, write_text
    from tokengroups.losses.perceptual import Lpips
    from tokengroups.retrieval import embed_reconstruction

    if args.json is not None:
        check_writable(args.json)
    metrics = load_metrics(args.metric)
    device = pick_device(args.device)
    perceptual = None if args.lpips_weights is None else Lpips("vgg", args.lpips_weights).to(device)
    model, steps = load_model_and_steps(args, device)
    size = args.size or model.image_size
    if size % model.size_multiple:
        raise UserError(f"--size {size}: the model's patches have {model.size_multiple} pixels; use a multiple of that")
    plan = FramePlan(args.views, args.frame_step)
    dataset = _open(args, plan, size)
    semantics, encoder = _semantics(args, model.text_encoder, dataset.class_names)
    split, scenes = _choose_scenes(args, dataset)
    seed = args.seed if args.data == PROCEDURAL and split != "val" else None
    data = EvaluationData(Path(args.data).name, plan, split, seed, args.given_intrinsics)

    def predict(photos: Tensor, intrinsics: Tensor | None = None) -> Reconstruction:
        given = None if intrinsics is None else intrinsics.to(device)
        made = model.predict(photos.to(device), given, postprocess=steps)
        return made if encoder is None else embed_reconstruction(made, photos, encoder)

    examples = (cut_example(dataset[i], plan, size) for i in progress(scenes, len(scenes), "evaluating"))
    name = Path(args.weights).name + (" --fast" if args.fast else "")
    result = evaluate_scenes(predict, examples, data, name, perceptual, semantics, metrics)
    if args.json is not None:
        write_text(args.json, json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n")
    for line in format_report(result).split("\n"):
        say(line)
    if args.json is not None:
        say()
        say(f"wrote {args.json}")


def _open(args: argparse.Namespace, plan: FramePlan, size: int) -> Dataset:
    """Open the data set that ``--data`` names."""
    from tokengroups.data.base import DATASETS, open_dataset

    name, root, options = args.data, args.root, {}
    if name == PROCEDURAL:
        check_room_size(plan.span.stop, size)
        options = {"seeds": [args.seed], "num_rooms": args.num_scenes or DEFAULT_NUM_SCENES}
    elif Path(name).exists() or (name not in DATASETS and ":" not in name):
        name, root = "scannet", name
    return open_dataset(name, root, num_frames=plan.span.stop, size=size, options=options)


def _semantics(
    args: argparse.Namespace, encoder_name: str, class_names: tuple[str, ...]
) -> tuple[SemanticEvaluation | None, DenseEncoder | None]:
    """Load encoder and vocabulary of the semantic metrics (None, with a note, if one is missing), and ``--embed``'s.

    Raises:
        UserError: A wrong vocabulary, or an encoder that was named and cannot be used.
    """
    from tokengroups.evaluation.semantic import SemanticEvaluation
    from tokengroups.text import DEFAULT_TEXT_ENCODER, load_dense_encoder
    from tokengroups.text.cache import EmbeddingCache

    vocabulary = class_names if args.vocabulary is None else tuple(text.parse_vocabulary(args.vocabulary))
    if not vocabulary:
        if encoder_name or args.embed is not None:
            note("semantics are not measured: the data set names no classes; give --vocabulary")
        return None, None
    if args.embed is not None:
        if args.text_encoder is not None:
            raise UserError("--embed brings its own text encoder; leave --text-encoder out")
        encoder = load_dense_encoder(args.embed)
        return SemanticEvaluation(EmbeddingCache(encoder), vocabulary, pooled=True), encoder
    if not encoder_name and (args.vocabulary or args.text_encoder) is not None:
        note("the weights have no semantics: only ceilings are measured; --embed adds those of an image encoder")
    try:
        if encoder_name:
            return SemanticEvaluation(text.load_encoder_for(encoder_name, args.text_encoder), vocabulary), None
        return SemanticEvaluation(text.load_encoder(args.text_encoder or DEFAULT_TEXT_ENCODER), vocabulary), None
    except UserError as error:
        if args.text_encoder is not None:
            raise
        note(f"semantics are not measured: {error}")
        return None, None


def _choose_scenes(args: argparse.Namespace, dataset: Dataset) -> tuple[str | None, Sequence[int]]:
    """Find the split (None = all scenes) and its scenes."""
    from tokengroups.data.base import MEASURED, choose_split

    if args.split == ALL and args.data != PROCEDURAL:
        return None, range(len(dataset))[: args.num_scenes]
    split = choose_split(dataset, MEASURED if args.split is None else [args.split])
    scenes = dataset.splits[split]
    source = getattr(dataset, "split_source", None)
    if args.split is None and source is not None:
        note(f"{len(scenes)} of {len(dataset)} scenes are held out ({split}: {source}); --split {ALL} measures all")
    return split, scenes[: args.num_scenes or len(scenes)]
