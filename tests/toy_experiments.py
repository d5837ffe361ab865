"""Configurations of small systems on small rooms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokengroups.training.experiments import Experiment, read_experiment

MODEL = {
    "context_patch": 16, "anchor_stride": 8, "num_anchors": 128, "num_groups": 8, "gaussians_per_anchor": 4, "dim": 48,
    "num_heads": 2, "anchor_layers": 1, "group_layers": 1,
}  # fmt: skip


def read(folder: Path, encoder: Path, task: str = "token_groups", **changes: Any) -> Experiment:
    """The configuration of a task with `a__b=value` for ``a.b=value``; `folder` keeps rooms and files."""
    settings: dict[str, Any] = {
        "task": task,
        "training": {
            "output": str(folder / f"run_{task}"), "steps": 10, "batch_size": 2, "log_every": 1, "trackers": [],
            "device": "cpu",
        },
        "data": {
            "root": str(folder / "rooms"), "options": {"num_rooms": 3}, "num_frames": 5, "size": 64,
            "evaluation_scenes": 1,
        },
        "losses": {"lpips": 0.0},
    }  # fmt: skip
    if task == "pixel_gaussians":
        settings |= {"start_from": str(encoder), "model": {"stride": 2, "dim": 8}}
    elif task.startswith("iggt"):
        model = {"head": {"single_view_features": False}} if task == "iggt_tiny" else {}
        settings |= {"encoder": str(encoder), "model": model, "losses": {"min_cells": 5}}
    elif task == "segvggt":
        names = ["wall", "floor", "chair"]
        network = {"num_classes": len(names), "lora_rank": 2, "queries": {"number": 6, "std": 0.5, "layer_scale": 0.2}}
        settings |= {"encoder": str(encoder), "model": {"network": network, "class_names": names}, "losses": {}}
    else:
        settings |= {"encoder": str(encoder), "model": MODEL}
        settings["losses"] |= {"segmentation": 0.1, "segmentation_warmup_steps": 0}
    path = folder / f"{task}.yaml"
    path.write_text(json.dumps(settings))
    return read_experiment(path, [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()])
