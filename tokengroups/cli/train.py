"""`tokengroups train`, also `train.py`: start or resume the training that a YAML file describes."""

from __future__ import annotations

import argparse
import logging

from tokengroups.cli.output import say

HELP = "train what a YAML file describes; the same command resumes a stopped run"
EXAMPLES = """\
  tokengroups train configs/vggt_tiny.yaml
  tokengroups train configs/vggt_tiny.yaml training.steps=100 training.output=out/short
  torchrun --nproc_per_node 2 train.py configs/vggt_tiny.yaml     # two processes, one core each
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("config", help="YAML file, e.g. one of configs/")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to it, nested keys as a.b=value")


def run(args: argparse.Namespace) -> None:
    """Train; exits with 128 + signal after a clean stop by a signal."""
    from tokengroups.training.experiments import run_experiment

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    result = run_experiment(args.config, args.overrides)
    if result.is_main and result.finished:
        say(f"trained {result.step} steps: {result.output}/weights, curves in {result.output}/metrics.jsonl")
    elif result.is_main:
        say(f"stopped after {result.step} steps, saved in {result.output}/checkpoints; repeat the command to resume")
    if result.signal is not None:
        raise SystemExit(128 + result.signal)
