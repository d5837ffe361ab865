"""Train an encoder or token groups: the same command starts a run and goes on with a stopped one.

    torchrun --nproc_per_node 2 train.py configs/vggt_tiny.yaml       # two processes on CPU
    accelerate launch train.py configs/token_groups_tiny.yaml         # as accelerate is configured
    python train.py configs/vggt_tiny.yaml training.steps=100 training.output=out/short
"""

from __future__ import annotations

import sys

from tokengroups.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
