"""Sharpness of new views from photos of 512 pixels, on procedural rooms: PSNR, SSIM, AP and seconds of several lists.

Run: ``python benchmarks/sharp.py [--views 8] [--rooms 6] [--seeds 101 102] [--steps LIST ...] [--json FILE]``. Rooms
are rendered at 512 pixels. The baseline reads photos of the weights' size alone and runs neither `multi_view_stereo`
nor `densify`; the others are lists of steps as for ``--postprocess``, and read the photos whole. New views are rendered
at 256 and 512 pixels; AP is that of `tokengroups evaluate`, at the weights' size. Seconds are of processor time, from
photos to scene.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from quality import print_rows
from tqdm import tqdm

from tokengroups.data.augment import to_views
from tokengroups.data.base import SceneFrames
from tokengroups.data.example import FramePlan, cut_example
from tokengroups.data.procedural import generate_room
from tokengroups.evaluation.evaluate import evaluate_scenes, target_cameras
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.losses.photometric import psnr, ssim
from tokengroups.postprocess import Reconstruction, choose_steps, step_name
from tokengroups.postprocess.full_photos import resized_cameras
from tokengroups.render import render
from tokengroups.systems import SceneSystem, load_model

FULL_SIZE = 512
SIZES = (256, 512)
BASELINE = "before"
NEW_STEPS = ("multi_view_stereo", "densify")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--rooms", type=int, default=6, help="of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--steps", nargs="+", default=["default"], metavar="NAME[,NAME...]")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model, plan = load_model(args.weights), FramePlan(args.views)
    variants = [BASELINE, *args.steps]
    numbers: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    for seed in args.seeds:
        rooms = [generate_room(seed, i, "test", plan.length, FULL_SIZE) for i in tqdm(range(args.rooms), desc="rooms")]
        for variant in variants:
            numbers[variant].append(measure(model, rooms, plan, variant, seed))
            print(seed, variant, {name: round(value, 3) for name, value in numbers[variant][-1].items()}, flush=True)
    for variant in variants:
        print(f"\n{variant}: {args.views} photos, {args.rooms} rooms of each of the seeds {args.seeds}\n")
        rows = {name: np.array([run[name] for run in numbers[variant]]) for name in numbers[variant][0]}
        before = {name: np.array([run[name] for run in numbers[BASELINE]]) for name in rows}
        gains = {f"{name} - {BASELINE}": values - before[name] for name, values in rows.items()}
        print_rows(rows if variant == BASELINE else rows | gains)
    if args.json is not None:
        args.json.write_text(json.dumps(numbers, indent=1) + "\n")


@torch.no_grad()
def measure(model: SceneSystem, rooms: list[SceneFrames], plan: FramePlan, variant: str, seed: int) -> dict[str, float]:
    """Means over rooms."""
    if variant == BASELINE:
        steps = tuple(step for step in model.steps if step_name(step) not in NEW_STEPS)
    else:
        steps = choose_steps(variant, model.steps)
    examples = [cut_example(room, plan, model.image_size) for room in rooms]
    rows, waiting = [], iter(zip(rooms, examples, strict=True))

    def predict(photos: torch.Tensor) -> Reconstruction:
        room, example = next(waiting)
        full = None if variant == BASELINE else to_views(room, plan.context).images
        start = time.process_time()
        made = model.predict(photos, full_photos=full, postprocess=steps)
        seconds = time.process_time() - start
        cameras, _ = target_cameras(made, example.context, example.targets.cameras)
        row = {"seconds": seconds, "gaussians": len(made.scene.gaussians.means)}
        for size in SIZES:
            true, found = to_views(room, plan.targets, size).images, resized_cameras(cameras, (size, size))
            shown = render(made.scene.gaussians, found.cam_from_world, found.intrinsics, found.size_hw)
            colors = shown.colors.movedim(-1, 1).clamp(0, 1)
            row[f"psnr_{size}"] = float(psnr(colors, true).mean())
            row[f"ssim_{size}"] = float(ssim(colors, true).mean())
        rows.append(row)
        return made

    data = EvaluationData("procedural", plan, "test", seed)
    result = evaluate_scenes(predict, tqdm(examples, desc=variant, leave=False), data, "").to_json()
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {name: float(result[name]) for name in ("ap_all", "ap_objects", "depth_absrel")}


if __name__ == "__main__":
    main()
