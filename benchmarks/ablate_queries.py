"""Ablations of SegVGGT's queries: every variant trained alike, from several seeds, measured on the same held-out rooms.

Run: ``python benchmarks/ablate_queries.py fada|design [--seeds 0 1 2] [--steps 200] [--only VARIANT ...]
[--out out/ablate] [key=value ...]``, then the same with ``--table``. A run that was stopped goes on when the same
command is given again, and finished ones are not repeated, so that several processes can share the work.

``fada`` compares the alignment of frames (none, as a loss, as a loss and a matching cost) on walks that look around,
where an instance is seen in a minority of the frames; ``design`` compares which layers of the frozen trunk the queries
read, a mask decoder of its own on the finished tokens, and a trunk with LoRA. All variants of a seed see the same rooms
in the same order. Numbers are those of `queries.py`, with AP of one room at a time; intervals are 95 %
bootstrap intervals over rooms and seeds, those of differences paired by room and seed.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from ablation_runs import add_run_options, print_tables, run_folder, train_run
from ablation_variants import Variant, one
from queries import measure_room, read_rooms, summary

from tokengroups.data.procedural.generate import Gaze
from tokengroups.io.files import write_text
from tokengroups.systems import load_model
from tokengroups.systems.segvggt.system import SegVGGT

METRICS = ("ap", "ap50", "ap_swapped", "patch_share", "patch_share_uniform")
FRAMES = ("frame_share", "frame_share_uniform")  # on walks on which instances are out of sight
CONFIG = Path(__file__).parents[1] / "configs" / "segvggt_tiny.yaml"
VIEWS = 8
# The first row of a set is what the others are compared with.
SETS = {
    "fada": {
        "none": one("losses.attention=0"),
        "loss": one("losses.attention_in_matching=false"),
        "loss + cost": Variant(),
        "loss + cost, paper's weight": one("losses.attention=0.5", "losses.attention_normalisation=layers_frames"),
    },
    "design": {
        "all": Variant(),
        "early half": one("model.network.queries.layers=[0,1]"),
        "late half": one("model.network.queries.layers=[2,3]"),
        "interleaved": one("model.network.queries.layers=[1,3]"),
        "separate decoder": one("model.network.queries.layers=[3,3,3,3]"),
        "LoRA": one("trunk=lora"),
    },
}
GAZES: dict[str, Gaze] = {"fada": "around", "design": "centre"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_options(parser, SETS, steps=200, held_out=12)
    args = parser.parse_intermixed_args()
    variants = {name: SETS[args.set][name] for name in args.only or SETS[args.set]}
    if not args.table:
        logging.basicConfig(level=logging.WARNING)
        for seed in args.seeds:
            for name, variant in variants.items():
                run(args, name, variant, seed)
    print_tables(args, variants, metrics_of(args.set))


def metrics_of(name: str) -> tuple[str, ...]:
    return METRICS + (FRAMES if GAZES[name] == "around" else ())


def run(args: argparse.Namespace, name: str, variant: Variant, seed: int) -> None:
    """Train and measure a variant; nothing if that is done already."""
    gaze = GAZES[args.set]
    extra = [f"data.options.gaze={gaze}", f"training.warmup_steps={max(1, args.steps // 10)}"]
    if train_run(args, CONFIG, name, variant, seed, extra) is None:
        return
    folder = run_folder(args, name, seed)
    system = load_model(folder / "weights")
    assert isinstance(system, SegVGGT)
    rooms = list(read_rooms(system, args.evaluation_seed, args.held_out, VIEWS, gaze))
    pairs = zip(rooms, [*rooms[1:], rooms[0]], strict=True)
    measured = [summary([measure_room(system, room, other)]) for room, other in pairs]
    numbers = {metric: [room[metric] for room in measured] for metric in metrics_of(args.set)}
    text = json.dumps({"variant": name, "seed": seed, **numbers}, indent=1)
    write_text(folder / "result.json", text + "\n")


if __name__ == "__main__":
    main()
