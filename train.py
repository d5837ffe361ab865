"""Train what a YAML file describes, like ``tokengroups train``; the same command resumes a stopped run.

torchrun --nproc_per_node 2 train.py configs/vggt_tiny.yaml       # two processes on CPU
accelerate launch train.py configs/token_groups_tiny.yaml         # as accelerate is configured
python train.py configs/vggt_tiny.yaml training.steps=100 training.output=out/short
"""

from __future__ import annotations

from tokengroups.cli import train
from tokengroups.cli.main import run_alone

if __name__ == "__main__":
    raise SystemExit(run_alone(train, "train.py"))
