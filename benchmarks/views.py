"""Quality with 1, 2, 4 and 8 photos, their cost, and invariance to their order and to repetition.

Run: ``python benchmarks/views.py [--weights token_groups_tiny ...] [--views 1 2 4 8] [--seeds 101 102 103]
[--num-scenes 16] [--sections path spread nested cost invariances] [--no-semantics] [--json FILE]``.

Three plans say which frames are photos and which are rendered; with up to 8 photos:

* ``path``: the protocol of `tokengroups evaluate --views n`: every second frame of a path of 2n + 1 frames. More photos
  cover more of a room, and the rooms differ between the n.
* ``spread``: the same rooms of 17 frames for all n, photos evenly spread over them; rendered: all even frames. More
  photos cover the same space more densely, so that few photos are metres apart.
* ``nested``: the same rooms again, the photos next to the middle and, for more, those around them; rendered: three
  frames in the middle. More photos add what the others see from farther away.

``cost`` measures every n in a fresh process; ``invariances`` is described in invariances.py. One thread throughout;
intervals are Student's over the seeds. `seconds_median` is wall time, of use on an idle machine only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from invariances import NUM_PHOTOS, cell, measure_invariances, print_invariances
from render import status_mb
from torch import Tensor
from tqdm import tqdm

from tokengroups.cli.text import load_encoder_for
from tokengroups.data.augment import to_views
from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import CLASS_NAMES, generate_room
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.evaluation.semantic import SemanticEvaluation
from tokengroups.systems import SceneSystem, load_model
from tokengroups.types import SceneFrames

PLANS = ("path", "spread", "nested")
SECTIONS = (*PLANS, "cost", "invariances")
KEYS = (
    "psnr", "psnr_nearest_view", "ssim", "ap_all", "ap50_all", "ap25_all", "ap_objects", "ap_all_oracle",
    "ap_objects_oracle", "depth_absrel", "point_error", "rotation_error_deg", "translation_error_deg", "groups_used",
    "seconds_median", "miou_target", "recall1_names", "semantic_scalars", "semantic_bytes",
)  # fmt: skip
COSTS = ("cpu_seconds", "growth_mb", "peak_mb")
COST_ROOMS = 6
COST_TEXT = (
    f"CPU seconds: median of {COST_ROOMS - 1} rooms after one. Memory in MB of a fresh process: what the first "
    "`predict` adds at its peak to interpreter, libraries, weights and photos (growth), and with them (peak)."
)


@dataclass(frozen=True)
class PlannedFrames(FramePlan):
    """Photos by one of the plans; `protocol` in the JSON lists the frames."""

    kind: str = "path"
    most_views: int = 8  # the largest n that is compared

    @property
    def length(self) -> int:
        """Frames of a room's path."""
        return 2 * (self.num_views if self.kind == "path" else self.most_views) + 1

    @property
    def context(self) -> tuple[int, ...]:
        """The photos, all at odd frames."""
        count, most = self.num_views, self.length // 2
        if self.kind == "spread":  # the middles of equal parts
            photos = [(2 * part + 1) * most // (2 * count) for part in range(count)]
        else:
            photos = range((most - count) // 2, (most - count) // 2 + count)
        return tuple(2 * photo + 1 for photo in photos)

    @property
    def targets(self) -> tuple[int, ...]:
        """The frames that are rendered, all even."""
        middle, even = self.length // 4 * 2, range(0, self.length, 2)
        return tuple(frame for frame in even if self.kind != "nested" or abs(frame - middle) <= 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["token_groups_tiny"])
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--num-scenes", type=int, default=16)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--no-semantics", action="store_true", help="leave semantics out, for speed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cost-of", type=Path, help=argparse.SUPPRESS)  # a child process: photos [R,V,3,H,W]
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.cost_of is not None:
        print(json.dumps(cost_here(load_model(args.weights[0]), torch.from_numpy(np.load(args.cost_of)))))
        return
    print(f"seeds {args.seeds}, {args.num_scenes} scenes each; torch {torch.__version__}, one thread")
    results = {weights: measure(weights, args) for weights in args.weights}
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwrote {args.json}")


def measure(weights: str, args: argparse.Namespace) -> dict[str, Any]:
    """All sections for one set of weights, printed as they are done."""
    model = load_model(weights)
    encoder_name = "" if args.no_semantics else model.text_encoder
    semantics = SemanticEvaluation(load_encoder_for(encoder_name), CLASS_NAMES) if encoder_name else None
    results: dict[str, Any] = {}
    for plan in (section for section in args.sections if section in PLANS):
        runs: dict[int, list[dict[str, Any]]] = {views: [] for views in args.views}
        for views, seed in itertools.product(args.views, args.seeds):
            frames = PlannedFrames(views, kind=plan, most_views=max(args.views))
            data = EvaluationData("procedural", frames, "test", seed)
            runs[views].append(evaluate(model, weights, data, args.num_scenes, semantics))
        print(f"\n## {weights}: {plan}\n\n{protocol_text(runs)}\n")
        print_table(KEYS, runs)
        results[plan] = runs
    if "cost" in args.sections:
        results["cost"] = {views: [cost(weights, model.image_size, views)] for views in args.views}
        print(f"\n## {weights}: cost of one `predict`\n\n{COST_TEXT}\n")
        print_table(COSTS, results["cost"])
    if "invariances" in args.sections:
        results["invariances"] = []
        for seed in args.seeds:
            frames = PlannedFrames(NUM_PHOTOS, kind="nested", most_views=max(8, *args.views))
            results["invariances"].append(measure_invariances(model, load_scenes(model, frames, seed, args.num_scenes)))
        print(f"\n## {weights}: what should not matter\n")
        print_invariances(results["invariances"])
    return results


def evaluate(
    model: SceneSystem, weights: str, data: EvaluationData, num_scenes: int, semantics: SemanticEvaluation | None
) -> dict[str, Any]:
    """The numbers of `tokengroups evaluate` with the plan's frames, and the median of the seconds a scene."""
    assert isinstance(data.plan, PlannedFrames) and data.seed is not None
    label = f"{data.plan.kind}, {data.plan.num_views} photos, seed {data.seed}"
    progress = tqdm(
        load_scenes(model, data.plan, data.seed, num_scenes), total=num_scenes, desc=label, unit="scene", leave=False
    )
    result = evaluate_scenes(model.predict, progress, data, weights, semantics=semantics).to_json()
    return result | {"seconds_median": median(scene["seconds"] for scene in result["per_scene"])}


def load_scenes(model: SceneSystem, plan: PlannedFrames, seed: int, num_scenes: int) -> Iterator[Example]:
    for index in range(num_scenes):
        yield cut_example(room(seed, index, plan.length, model.image_size), plan)


@lru_cache(maxsize=128)
def room(seed: int, index: int, num_frames: int, size: int) -> SceneFrames:
    """Several plans and numbers of photos share a room."""
    return generate_room(seed, index, "test", num_frames, size)


def cost(weights: str, size: int, num_views: int) -> dict[str, float | None]:
    """Time and memory in a fresh process, which gets its photos from a file: making rooms takes memory too."""
    photos = [room(0, index, 2 * num_views + 1, size) for index in range(COST_ROOMS)]
    frames = range(1, 2 * num_views, 2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photos.npy"
        np.save(file, np.stack([to_views(each, frames).images.numpy() for each in photos]))
        command = [sys.executable, __file__, "--weights", weights, "--cost-of", str(file)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(answer.stdout)


def cost_here(model: SceneSystem, photos: Tensor) -> dict[str, float | None]:
    """Cost of `predict` in this process: memory of the first time, CPU time of the others."""
    before = reset_peak_mb()
    model.predict(photos[0])
    peak = None if before is None else status_mb("VmHWM")
    seconds = []
    for images in photos[1:]:
        start = time.process_time()
        model.predict(images)
        seconds.append(time.process_time() - start)
    growth = None if before is None or peak is None else max(peak - before, 0.0)  # counted to some pages
    return {"cpu_seconds": median(seconds), "growth_mb": growth, "peak_mb": peak}


def reset_peak_mb() -> float | None:
    """Memory held now, from which on the kernel's high-water mark counts; None where /proc does not tell.

    Not `ru_maxrss`: a child process inherits that of its parent.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return status_mb("VmRSS")


def protocol_text(runs: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
    """The frames of every n, and the protocol's words for the rest."""
    protocols = {views: each[0]["protocol"] for views, each in runs.items()}
    lines = [
        f"* {views}: photos at frames {', '.join(map(str, protocol['context_frames']))}; "
        f"rendered {', '.join(map(str, protocol['target_frames']))}"
        for views, protocol in protocols.items()
    ]
    words = next(iter(protocols.values()))["text"].partition("Their cameras:")
    return "\n".join([*lines, "", words[1] + words[2]])


def print_table(keys: Sequence[str], runs: Mapping[int, Sequence[Mapping[str, Any]]]) -> None:
    """A line per number, a column per n, as Markdown; numbers that no run has are left out."""
    print(f"| photos | {' | '.join(map(str, runs))} |\n|---|{'--:|' * len(runs)}")
    for key in keys:
        cells = [cell([run[key] for run in each]) for each in runs.values()]
        if any(text != "-" for text in cells):
            print(f"| `{key}` | {' | '.join(cells)} |")
    sys.stdout.flush()  # sections take minutes


if __name__ == "__main__":
    main()
