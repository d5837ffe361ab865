"""Token groups against per-scene fits and clustering: the same photos, the same targets, one run.

Run: ``python benchmarks/baselines.py [--weights token_groups_tiny] [--views 2 8] [--seeds 101 102 103]
[--num-scenes 8] [--fit-steps 100 300 1000 2000] [--json FILE] [--figure FILE.png]``; ``--merge FILE ...`` prints the
tables of several such runs, and the figure, instead.

* `token groups`: photos alone, no cameras, no masks, nothing optimised but cameras and smooth depth.
* `planes + HDBSCAN`: the same Gaussians, anchors clustered by position.
* `oracle`: the same Gaussians, every anchor given its true instance: the ceiling of any grouping of them.
* `fit, n steps`: `tokengroups fit` in the spirit of Gaussian Grouping. It is given what token groups have to find out:
  the photos' *true* cameras and *true* instance masks, the same in all photos.
* `fit of our answer, n steps`: the same, given the cameras and masks that token groups predict for the photos: it
  knows no more than they do.

AP, PSNR by the protocol of `tokengroups evaluate` on the same target views; seconds on one thread, loading left out;
bytes of the saved scene. Intervals are Student's over the seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from einops import rearrange
from quality import interval
from tqdm import tqdm

from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import generate_room
from tokengroups.evaluation.evaluate import evaluate_scenes, target_cameras
from tokengroups.evaluation.masks import GroupOverlaps, group_masks, group_overlaps, group_scores
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.fitting import FitConfig, FitResult, fit_scene
from tokengroups.losses.photometric import psnr
from tokengroups.render import render
from tokengroups.scene import save_scene
from tokengroups.scene.views import render_views
from tokengroups.systems import SceneSystem, load_model
from tokengroups.types import Cameras, TokenScene, Views

KEYS = ("ap_all", "ap50_all", "ap25_all", "ap_objects", "ap50_objects", "psnr", "seconds", "bytes")
OURS = "token groups"
SECONDS_TICKS = [part * power for power in (0.01, 0.1, 1, 10, 100) for part in (1, 2, 3, 5)]


@dataclass(frozen=True)
class FittedRoom:
    """One fit, measured on the target views."""

    overlaps: GroupOverlaps
    psnr: float
    seconds: float
    bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--views", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--num-scenes", type=int, default=8)
    parser.add_argument("--fit-steps", type=int, nargs="+", default=[100, 300, 1000, 2000])
    parser.add_argument("--own-steps", type=int, nargs="*", default=[300], help="of fits of our answer")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path, help="AP against seconds, as a PNG")
    parser.add_argument("--merge", type=Path, nargs="+", help="JSON files of earlier runs")
    args = parser.parse_args()
    if args.merge:
        runs = [run for file in args.merge for run in json.loads(file.read_text())]
    else:
        torch.set_num_threads(1)
        model = load_model(args.weights)
        runs = [run_seed(args, model, seed, views) for seed in args.seeds for views in args.views]
    for views in sorted({run["views"] for run in runs}):
        print_table([run for run in runs if run["views"] == views])
    if args.json is not None:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
        print(f"\nwrote {args.json}")
    if args.figure is not None:
        draw(runs, args.figure)
        print(f"wrote {args.figure}")


def run_seed(args: argparse.Namespace, model: SceneSystem, seed: int, views: int) -> dict[str, Any]:
    """Every method on the rooms of one seed."""
    data = EvaluationData("procedural", FramePlan(views), "test", seed)
    scenes = [
        cut_example(generate_room(seed, index, "test", 2 * views + 1, model.image_size), data.plan)
        for index in tqdm(range(args.num_scenes), desc=f"{views} photos, seed {seed}: rooms", leave=False)
    ]
    methods = measure_ours(model, scenes, data, args.weights)
    for steps in args.fit_steps:
        label = f"{views} photos, seed {seed}: fit, {steps} steps"
        progress = tqdm(scenes, desc=label, leave=False)
        rooms = [fit_room(scene, scene.context, scene.targets.cameras, steps) for scene in progress]
        methods[f"fit, {steps} steps"] = summarise(rooms)
    for steps in args.own_steps:
        label = f"{views} photos, seed {seed}: fit of our answer, {steps} steps"
        progress = tqdm(scenes, desc=label, leave=False)
        rooms = [fit_room(scene, *our_answer(model, scene), steps) for scene in progress]
        methods[f"fit of our answer, {steps} steps"] = summarise(rooms)
    return {"seed": seed, "views": views, "num_scenes": args.num_scenes, "methods": methods}


def measure_ours(
    model: SceneSystem, scenes: Sequence[Example], data: EvaluationData, weights: str
) -> dict[str, dict[str, float]]:
    """Token groups and the other groupings of their Gaussians."""
    sizes = [file_size(model.predict(scene.context.images).scene) for scene in scenes]
    result = evaluate_scenes(model.predict, scenes, data, weights).to_json()
    shared = {"psnr": result["psnr"], "seconds": result["seconds_per_scene"], "bytes": fmean(sizes)}
    names = [key for key in KEYS if key.startswith("ap")]
    return {
        name: {key: result[key + suffix] for key in names} | shared
        for name, suffix in ((OURS, ""), ("planes + HDBSCAN", "_planes_hdbscan"), ("oracle", "_oracle"))
    }


@torch.no_grad()
def our_answer(model: SceneSystem, scene: Example) -> tuple[Views, Cameras]:
    """The photos with predicted cameras and masks, and the targets' cameras in the predicted world."""
    prediction = model.predict(scene.context.images)
    views = render_views(prediction.scene, prediction.scene.cameras)
    ids = torch.stack([view.group_map for view in views])
    targets, _ = target_cameras(prediction, scene.context, scene.targets.cameras)
    return replace(scene.context, cameras=prediction.scene.cameras, group_ids=ids), targets


def fit_room(scene: Example, photos: Views, targets: Cameras, steps: int) -> FittedRoom:
    """Fit photos by their cameras and masks, and render the targets."""
    start = time.perf_counter()
    fit = fit_scene(photos, FitConfig(steps=steps))
    seconds = time.perf_counter() - start
    return measure_fit(scene, fit, fit.to_scene(targets), seconds)


@torch.no_grad()
def measure_fit(scene: Example, fit: FitResult, cameras: Cameras, seconds: float) -> FittedRoom:
    """The numbers of a fit on the target views, whose cameras are those of its world."""
    rendered = render(
        fit.scene.gaussians, cameras.cam_from_world, cameras.intrinsics, cameras.size_hw,
        anchor_ids=fit.scene.anchor_ids, anchor_features=fit.scene.assignment,
    )  # fmt: skip
    assert rendered.features is not None
    images = rearrange(rendered.colors, "t h w c -> t c h w").clamp(0, 1)
    masks = group_masks(rendered.features, rendered.alphas)
    overlaps = group_overlaps(masks, scene.targets.group_ids.numpy(), scene.classes[0])
    quality = psnr(images, scene.targets.images).mean().item()
    return FittedRoom(overlaps, quality, seconds, file_size(fit.scene))


def summarise(rooms: Sequence[FittedRoom]) -> dict[str, float]:
    """AP pooled over the rooms, means of the rest."""
    return group_scores([room.overlaps for room in rooms]) | {
        "psnr": fmean(room.psnr for room in rooms),
        "seconds": fmean(room.seconds for room in rooms),
        "bytes": fmean(room.bytes for room in rooms),
    }


def file_size(scene: TokenScene) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scene.safetensors"
        save_scene(file, scene)
        return file.stat().st_size


def print_table(runs: list[dict[str, Any]]) -> None:
    """Mean and half of the interval over the seeds, as Markdown; then how many times longer a fit takes."""
    seeds = ", ".join(str(run["seed"]) for run in runs)
    print(f"\n{runs[0]['views']} photos, {runs[0]['num_scenes']} rooms of each of the seeds {seeds}\n")
    print(f"| method | {' | '.join(KEYS)} |\n|---|{'--:|' * len(KEYS)}")
    for name in runs[0]["methods"]:
        print(f"| {name} | {' | '.join(cell(values(runs, name, key), key) for key in KEYS)} |")
    ours = values(runs, OURS, "seconds")
    for name in (name for name in runs[0]["methods"] if name.startswith("fit")):
        print(f"* {name}: {np.mean(values(runs, name, 'seconds') / ours):.0f} times the seconds of {OURS}")


def values(runs: list[dict[str, Any]], name: str, key: str) -> np.ndarray:
    return np.array([run["methods"][name][key] for run in runs], dtype=float)


def cell(numbers: np.ndarray, key: str) -> str:
    mean, half = interval(numbers)
    digits = {"bytes": 0, "seconds": 2, "psnr": 1}.get(key, 3)
    return f"{mean:.{digits}f} ± {half:.{digits}f}" if half > 0 else f"{mean:.{digits}f}"


def draw(runs: list[dict[str, Any]], file: Path) -> None:
    """AP against seconds a scene, one panel for each number of photos."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator

    counts = sorted({run["views"] for run in runs})
    figure, axes = pyplot.subplots(1, len(counts), figsize=(4.2 * len(counts), 3.4), sharey=True, squeeze=False)
    for axis, views in zip(axes[0], counts, strict=True):
        chosen = [run for run in runs if run["views"] == views]
        for start, label, color in (
            ("fit, ", "fit: true cameras and masks given", "#D55E00"),
            ("fit of our answer", "fit: given those of token groups", "#CC79A7"),
        ):
            names = [name for name in chosen[0]["methods"] if name.startswith(start)]
            line = [
                (values(chosen, name, "seconds").mean(), *interval(values(chosen, name, "ap_all"))) for name in names
            ]
            if line:
                axis.errorbar(*zip(*line, strict=True), color=color, marker="o", capsize=3, label=label)
        for name, label, color, marker in (
            (OURS, "token groups: photos alone", "#0072B2", "*"),
            ("oracle", "oracle of our Gaussians", "#999999", "^"),
            ("planes + HDBSCAN", "planes + HDBSCAN of our Gaussians", "#009E73", "s"),
        ):
            seconds = values(chosen, name, "seconds").mean()
            style = {"color": color, "marker": marker, "markersize": 12 if marker == "*" else 6}
            axis.errorbar(seconds, *interval(values(chosen, name, "ap_all")), label=label, linestyle="none", **style)
        axis.set(xscale="log", xlabel="seconds a scene, one CPU thread", title=f"{views} photos", ylim=(0, 1))
        low, high = axis.get_xlim()
        ticks = [tick for tick in SECONDS_TICKS if low <= tick <= high]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("AP on rendered target views")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
