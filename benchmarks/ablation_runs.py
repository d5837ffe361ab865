"""What the ablations share: arguments, folders of runs, training of a system as configured, and tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ablation_variants import Variant

from tokengroups.data.stream import DataConfig
from tokengroups.training.experiments import read_experiment
from tokengroups.training.loop import train

BOOTSTRAP_DRAWS = 10_000


def add_run_options(parser: argparse.ArgumentParser, sets: Iterable[str], steps: int, held_out: int) -> None:
    """Add the arguments that name runs, and say how long they are and where they lie."""
    parser.add_argument("set", choices=list(sets))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the configuration")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps of a run")
    parser.add_argument("--held-out", type=int, default=held_out, metavar="N", help="rooms to measure on")
    parser.add_argument("--evaluation-seed", type=int, default=104)
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="some variants of the set")
    parser.add_argument("--out", type=Path, default=Path("out/ablate"))
    parser.add_argument("--table", action="store_true", help="print the tables of what is finished")


def train_run(
    args: argparse.Namespace, config: Path, name: str, variant: Variant, seed: int, extra: Sequence[str] = ()
) -> DataConfig | None:
    """Train a variant into its folder and return what it was trained on; None if it is measured already."""
    folder = run_folder(args, name, seed)
    if (folder / "result.json").exists():
        return None
    settings = {
        "seed": seed, "steps": args.steps, "output": folder, "warmup_steps": max(1, args.steps // 20),
        "evaluate_every": args.steps, "trackers": "[]",
    }  # fmt: skip
    overrides = [f"training.{key}={value}" for key, value in settings.items()]
    experiment = read_experiment(config, [*overrides, *extra, *args.overrides, *variant.overrides])
    result = train(experiment.build(), experiment.config.training, experiment.description())
    if not result.finished:  # never measured: only whole runs may stand in a table
        raise SystemExit(f"{folder}: stopped at step {result.step} of {args.steps}; the same command goes on")
    return experiment.config.data


def print_tables(args: argparse.Namespace, variants: Mapping[str, Variant], metrics: Sequence[str]) -> None:
    """Means, and paired differences to the first variant, as Markdown."""
    found = {name: read_results(args, name) for name in variants}
    found = {name: runs for name, runs in found.items() if runs}
    print(f"\n{args.steps} steps, {args.held_out} rooms of seed {args.evaluation_seed}\n")
    print(f"| variant | seeds | {' | '.join(metrics)} |\n|---|---|{'--:|' * len(metrics)}")
    for name, runs in found.items():
        cells = [cell(np.array([run[metric] for run in runs.values()])) for metric in metrics]
        print(f"| {name} | {' '.join(map(str, runs))} | {' | '.join(cells)} |")
    reference = next(iter(variants))
    print(f"\n| difference to {reference} | seeds | {' | '.join(metrics)} |\n|---|---|{'--:|' * len(metrics)}")
    for name, runs in found.items():
        shared = [seed for seed in runs if seed in found.get(reference, {})]
        if name == reference or not shared:
            continue
        pairs = [(runs[seed], found[reference][seed]) for seed in shared]
        differences = {m: np.array([run[m] for run, _ in pairs]) - [ref[m] for _, ref in pairs] for m in metrics}
        cells = [cell(differences[metric], signed=True) for metric in metrics]
        print(f"| {name} | {' '.join(map(str, shared))} | {' | '.join(cells)} |")


def read_results(args: argparse.Namespace, name: str) -> dict[int, dict[str, list[float]]]:
    """Finished runs of a variant by seed."""
    files = (run_folder(args, name, seed) / "result.json" for seed in args.seeds)
    return {seed: json.loads(file.read_text()) for seed, file in zip(args.seeds, files, strict=True) if file.exists()}


def run_folder(args: argparse.Namespace, name: str, seed: int) -> Path:
    return args.out / args.set / f"{name.replace(' ', '_')}_{seed}"


def cell(values: np.ndarray, signed: bool = False) -> str:
    """Mean and interval of [seeds, scenes] values."""
    low, high = bootstrap(values)
    sign = "+" if signed else ""
    return f"{values.mean():{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def bootstrap(values: np.ndarray, draws: int = BOOTSTRAP_DRAWS) -> tuple[float, float]:
    """95 % interval of the mean of [seeds, scenes] values; seeds and scenes are drawn with replacement."""
    rng = np.random.default_rng(0)
    num_seeds, num_scenes = values.shape
    seeds = rng.integers(num_seeds, size=(draws, num_seeds))
    scenes = rng.integers(num_scenes, size=(draws, num_scenes))
    means = values[seeds[:, :, None], scenes[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
