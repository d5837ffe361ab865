"""Limits of the reconstructed scenes: true geometry in place of predicted geometry, and other lists of steps.

Run: ``python benchmarks/limits.py [--weights token_groups_tiny] [--seeds 101 102 103] [--num-scenes 16] [--views 2]
[--only ROW ...] [--json FILE]``.

* ``default steps``: post-processing as the weights name it.
* ``true ...``: the default steps, with the true depth, pose or focal length of every photo behind those before
  decoding, in the scale of the prediction. The oracle's AP is that of the same Gaussians with true groups.
* ``without ...``: the default steps but for one, or as many anchors for many photos as for few.
* ``only ...``: the steps before decoding; ``no steps``: none at all.

All rows see the same scenes. Numbers are means over the seeds, intervals Student's, differences to the first row
paired by seed; seconds are of use on an idle machine only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from quality import interval
from torch import Tensor
from tqdm import tqdm

from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import generate_room
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.geometry import relative_cameras, world_points
from tokengroups.postprocess import Draft, Reconstruction, Step, step_name
from tokengroups.systems import SceneSystem, load_model
from tokengroups.types import Cameras, Views

METRICS = ("psnr", "ap_all", "ap50_all", "ap_objects", "ap_all_oracle", "point_error", "seconds_per_scene")
TRUE_PARTS: dict[str, tuple[str, ...]] = {
    "true focal length": ("focal",),
    "true pose": ("pose",),
    "true pose and focal length": ("pose", "focal"),
    "true depth": ("depth",),
    "all true": ("depth", "pose", "focal"),
}
WORDS = {  # names of steps that do not read as words by themselves
    "boundary_crf": "boundary CRF",
    "multi_view_stereo": "multi-view stereo",
    "densify": "densification",
}


class TrueGeometry:
    """Replace parts of a geometry by the truth, in its own world and scale (a `Step`).

    Args:
        truth: The photos of the scene, with their cameras and depth.
        parts: Some of "depth", "pose" and "focal".
    """

    when: Literal["before_decoding"] = "before_decoding"
    needs: frozenset[str] = frozenset()

    def __init__(self, truth: Views, parts: Sequence[str]) -> None:
        self.truth, self.parts = truth, parts

    def __call__(self, draft: Draft) -> Draft:
        """Replace depth and cameras, and the points that follow from them."""
        geometry, truth = draft.geometry, self.truth
        known = truth.depth > 0
        scale = (geometry.depth / truth.depth)[known].median()
        depth, cameras = geometry.depth, geometry.cameras
        poses, intrinsics = cameras.cam_from_world, cameras.intrinsics
        if "depth" in self.parts:
            depth = torch.where(known, truth.depth * scale, depth)
        if "pose" in self.parts:
            true_poses = truth.cameras.cam_from_world
            poses = relative_cameras(true_poses[None], true_poses[:1], scale[None])[0]
        if "focal" in self.parts:
            intrinsics = truth.cameras.intrinsics
        points = world_points(depth[None], poses[None], intrinsics[None])[0]
        cameras = Cameras(poses, intrinsics, cameras.size_hw)
        return replace(draft, geometry=replace(geometry, depth=depth, points=points, cameras=cameras))


@dataclass(frozen=True)
class Row:
    """One line of the table: a model, its steps, and what its geometry is told."""

    model: SceneSystem
    steps: tuple[Step, ...]
    true_parts: tuple[str, ...] = ()

    def steps_for(self, photos: Views) -> tuple[Step, ...]:
        """The steps for one scene; the truth comes behind the other steps before decoding."""
        truth = (TrueGeometry(photos, self.true_parts),) if self.true_parts else ()
        return (*self.steps, *truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--num-scenes", type=int, default=16)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="some rows, by their names in the table")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = make_rows(load_model(args.weights))
    chosen = args.only or list(rows)
    if unknown := [name for name in chosen if name not in rows]:
        parser.error(f"no row '{unknown[0]}'; choose from {', '.join(rows)}")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    with tqdm(total=len(args.seeds) * len(chosen), unit="run", leave=False) as bar:
        for seed in args.seeds:
            data = EvaluationData("procedural", FramePlan(args.views), "test", seed)
            size, length = rows[chosen[0]].model.image_size, data.plan.length
            rooms = (generate_room(seed, index, "test", length, size) for index in range(args.num_scenes))
            scenes = [cut_example(room, data.plan) for room in rooms]
            for name in chosen:
                runs[name].append(measure(rows[name], scenes, data))
                bar.update()
    print_table(runs)
    if args.json is not None:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
        print(f"\nwrote {args.json}")


def make_rows(model: SceneSystem) -> dict[str, Row]:
    """All rows of the table by name; those on anchors only if their number grows with the photos."""
    default = model.steps
    geometry = tuple(step for step in default if step.when == "before_decoding")
    rows = {"default steps": Row(model, default)}
    rows |= {name: Row(model, default, parts) for name, parts in TRUE_PARTS.items()}
    for left_out in default:
        rows[f"without {words(left_out)}"] = Row(model, tuple(step for step in default if step != left_out))
    if getattr(network_config(model), "anchor_growth", 0.0) > 0:
        rows["without more anchors for more photos"] = Row(reconfigured(model, anchor_growth=0.0), default)
    if geometry:
        rows[f"only {' and '.join(map(words, geometry))}"] = Row(model, geometry)
    return rows | {"no steps": Row(model, ())}


def words(step: Step) -> str:
    """The name of a step in words."""
    name = step_name(step)
    return WORDS.get(name, name.replace("_", " "))


def network_config(model: SceneSystem) -> Any:
    """The configuration of a system's networks."""
    return getattr(model.network, "config", None)


def reconfigured(model: Any, **fields: Any) -> SceneSystem:
    """The same weights under a configuration with other fields."""
    other = type(model)(model.encoder, replace(network_config(model), **fields), model.steps)
    other.network.load_state_dict(model.network.state_dict())
    return other.eval()


def measure(row: Row, scenes: Sequence[Example], data: EvaluationData) -> dict[str, float]:
    """The metrics of one row on the scenes of one seed."""
    steps = iter([row.steps_for(scene.context) for scene in scenes])

    def predict(photos: Tensor) -> Reconstruction:
        return row.model.predict(photos, postprocess=next(steps))

    values = evaluate_scenes(predict, scenes, data, "limits").to_json()
    return {metric: float(values[metric]) for metric in METRICS}


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
