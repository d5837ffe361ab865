"""Kill tiny trainings of every task at random moments (SIGKILL), resume them, and compare with uninterrupted ones.

python benchmarks/kill_training.py --kills 50

A training must end with the same bits: exported weights, last checkpoint, and curves but for their times. No temporary
file may be left. The kills are shared among the tasks; the moment is drawn between the start of a run and its usual
end, and checkpoints come often, so that runs get somewhere between two kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tokengroups.checkpoint import read_tensors
from tokengroups.encoders import save_encoder
from tokengroups.encoders.vggt_tiny import VGGTTiny, VGGTTinyConfig
from tokengroups.training.log import read_metrics

PROGRAM = Path(__file__).parents[1] / "train.py"
ENCODER = VGGTTinyConfig(
    patch_size=8, image_size=32, embed_dim=32, num_heads=2, dino_depth=1, camera_depth=1, camera_heads=2,
    dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=4, stem_channels=(4, 8, 16), matching_dim=8,
)  # fmt: skip
GROUPS = {
    "context_patch": 8, "anchor_stride": 4, "num_anchors": 32, "num_groups": 4, "gaussians_per_anchor": 2, "dim": 16,
    "num_heads": 2, "anchor_layers": 1, "group_layers": 1,
}  # fmt: skip
TASKS: dict[str, dict[str, Any]] = {
    "geometry": {"start_from": "encoder", "model": {}},
    "single_view": {"encoder": "encoder", "model": {"channels": [8, 8, 16, 32], "depth": 1}},
    "token_groups": {"encoder": "encoder", "model": GROUPS, "losses": {"lpips": 0.0}},
    "token_groups_tiny": {"encoder": "encoder", "model": GROUPS, "losses": {"lpips": 0.0, "anchors": 1.0}},
    "pixel_gaussians": {"start_from": "encoder", "model": {"stride": 2, "dim": 8}, "losses": {"lpips": 0.0}},
}


def main() -> None:
    """Run all tasks; exits with 1 if one of them ends otherwise than uninterrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="shared among the tasks (%(default)s)")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, wrong = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        save_encoder(folder / "encoder", VGGTTiny(ENCODER).state_dict(), ENCODER)
        for index, task in enumerate(args.tasks):
            kills = args.kills * (index + 1) // len(args.tasks) - args.kills * index // len(args.tasks)
            starts, faults = try_task(folder, task, args.steps, kills, rng)
            wrong += len(faults)
            print(f"{task}: {kills} kills, {starts} starts: {'; '.join(faults) or 'equal'}", flush=True)
    raise SystemExit(wrong > 0)


def try_task(folder: Path, task: str, steps: int, kills: int, rng: random.Random) -> tuple[int, list[str]]:
    """Train without and with kills; return the number of starts and what differs or is left in the end."""
    config = write_config(folder, task, steps)
    began = time.monotonic()
    with start(folder, config, "whole") as process:
        wait_for(folder / "whole", process)
        prepared = time.monotonic() - began
        assert process.wait() == 0, f"{task} fails without any kill"
    usual = time.monotonic() - began - prepared
    starts, done, faults = 0, 0, []
    while done < kills:
        starts += 1
        with start(folder, config, "killed") as process:
            if rng.random() < 0.8:  # else while it still starts
                wait_for(folder / "killed", process)
                time.sleep(rng.random() * usual)
            else:
                time.sleep(rng.random() * prepared)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                done += 1
        if process.returncode == 0:  # finished before the kill: begin anew with the kills that are left
            faults += differences(folder / "whole", folder / "killed")
            (folder / "killed").rename(folder / f"finished_{task}_{starts}")
    with start(folder, config, "killed") as process:
        assert process.wait() == 0, f"{task} fails after a kill"
    faults += differences(folder / "whole", folder / "killed")
    for name in ("whole", "killed"):
        (folder / name).rename(folder / f"{name}_{task}")
    return starts + 1, faults


def write_config(folder: Path, task: str, steps: int) -> Path:
    """The configuration of a task on small rooms, with a checkpoint every other step."""
    training = {
        "output": "?", "steps": steps, "batch_size": 2, "warmup_steps": 2, "log_every": 3, "evaluate_every": 7,
        "checkpoint_every": 2, "trackers": [], "device": "cpu",
    }  # fmt: skip
    data = {
        "root": str(folder / "rooms"), "options": {"num_rooms": 4}, "num_frames": 5, "size": 32, "evaluation_scenes": 1
    }  # fmt: skip
    given = {key: str(folder / "encoder") if value == "encoder" else value for key, value in TASKS[task].items()}
    if task == "geometry":
        given["model"] = json.loads((folder / "encoder" / "config.json").read_text())["config"]
    path = folder / f"{task}.yaml"
    path.write_text(json.dumps({"task": task, "training": training, "data": data, **given}))
    return path


def start(folder: Path, config: Path, output: str) -> subprocess.Popen[bytes]:
    """Start or resume a training in a process of its own, on one thread."""
    command = [sys.executable, str(PROGRAM), str(config), f"training.output={folder / output}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_for(output: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run writes into its folder, or is over."""
    before = newest(output)
    while process.poll() is None and newest(output) == before:
        time.sleep(0.02)


def newest(output: Path) -> float:
    """Time of the last change in a folder; 0 if there is none."""
    return max((path.stat().st_mtime for path in [output, *output.glob("*")] if path.exists()), default=0.0)


def differences(whole: Path, killed: Path) -> list[str]:
    """What is not as in the uninterrupted run."""
    files = [{str(path.relative_to(each)) for path in each.rglob("*")} for each in (whole, killed)]
    found = [f"{name} is left or missing" for name in sorted(files[0] ^ files[1])]
    found += [f"{path.name} is left" for path in whole.parent.rglob(".*") if path.is_file()]
    for name in sorted(files[0] & files[1]):
        one, two = whole / name, killed / name
        if name.endswith(".safetensors"):
            first, second = read_tensors(one), read_tensors(two)
            same = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        elif name.endswith(".jsonl"):
            same = [timeless(row) for row in read_metrics(one)] == [timeless(row) for row in read_metrics(two)]
        else:
            same = one.is_dir() or one.read_bytes() == two.read_bytes()
        found += [] if same else [f"{name} differs"]
    return found


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the curves without its times."""
    return {key: value for key, value in row.items() if "second" not in key}


if __name__ == "__main__":
    main()
