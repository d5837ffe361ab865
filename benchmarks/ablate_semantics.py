"""Semantics stored in the anchors alone, in the groups alone, or in both (the paper's Table 4, small).

Run: ``python benchmarks/ablate_semantics.py [--weights token_groups_tiny] [--seeds 0 1 2] [--steps 150]
[--num-scenes 32] [--json FILE]``; ``--seeds`` one at a time in several processes, then ``--merge FILE ...``.

On frozen token groups three semantic heads are trained side by side, on the same scenes in the same order, for the same
number of steps: the seed decides their initial values and the order. Every head is then measured by the protocol of
`tokengroups evaluate` on the same held-out rooms, the same for all seeds. Intervals are Student's over the seeds; those
of differences are paired. Retrieval needs group embeddings, which the first variant does not have.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import interval
from torch import Tensor
from tqdm import tqdm

from tokengroups.alignment import align_cameras
from tokengroups.data.example import FramePlan, cut_example
from tokengroups.data.procedural import CLASS_NAMES, generate_room
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.evaluation.semantic import SemanticEvaluation
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import autocast
from tokengroups.systems.token_groups import TokenGroups, TokenGroupsConfig, TokenGroupsOutput
from tokengroups.systems.token_groups.distillation import distillation_losses
from tokengroups.systems.token_groups.semantic_head import SemanticHead
from tokengroups.text.teachers import Teacher
from tokengroups.training.experiments import read_experiment
from tokengroups.training.optim import learning_rate, set_learning_rate
from tokengroups.training.tasks.system import SystemTask

CONFIG = Path(__file__).parents[1] / "configs" / "token_groups_tiny_semantics.yaml"
VARIANTS = {"anchor-only": (True, False), "group-only": (False, True), "full": (True, True)}  # residuals, embeddings
KEYS = (
    "miou_source", "miou_target", "acc_target", "miou_target_dataset", "recall1_names", "recall1_unseen",
    "semantic_scalars",
)  # fmt: skip
DIFFERENCES = (("full", "group-only"), ("group-only", "anchor-only"), ("full", "anchor-only"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="token_groups_tiny", help="token groups with semantics")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--num-scenes", type=int, default=32)
    parser.add_argument("--evaluation-seed", type=int, default=104)
    parser.add_argument("--cache", default="out/rooms", help="folder of generated training rooms")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--merge", type=Path, nargs="+", help="print the table of these JSON files instead")
    args = parser.parse_args()
    if args.merge:
        runs = [run for file in args.merge for run in json.loads(file.read_text())]
    else:
        runs = [run_seed(args, seed) for seed in args.seeds]
    print_tables(runs)
    if args.json is not None:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
        print(f"\nwrote {args.json}")


def run_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and measure the three variants."""
    settings = {"steps": args.steps, "batch_size": args.batch_size, "seed": seed, "warmup_steps": 20}
    overrides = [f"training.{name}={value}" for name, value in settings.items()]
    overrides += [f"start_from={args.weights}", f"data.root={args.cache}", "data.supervise_context=false"]
    task = read_experiment(CONFIG, overrides).build()
    assert isinstance(task, SystemTask)
    system: Any = task.system
    assert isinstance(system, TokenGroups)
    torch.manual_seed(seed)
    heads = {name: make_head(system.network.config, *parts) for name, parts in VARIANTS.items()}
    train(task, system, heads)
    return {"seed": seed} | {name: measure(system, head, args) for name, head in heads.items()}


def make_head(config: TokenGroupsConfig, residuals: bool, embeddings: bool) -> SemanticHead:
    """An untrained head that fits the token groups."""
    return SemanticHead(
        config.dim, config.semantic_dim, config.residual_dim if residuals else 0, group_embeddings=embeddings
    )


def train(task: SystemTask, system: TokenGroups, heads: dict[str, SemanticHead]) -> None:
    """Train all heads on the same decoded scenes."""
    training, masks = task.experiment.training, task.experiment.losses.masks
    optimizers = {name: torch.optim.AdamW(decay_groups(head, training.weight_decay)) for name, head in heads.items()}
    for step in tqdm(range(training.steps), desc=f"seed {training.seed}", unit="step"):
        batch = task.batch(step, range(training.batch_size))
        with autocast(training.precision, batch.context.images.device):
            output, inputs, points = decode(system, batch.context.images)
        cameras, _ = align_cameras(batch.targets.cameras, batch.context, points)
        targets = [
            teacher_of(system).targets(batch.targets.map(lambda tensor, i=scene: tensor[i]), classes)
            for scene, classes in enumerate(batch.classes)
        ]  # fmt: skip
        for name, head in heads.items():
            decoded = replace(output, semantics=head(*inputs))
            losses = distillation_losses(decoded, cameras, batch.targets.group_ids, targets, masks)
            set_learning_rate(optimizers[name], learning_rate(step, training))
            optimizers[name].zero_grad()
            losses.total.backward()
            optimizers[name].step()


@torch.no_grad()
def decode(system: TokenGroups, photos: Tensor) -> tuple[TokenGroupsOutput, list[Tensor], Tensor]:
    """Decoded groups; what a head reads (group tokens, anchor tokens, assignment) in float32; the photos' points."""
    inputs: list[Tensor] = []
    head = system.network.semantic_head
    assert head is not None
    hook = head.register_forward_pre_hook(lambda _, seen: inputs.extend(tensor.float() for tensor in seen))
    geometry = system.encode_batch(photos)
    output = system.network(photos, geometry)
    hook.remove()
    return output, inputs, geometry.points


def teacher_of(system: TokenGroups) -> Teacher:
    """The teacher that the configuration distils from."""
    assert system.objective is not None and system.objective.teacher is not None
    return system.objective.teacher


def measure(system: TokenGroups, head: SemanticHead, args: argparse.Namespace) -> dict[str, float | None]:
    """The numbers of `tokengroups evaluate` on held-out rooms with this head."""
    system.network.semantic_head = head.eval()
    data = EvaluationData("procedural", FramePlan(2), "test", args.evaluation_seed)
    rooms = (generate_room(args.evaluation_seed, index, "test", 5) for index in range(args.num_scenes))
    result = evaluate_scenes(
        system.predict,
        (cut_example(room, data.plan) for room in rooms),
        data,
        args.weights,
        semantics=SemanticEvaluation(teacher_of(system).cache, CLASS_NAMES),
    ).to_json()
    numbers = {key: result[key] for key in KEYS}
    if head.embedding is None:  # all zero: nobody would store them
        numbers["semantic_scalars"] -= result["semantic_units"] * head.dim
    return numbers


def print_tables(runs: list[dict[str, Any]]) -> None:
    """Means over the seeds with 95 % intervals, then paired differences, as Markdown."""
    seeds = ", ".join(str(run["seed"]) for run in runs)
    print(f"seeds {seeds}\n\n| variant | {' | '.join(KEYS)} |\n|---|{'--:|' * len(KEYS)}")
    for variant in VARIANTS:
        cells = [cell([run[variant][key] for run in runs], 0 if key == "semantic_scalars" else 3) for key in KEYS]
        if variant == "anchor-only":  # no embeddings to search
            cells = ["-" if key.startswith("recall") else text for key, text in zip(KEYS, cells, strict=True)]
        print(f"| {variant} | {' | '.join(cells)} |")
    compared = [key for key in KEYS if key.startswith(("miou", "acc"))]
    print(f"\n| paired difference | {' | '.join(compared)} |\n|---|{'--:|' * len(compared)}")
    for first, second in DIFFERENCES:
        cells = [cell([run[first][key] - run[second][key] for run in runs], 3) for key in compared]
        print(f"| {first} - {second} | {' | '.join(cells)} |")


def cell(values: list[float], digits: int) -> str:
    mean, half = interval(np.array(values, dtype=float))
    return f"{mean:.{digits}f} ± {half:.{digits}f}" if half > 0 else f"{mean:.{digits}f}"


if __name__ == "__main__":
    main()
