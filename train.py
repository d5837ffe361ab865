"""Train an encoder or token groups: the same command starts a run and goes on with a stopped one.

torchrun --nproc_per_node 2 train.py configs/vggt_tiny.yaml       # two processes on CPU
accelerate launch train.py configs/token_groups_tiny.yaml         # as accelerate is configured
python train.py configs/vggt_tiny.yaml training.steps=100 training.output=out/short
"""

from __future__ import annotations

import argparse
import sys

from tokengroups.cli import train
from tokengroups.cli.main import guarded


def main() -> int:
    """Parse, train; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=train.HELP,
        epilog=f"examples:\n{train.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.configure(parser)
    args = parser.parse_args()
    return guarded(lambda: train.run(args))


if __name__ == "__main__":
    sys.exit(main())
