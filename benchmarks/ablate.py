"""Ablations of token groups: every variant trained alike, from several seeds, measured on the same held-out rooms.

Run: ``python benchmarks/ablate.py training|differences|sizes [--seeds 0 1 2] [--steps 400] [--scenes 400]
[--config configs/token_groups_tiny.yaml] [--out out/ablate] [key=value ...]``, then the same with ``--table``. A
run that was stopped goes on when the same command is given again, and finished ones are not repeated, so that several
processes can share the work, each with its own seeds. At full size: another ``--config`` and more steps.

Every run draws its scenes once and encodes each of them once. Numbers are means over scenes of a
scene's own PSNR, SSIM and AP; intervals are 95 % bootstrap intervals over scenes and seeds, those of differences
paired by scene and seed.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from ablation_runs import add_run_options, print_tables, run_folder
from ablation_task import AblationTask
from ablation_variants import SETS, Variant

from tokengroups.data.example import FramePlan, cut_example
from tokengroups.data.procedural import ProceduralRooms
from tokengroups.encoders import Geometry
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.io.files import write_text
from tokengroups.training.experiments import read_experiment
from tokengroups.training.loop import train

METRICS = ("psnr", "ssim", "ap_all", "ap50_all", "ap25_all", "ap_objects", "ap50_objects")
CONFIG = Path(__file__).parents[1] / "configs" / "token_groups_tiny.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_options(parser, SETS, steps=400, held_out=24)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--scenes", type=int, default=400, help="training scenes of a run, drawn by its seed")
    args = parser.parse_intermixed_args()
    variants = {name: SETS[args.set][name] for name in args.only or SETS[args.set]}
    if not args.table:
        logging.basicConfig(level=logging.WARNING)
        for seed in args.seeds:
            cache: dict[bytes, Geometry] = {}
            for name, variant in variants.items():
                run(args, name, variant, seed, cache)
    print_tables(args, variants, METRICS)


def run(args: argparse.Namespace, name: str, variant: Variant, seed: int, cache: dict[bytes, Geometry]) -> None:
    """Train a variant's stages and measure the last one; nothing if that is done already."""
    folder = run_folder(args, name, seed)
    if (folder / "result.json").exists():
        return
    start_from: list[str] = []
    for number, stage in enumerate(variant.stages):
        output = folder / f"stage{number}"
        steps = round(stage.steps * args.steps)
        settings = {
            "seed": seed, "steps": steps, "output": output, "warmup_steps": max(1, steps // 20),
            "evaluate_every": steps, "checkpoint_every": 100, "trackers": "[]",
        }  # fmt: skip
        overrides = [f"training.{key}={value}" for key, value in settings.items()]
        overrides += [f"losses.segmentation_warmup_steps={steps // 4}"]
        overrides += [*args.overrides, *variant.overrides, *stage.overrides, *start_from]
        experiment = read_experiment(args.config, overrides)
        task = AblationTask(experiment.config, stage.system, args.scenes, cache)
        result = train(task, experiment.config.training, experiment.description())
        if not result.finished:  # never measured: only whole runs may stand in a table
            raise SystemExit(f"{output}: stopped at step {result.step} of {steps}; the same command goes on")
        task.system.load_start(str(output / "weights"))
        start_from = [f"start_from={output / 'weights'}"]
    text = json.dumps({"variant": name, "seed": seed, **measure(args, task)}, indent=1)
    write_text(folder / "result.json", text + "\n")


def measure(args: argparse.Namespace, task: AblationTask) -> dict[str, list[float]]:
    """Every metric of every held-out room, by the protocol of `tokengroups evaluate`."""
    data = task.experiment.data
    protocol = EvaluationData("procedural", FramePlan(data.context_views), "test", args.evaluation_seed)
    rooms = ProceduralRooms(
        root=data.root, num_frames=protocol.plan.length, size=data.size, seeds=(args.evaluation_seed,),
        num_rooms=args.held_out,
    )  # fmt: skip
    scenes = (cut_example(rooms[index], protocol.plan) for index in rooms.splits["test"])
    per_scene = evaluate_scenes(task.system.predict, scenes, protocol, "ablation").to_json()["per_scene"]
    return {metric: [scene[metric] for scene in per_scene] for metric in METRICS}


if __name__ == "__main__":
    main()
