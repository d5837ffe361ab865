"""Held-out quality of weights on procedural rooms: several seeds, means with 95 % intervals over the seeds.

Run: ``python benchmarks/quality.py [--weights token_groups_tiny] [--seeds 101 102 103] [--num-scenes 32] [--views 2]
[--given-intrinsics] [--json FILE]``. Every seed is one `tokengroups evaluate`, with its protocol; the interval is
Student's.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from tqdm import tqdm

from tokengroups.cli.text import load_encoder_for
from tokengroups.data.example import FramePlan, cut_example
from tokengroups.data.procedural import CLASS_NAMES, generate_room
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.evaluation.semantic import SemanticEvaluation
from tokengroups.systems import load_model

DIFFERENCES = (
    ("psnr", "psnr_nearest_view"),
    ("ap_all", "ap_all_planes_hdbscan"),
    ("ap_objects", "ap_objects_planes_hdbscan"),
)  # paired by seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--num-scenes", type=int, default=32)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--given-intrinsics", action="store_true", help="give the model the true intrinsics")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = load_model(args.weights)
    encoder_name = model.text_encoder
    semantics = SemanticEvaluation(load_encoder_for(encoder_name), CLASS_NAMES) if encoder_name else None
    runs = []
    for seed in args.seeds:
        data = EvaluationData("procedural", FramePlan(args.views), "test", seed, given_intrinsics=args.given_intrinsics)
        scenes = (
            cut_example(generate_room(seed, i, "test", 2 * args.views + 1, model.image_size), data.plan)
            for i in range(args.num_scenes)
        )
        progress = tqdm(scenes, total=args.num_scenes, desc=f"seed {seed}", unit="scene", leave=False)
        result = evaluate_scenes(model.predict, progress, data, args.weights, semantics=semantics)
        runs.append(result.to_json())
    print(runs[0]["protocol"]["text"])
    print(f"seeds {args.seeds}, {args.num_scenes} scenes each; torch {torch.__version__}, {platform.machine()}\n")
    print_table(runs)
    if args.json is not None:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
        print(f"\nwrote {args.json}")


def print_table(runs: list[dict]) -> None:
    """Mean and 95 % interval over the runs of every number and of some differences, as a Markdown table."""
    rows = {
        name: np.array([run[name] for run in runs], dtype=float)
        for name, value in runs[0].items()
        if isinstance(value, (int, float))
    }
    rows |= {f"{first} - {second}": rows[first] - rows[second] for first, second in DIFFERENCES}
    print_rows(rows)


def print_rows(rows: Mapping[str, np.ndarray]) -> None:
    """Mean and 95 % interval of every row over the seeds, as a Markdown table; a single seed has no interval."""
    print("| number | mean | 95 % interval |\n|---|--:|--:|")
    for name, values in rows.items():
        mean, half = interval(values)
        print(f"| {name} | {mean:.3f} | {f'{mean - half:.3f} to {mean + half:.3f}' if len(values) > 1 else ''} |")


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half of Student's 95 % interval; 0 for a single value."""
    if len(values) < 2:
        return float(values.mean()), 0.0
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(half)


if __name__ == "__main__":
    main()
