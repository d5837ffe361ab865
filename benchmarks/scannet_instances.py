"""Instances in 3D by the rules of ScanNet's benchmark, on ScanNet's official files or on procedural rooms.

Run: ``python benchmarks/scannet_instances.py --weights W --root SCANS [--classes scannet|scannet200] [--every 20]
[--scenes FILE] [--json FILE]``, or with ``--rooms 12 [--seeds 101 102 103] [--views 8] [--frame-step 1]`` in place of
``--root``; ``[--rule any majority mean] [--encoder E] [--before E] [--device D]`` with both.

`SCANS` is a scan or a folder of scans, each with the official mesh, superpoints and objects and with exported frames
(`tokengroups/data/readers/scannet_benchmark.py` lists the files); ``scannetv2-labels.combined.tsv`` is looked for there
and in the folder above. The protocol is SegVGGT's as far as it is known: every 20th frame in one pass; masks of queries
as decoded, with their overlaps, at the resolution of the features; a vertex is visible where it is nearer than 0.1 m to
a reading of the depth map, by true poses and the depth camera's intrinsics; its place in the mask is scaled for each
axis by itself; more than half of a superpoint's vertices decide for all of them; a vertex that no view shows is in no
mask before that vote.

* Photos are whole, their longer side becomes that of the weights, and Pillow's Lanczos filter resizes them. The authors
  use OpenCV's, which does not smooth, so published numbers are not met to the last digit.
* How views are combined is not published. ``any``: inside in one visible view; ``majority``: in more than half of them;
  ``mean``: the mean probability is above the mask's threshold. Every rule is a column. Systems that give labels instead
  of probabilities have the same numbers for the last two.
* ``ap``: of every class by itself, mean over the classes of which a scene has an instance. ``agnostic_ap``: all classes
  are one, and queries are ranked by 1 - p(no object). Systems without classes have only these. Scenes are pooled.
* Rooms: the points are those of all frames of a walk, one per 2 cm voxel, the photos every second frame; there are no
  superpoints. ``_objects``: walls, floor and ceiling are void.
* Cost beside the network, on one core beside other work: 25 s and 0.4 GB for 150,000 vertices, 120 photos that show
  15,000 of them each, and 400 masks of 128 channels; 2 s for the visibility of all photos.
* ``depth_*``: see `tokengroups/evaluation/depth_accuracy.py`; ``_before``: of the encoder as it was. Weights with LoRA
  name it; of others ``--before`` does, such as facebook/VGGT-1B.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from instance_scenes import PointScene, Rooms, Scans, check_root, see_points
from photo_instances import encoder_before, find_photo_instances
from quality import interval

import tokengroups
from tokengroups.cli.arguments import MAX_COUNT, add_device_option, add_number, pick_device
from tokengroups.cli.main import Parser, guarded
from tokengroups.cli.output import note, print_table, progress, say
from tokengroups.data.example import FramePlan
from tokengroups.data.readers.scannet_labels import NUMBERS
from tokengroups.encoders import Encoder
from tokengroups.errors import UserError
from tokengroups.evaluation.depth_accuracy import depth_accuracy
from tokengroups.evaluation.scannet_instances import MIN_POINTS, InstanceOverlaps, instance_scores, measure_instances
from tokengroups.evaluation.scene_numbers import nanmean
from tokengroups.evaluation.vertex_masks import RULES, VISIBILITY_M, Rule
from tokengroups.io.files import check_writable, write_text
from tokengroups.systems import SceneSystem, load_model
from tokengroups.systems.segvggt.class_names import SCANNET, SCANNET200
from tokengroups.systems.segvggt.system import SegVGGT

NAMES = {"scannet": SCANNET, "scannet200": SCANNET200}


@dataclass(frozen=True)
class Measured:
    """One scene."""

    name: str
    frames: tuple[str, ...]
    overlaps: dict[Rule, InstanceOverlaps]
    numbers: dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    parser = Parser("scannet_instances.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="shipped name, weight folder or published checkpoint")
    parser.add_argument("--root", type=Path, metavar="SCANS", help="a scan or a folder of scans")
    add_number(parser, "--rooms", 1, MAX_COUNT, metavar="N", help="procedural rooms of every seed")
    parser.add_argument("--classes", choices=sorted(NUMBERS), help="benchmark of the scans (default: the weights')")
    parser.add_argument("--scenes", type=Path, metavar="FILE", help="names of the scans, one a line (default: all)")
    add_number(parser, "--every", 1, MAX_COUNT, default=20, help="distance of the scans' frames (%(default)s)")
    parser.add_argument("--rule", nargs="+", choices=RULES, default=list(RULES), help="how views are combined (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103], help="of rooms")
    add_number(parser, "--views", 1, 1000, default=8, help="photos of a room (%(default)s)")
    add_number(parser, "--frame-step", 1, 1000, default=1, help="frames of a room between neighbours: longer walks")
    parser.add_argument("--encoder", help="the weights' encoder, if they do not name one that is here")
    parser.add_argument("--before", help="encoder before training, for depth (default: that of weights with LoRA)")
    add_device_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to this file")
    return guarded(lambda: run(parser.parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    """Load, measure every collection of scenes, print, write."""
    if (args.root is None) == (args.rooms is None):
        raise UserError("give either --root SCANS or --rooms N")
    if args.root is not None:
        check_root(args.root)
    if args.json is not None:
        check_writable(args.json)
    device = pick_device(args.device)
    system = load_model(args.weights, encoder=args.encoder).to(device).eval()
    before = encoder_before(system, args.before, args.encoder)
    if isinstance(before, torch.nn.Module):
        before.to(device)
    collections = open_scenes(args, system)
    for message in [system.licence, *collections[0].notes()]:
        if message:
            note(message)
    runs = []
    for scenes in collections:
        loaded = scenes.load(system.image_size, system.size_multiple)
        watched = progress(loaded, len(scenes), "scenes")
        measured = [measure_scene(system, before, scene, scenes.names, args.rule) for scene in watched]
        runs.append({"scenes": describe_scenes(measured), "rules": summarise(measured, scenes.names, args.rule)})
    show(runs, args.rule)
    if args.json is not None:
        report = {"protocol": protocol(args, system, collections), "means": means(runs), "runs": runs}
        write_text(args.json, json.dumps(plain(report), indent=1, allow_nan=False) + "\n")
        say(f"wrote {args.json}")


def open_scenes(args: argparse.Namespace, system: SceneSystem) -> list[Scans] | list[Rooms]:
    """The scans, or the rooms of every seed."""
    if args.root is None:
        if min(args.seeds) < 0:
            raise UserError(f"--seeds {min(args.seeds)}: must be at least 0")
        return [Rooms(seed, args.rooms, FramePlan(args.views, args.frame_step)) for seed in args.seeds]
    own = system.config.class_names if isinstance(system, SegVGGT) else ()
    kind = args.classes or ("scannet200" if own == SCANNET200 else "scannet")
    return [Scans(args.root, kind, NAMES[kind], args.every, args.scenes)]


@torch.no_grad()
def measure_scene(
    system: SceneSystem, before: Encoder | None, scene: PointScene, names: Sequence[str], rules: Sequence[Rule]
) -> Measured:
    """Segment the photos of a scene in one pass, move the masks to its points, and compare with the truth."""
    start = time.perf_counter()
    device = next(system.parameters()).device
    photos = scene.photos.to(device)
    found = find_photo_instances(system, photos, names)
    seconds = time.perf_counter() - start
    maps = range(len(photos))
    numbers = asdict(depth_accuracy(found.depth, (scene.depth(view) for view in maps)))
    if before is not None:
        depth = before.encode(photos[None]).depth[0]
        old = asdict(depth_accuracy(depth, (scene.depth(view) for view in maps)))
        numbers |= {f"{name}_before": value for name, value in old.items()}
    start = time.perf_counter()
    sights = see_points(scene, device)
    overlaps = measure_instances(found.masks, found.agnostic, found.aware, sights, scene.truth, rules)
    shown = torch.cat([sight.points for sight in sights]).unique()
    numbers |= {"points_seen": len(shown) / len(scene.points), "seconds_photos": seconds}
    numbers |= {"seconds_points": time.perf_counter() - start}
    return Measured(scene.name, scene.frames, overlaps, numbers)


def summarise(measured: Sequence[Measured], names: Sequence[str], rules: Sequence[Rule]) -> dict[str, dict[str, Any]]:
    """Numbers of a collection by rule; those that are none of AP are the same for all rules."""
    shared = {name: nanmean([scene.numbers[name] for scene in measured]) for name in measured[0].numbers}
    return {rule: {**instance_scores([scene.overlaps[rule] for scene in measured], names), **shared} for rule in rules}


def means(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the runs, by rule; classes are left out."""
    return {rule: {name: fmean(values) for name, values in rows.items()} for rule, rows in _rows(runs).items()}


def _rows(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The value of every run, by rule and number."""
    first = runs[0]["rules"]
    return {
        rule: {
            name: [run["rules"][rule][name] for run in runs]
            for name, value in numbers.items()
            if isinstance(value, float)
        }
        for rule, numbers in first.items()
    }


def show(runs: Sequence[dict[str, Any]], rules: Sequence[Rule]) -> None:
    """Print a line per number and a column per rule, with Student's 95 % interval of several runs."""
    rows = _rows(runs)
    table = [[name, *(_cell(rows[rule][name]) for rule in rules)] for name in rows[rules[0]]]
    print_table(table, ["number", *rules], left={0})


def _cell(values: Sequence[float]) -> str:
    mean, half = interval(np.array(values))
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ± {half:.3f}"


def describe_scenes(measured: Sequence[Measured]) -> dict[str, Any]:
    """Scenes of a collection, their frames as a hash, and the numbers of each."""
    frames = json.dumps([[scene.name, scene.frames] for scene in measured])
    return {
        "sha256_of_frames": hashlib.sha256(frames.encode()).hexdigest(),
        "numbers": {scene.name: {"frames": len(scene.frames), **scene.numbers} for scene in measured},
    }


def protocol(
    args: argparse.Namespace, system: SceneSystem, scenes: Sequence[Scans] | Sequence[Rooms]
) -> dict[str, Any]:
    """Conditions of the numbers."""
    first = scenes[0]
    by = {"seeds": args.seeds, "views": args.views, "frame_step": args.frame_step}
    if isinstance(first, Scans):
        by = {"classes": first.kind, "every": args.every, "label_table": first.table is not None}
    return {
        "weights": Path(args.weights).name,
        "data": "procedural rooms" if args.root is None else args.root.name,
        **by,
        "visibility_m": VISIBILITY_M,
        "min_points": MIN_POINTS,
        "superpoints": args.root is not None,
        "decoding": asdict(system.decoding) if isinstance(system, SegVGGT) else None,
        "versions": {"tokengroups": tokengroups.__version__, "torch": torch.__version__},
    }


def plain(content: Any) -> Any:
    """JSON's values: null for what is no number."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


if __name__ == "__main__":
    raise SystemExit(main())
