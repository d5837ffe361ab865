"""Ablations of instance fields: every variant trained alike, from several seeds, measured on the same held-out rooms.

Run: ``python benchmarks/ablate_fields.py losses|branch [--seeds 0 1 2] [--steps 1600] [--only VARIANT ...]
[--out out/ablate] [key=value ...]``, then the same with ``--table``. A run that was stopped goes on when the same
command is given again, and finished ones are not repeated, so that several processes can share the work.

``losses`` compares the forms of the contrastive loss on the shipped tiny head; ``branch`` compares attention to the
point head's maps and the training of the backbone on IGGT's own branch. All variants of a seed see the same rooms in
the same order. Numbers are means over rooms of 8 photos; intervals are 95 % bootstrap intervals over rooms and seeds,
those of differences paired by room and seed.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from ablation_runs import add_run_options, print_tables, run_folder, train_run
from ablation_variants import Variant, one
from room_fields import room_fields

from tokengroups.evaluation.tracking import nearest_true_means, track_scores
from tokengroups.io.files import write_text
from tokengroups.systems.iggt.clustering import ClusteringConfig, cluster_field

METRICS = ("t_miou", "t_miou_ceiling", "t_sr")
CONFIGS = Path(__file__).parents[1] / "configs"
VIEWS = 8
# The first row of a set is what the others are compared with.
SETS = {
    "losses": {
        "author's + cross-entropy": Variant(),
        "author's": one("losses.classification=0"),
        "cross-entropy": one("losses.pull=0", "losses.push=0", "losses.cross_view=0"),
        "pairs": one("losses.form=pairs", "losses.classification=0", "losses.samples=1024"),
    },
    "branch": {
        "frozen backbone": Variant(),
        "without fusion": one("model.head.fusion=false"),
        "paper's layout": one("model.head.layout=paper"),
        "trained backbone": one("encoder_lr_scale=0.1"),
    },
}
CONFIG = {"losses": CONFIGS / "iggt_tiny.yaml", "branch": CONFIGS / "iggt_branch.yaml"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_options(parser, SETS, steps=1600, held_out=24)
    args = parser.parse_intermixed_args()
    variants = {name: SETS[args.set][name] for name in args.only or SETS[args.set]}
    if not args.table:
        logging.basicConfig(level=logging.WARNING)
        for seed in args.seeds:
            for name, variant in variants.items():
                run(args, name, variant, seed)
    print_tables(args, variants, METRICS)


def run(args: argparse.Namespace, name: str, variant: Variant, seed: int) -> None:
    """Train and measure a variant; nothing if that is done already."""
    data = train_run(args, CONFIG[args.set], name, variant, seed)
    if data is None:
        return
    folder = run_folder(args, name, seed)
    numbers = measure(args, folder / "weights", data.root)
    text = json.dumps({"variant": name, "seed": seed, **numbers}, indent=1)
    write_text(folder / "result.json", text + "\n")


def measure(args: argparse.Namespace, weights: Path, root: str | None) -> dict[str, list[float]]:
    """Every metric of every held-out room, clustered as by default."""
    numbers: dict[str, list[float]] = {name: [] for name in METRICS}
    for _, field, ids in room_fields(weights, args.evaluation_seed, args.held_out, VIEWS, root):
        found = track_scores(cluster_field(field, ClusteringConfig()).labels, ids).summary()
        ceiling = track_scores(nearest_true_means(field, ids), ids).summary()
        for name, value in zip(METRICS, (found["t_miou"], ceiling["t_miou"], found["t_sr"]), strict=True):
            numbers[name].append(value)
    return numbers


if __name__ == "__main__":
    main()
