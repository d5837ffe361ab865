"""What limits token groups: parts of the encoder's answer replaced by the truth, and steps after the network left out.

Run: ``python benchmarks/limits.py [--weights token_groups_tiny] [--seeds 101 102 103] [--num-scenes 16] [--views 2]
[--only ROW ...] [--json FILE]``.

* ``true ...``: depth, pose or focal length of every photo are the true ones, in the scale of the prediction; all else,
  trained weights included, is as it is. The oracle's AP is that of the same Gaussians with true groups.
* ``without ...``: as shipped, but for one step after the network; ``network alone`` has none of them.

All rows see the same scenes. Numbers are means over the seeds, intervals Student's, differences to the first row
paired by seed; seconds are of use on an idle machine only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from quality import interval
from torch import Tensor
from tqdm import tqdm

from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import generate_room
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.geometry import relative_cameras, world_points
from tokengroups.systems import TokenGroups, load_model
from tokengroups.systems.token_groups.context import FrozenGeometry
from tokengroups.systems.token_groups.system import Reconstruction
from tokengroups.types import Cameras, Views

METRICS = ("psnr", "ap_all", "ap50_all", "ap_objects", "ap_all_oracle", "point_error", "seconds_per_scene")
TRUE_PARTS: dict[str, tuple[str, ...]] = {
    "as shipped": (),
    "true focal length": ("focal",),
    "true pose": ("pose",),
    "true pose and focal length": ("pose", "focal"),
    "true depth": ("depth",),
    "all true": ("depth", "pose", "focal"),
}
LEFT_OUT: dict[str, dict[str, Any]] = {
    "without sharpening": {"sharpening_steps": 0},
    "without borders": {"border_rounds": 0},
    "without mirrored photos": {"mirrored_grouping": False},
    "without more anchors for more photos": {"anchor_growth": 0.0},
    "network alone": {
        "sharpening_steps": 0, "border_rounds": 0, "mirrored_grouping": False, "anchor_growth": 0.0,
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    rows = [*TRUE_PARTS, *LEFT_OUT]
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--num-scenes", type=int, default=16)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=rows, default=rows, metavar="ROW", help="some rows")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(args.weights)
    runs: dict[str, list[dict[str, float]]] = {row: [] for row in args.only}
    with tqdm(total=len(args.seeds) * len(args.only), unit="run", leave=False) as bar:
        for seed in args.seeds:
            data = EvaluationData("procedural", FramePlan(args.views), "test", seed)
            frames = (
                generate_room(seed, i, "test", 2 * args.views + 1, model.image_size)
                for i in range(args.num_scenes)
            )
            scenes = [cut_example(room, data.plan) for room in frames]
            for row in args.only:
                runs[row].append(measure(model, row, scenes, data))
                bar.update()
    print_table(runs)
    if args.json is not None:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
        print(f"\nwrote {args.json}")


def measure(
    model: TokenGroups, row: str, scenes: Sequence[Example], data: EvaluationData
) -> dict[str, float]:
    """The metrics of one row on the scenes of one seed; the model is left as it was."""
    shipped, encode = model.decoder.config, model.encode
    model.decoder.config = replace(shipped, **LEFT_OUT.get(row, {}))
    try:
        if parts := TRUE_PARTS.get(row, ()):
            predict = informed(model, scenes, parts, encode)
        else:
            predict = model.predict
        values = evaluate_scenes(predict, scenes, data, row).to_json()
    finally:
        model.decoder.config, model.encode = shipped, encode
    return {metric: float(values[metric]) for metric in METRICS}


def informed(
    model: TokenGroups,
    scenes: Sequence[Example],
    parts: Sequence[str],
    encode: Callable[..., FrozenGeometry],
) -> Callable[[Tensor], Reconstruction]:
    """`model.predict`, told the true `parts` of every scene in turn."""
    truths = iter([scene.context for scene in scenes])

    def predict(images: Float[Tensor, "V 3 H W"]) -> Reconstruction:
        truth = next(truths)
        model.encode = lambda images, intrinsics=None: with_truth(encode(images, intrinsics), truth, parts)
        return model.predict(images)

    return predict


def with_truth(geometry: FrozenGeometry, truth: Views, parts: Sequence[str]) -> FrozenGeometry:
    """Geometry of one scene with some parts replaced, in its own world and scale."""
    assert truth.depth is not None
    known = truth.depth > 0
    scale = (geometry.depth[0] / truth.depth)[known].median()
    depth, cameras = geometry.depth, geometry.cameras
    poses, intrinsics = cameras.cam_from_world, cameras.intrinsics
    if "depth" in parts:
        depth = torch.where(known, truth.depth * scale, depth[0])[None]
    if "pose" in parts:
        first = truth.cameras.cam_from_world[:1]
        poses = relative_cameras(truth.cameras.cam_from_world[None], first, scale[None])
    if "focal" in parts:
        intrinsics = truth.cameras.intrinsics[None]
    points = world_points(depth, poses, intrinsics)
    return replace(geometry, depth=depth, points=points, cameras=Cameras(poses, intrinsics, cameras.size_hw))


def print_table(runs: dict[str, list[dict[str, float]]]) -> None:
    """Means and half intervals, and the paired difference of `ap_all` to the first row."""
    reference = np.array([run["ap_all"] for run in next(iter(runs.values()))])
    print(f"| | {' | '.join(METRICS)} | `ap_all`, difference |\n|---|{'--:|' * (len(METRICS) + 1)}")
    for row, values in runs.items():
        cells = [interval(np.array([run[metric] for run in values])) for metric in METRICS]
        mean, half = interval(np.array([run["ap_all"] for run in values]) - reference)
        listed = " | ".join(f"{centre:.3f} ± {width:.3f}" for centre, width in cells)
        print(f"| {row} | {listed} | {mean:+.3f} ± {half:.3f} |")


if __name__ == "__main__":
    main()
