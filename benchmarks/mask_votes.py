"""Token groups with and without the masks of another system as evidence, on the same held-out rooms.

Run: ``python benchmarks/mask_votes.py [--weights token_groups_tiny] [--masks iggt_tiny] [--weight W ...]
[--seeds 101 102 103] [--rooms 12] [--views 8] [--json FILE]``.

Rows: the default steps, then the same and `mask_votes` with every weight (without one, the step's own). Numbers are
those of `tokengroups evaluate`: means over the seeds with half of Student's 95 % interval, then the differences to the
first row, paired by seed. Seconds are a room's from photos to scene; weights are loaded before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from quality import interval
from tqdm import tqdm

from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import ProceduralRooms
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.io.files import write_text
from tokengroups.postprocess import Step, build_steps
from tokengroups.systems import SceneSystem, load_model

METRICS = ("ap_all", "ap_objects", "ap_photos_all", "t_miou", "seconds_per_scene")
WITHOUT = "without"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--masks", default="iggt_tiny", help="weights of the system whose masks vote")
    parser.add_argument("--weight", type=float, nargs="+", help="of the votes (the step's own)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--rooms", type=int, default=12, help="of every seed")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = load_model(args.weights)
    rows = rows_of(model, args.masks, args.weight)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for seed in args.seeds:
        rooms = load_rooms(args, model, seed)
        data = EvaluationData("procedural", FramePlan(args.views), "test", seed)
        for name, steps in rows.items():
            progress = tqdm(rooms, desc=f"seed {seed}, {name}", unit="room", leave=False)
            found = evaluate_scenes(partial(model.predict, postprocess=steps), progress, data, args.weights)
            runs[name].append({metric: found.numbers[metric] for metric in METRICS})
    table = summarise(runs)
    print_table(table)
    if args.json is not None:
        settings = {"weights": args.weights, "masks": args.masks, "views": args.views}
        content = {**settings, "seeds": args.seeds, "rooms": args.rooms, "table": table, "runs": runs}
        write_text(args.json, json.dumps(content, indent=1) + "\n")


def rows_of(model: SceneSystem, masks: str, weights: Sequence[float] | None) -> dict[str, tuple[Step, ...]]:
    """Steps of every row; the other system is loaded already."""
    rows = {WITHOUT: model.steps}
    for setting in [{}] if weights is None else [{"weight": weight} for weight in weights]:
        (votes,) = build_steps([{"name": "mask_votes", "weights": masks, **setting}], "benchmark")
        model.licence_with([votes])  # loads the weights
        rows[f"{masks}, weight {getattr(votes, 'weight')}"] = (*model.steps, votes)  # noqa: B009 (of any step)
    return rows


def load_rooms(args: argparse.Namespace, model: SceneSystem, seed: int) -> list[Example]:
    """The first test rooms of a seed."""
    plan = FramePlan(args.views)
    data = ProceduralRooms(None, num_frames=plan.length, size=model.image_size, seeds=(seed,), num_rooms=args.rooms)
    return [cut_example(data[index], plan) for index in data.splits["test"]]


def summarise(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and half interval of every row and metric, and under ``ROW - without`` those of the differences."""
    values = {
        name: {metric: np.array([run[metric] for run in each]) for metric in METRICS} for name, each in runs.items()
    }
    for name in list(values)[1:]:
        values[f"{name} - {WITHOUT}"] = {metric: values[name][metric] - values[WITHOUT][metric] for metric in METRICS}
    return {name: {metric: interval(found) for metric, found in each.items()} for name, each in values.items()}


def print_table(table: dict[str, dict[str, tuple[float, float]]]) -> None:
    """The table in Markdown."""
    print(f"| masks | {' | '.join(METRICS)} |\n|---|{'--:|' * len(METRICS)}")
    for name, each in table.items():
        cells = (f"{mean:.4f} ± {half:.4f}" for mean, half in each.values())
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
