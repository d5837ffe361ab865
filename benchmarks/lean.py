"""CPU time and peak memory of reconstruction with a VGGT of full size, beside another checkout of this package.

Run: ``python benchmarks/lean.py --before DIR [--parts time memory slope] [--weights FILE] [--pairs 3] [--json FILE]``.

``git worktree add --detach DIR COMMIT`` makes the checkout. The weights are random, have the official names and the
size of VGGT-1B, and are written to ``--weights`` if that file is missing; what is measured does not depend on values.
Above them is the token-group model of full size, so that `begin` and `complete` run: what `tokengroups reconstruct`
runs between loading and saving. Every run is a process of its own, the checkouts take turns, all with one thread:

* ``time``: CPU seconds (`time.process_time`) for 2 photos of 252x252, median of the pairs;
* ``memory``: peak memory over the weights for 8 photos of 252x252: anonymous resident memory, read every 5 ms, less
  what there was before; the weights are mapped from their file and do not count;
* ``slope``: the same for 8, 16 and 24 photos of 518x392, and the memory of 100 by a straight line through the last two.
  The network has 4 instead of 24 layers, all kept, and a DINO of 2: memory does not depend on the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import torch
from render import status_mb

from tokengroups.checkpoint import write_tensors
from tokengroups.encoders.vggt import VGGT, VGGTConfig, load_official
from tokengroups.systems.token_groups import TokenGroups, TokenGroupsConfig

PARTS = ("time", "memory", "slope")
SHALLOW = {"dino_depth": 2, "depth": 4, "dpt_layers": (0, 1, 2, 3)}
SIZE_HW, LARGE_HW = (252, 252), (392, 518)
COUNTS, MANY = (8, 16, 24), 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of another commit")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--weights", type=Path, default=Path("out/random_vggt_1b.safetensors"))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)  # a child: photos, height, width, shallow, watched
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.run is not None:
        count, height, width, shallow, watched = map(int, args.run)
        print(json.dumps(measure(args.weights, count, (height, width), bool(shallow), bool(watched))))
        return
    trees = {"now": Path(__file__).resolve().parents[1]} | ({"before": args.before.resolve()} if args.before else {})
    report: dict[str, Any] = {}
    for part in args.parts:
        report[part] = globals()[f"_{part}"](args, trees)
        print(f"{part}: {json.dumps(report[part], indent=1)}", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(weights: Path, count: int, size_hw: tuple[int, int], shallow: bool, watched: bool) -> dict[str, float]:
    """CPU seconds of one reconstruction in this process, and if `watched` its peak memory in MB over the weights."""
    encoder = load_official(weights, replace(VGGTConfig(), **(SHALLOW if shallow else {})))
    torch.manual_seed(0)
    model = TokenGroups(encoder, TokenGroupsConfig(context_patch=14, anchor_stride=14)).eval()
    photos = torch.rand(count, 3, *size_hw)
    with torch.no_grad():  # reads all pages
        assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    before, readings, done = status_mb("RssAnon"), [0.0], Event()
    watch = Thread(target=lambda: [readings.append(status_mb("RssAnon")) for _ in iter(lambda: done.wait(0.005), True)])
    if watched:  # reading costs a percent of the time
        watch.start()
    start = time.process_time()
    with torch.no_grad():
        model.complete(model.begin(photos, None, ()), ())
    seconds = time.process_time() - start
    done.set()
    stored = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    if not watched:
        return {"seconds": seconds, "weights_mb": stored}
    watch.join()
    return {"peak_mb": max(readings) - before, "weights_mb": stored}


def write_weights(path: Path, config: VGGTConfig) -> None:
    """Random weights under the official names: narrow matrices, the initial gains, zero biases."""
    with torch.device("meta"):
        shapes = VGGT(config).state_dict()
    generator = torch.Generator().manual_seed(0)
    gains = {"patch_embed": config.dino_layer_scale}
    tensors = {}
    for name, value in shapes.items():
        tensor = torch.zeros(value.shape)
        if name.endswith("gamma"):
            tensor.fill_(gains.get(name.split(".")[1], config.layer_scale))
        elif "norm" in name and name.endswith("weight"):
            tensor.fill_(1)
        elif not name.endswith("bias"):
            tensor.normal_(std=0.02, generator=generator)
        tensors[name] = tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {})


def _child(
    tree: Path, weights: Path, count: int, size_hw: tuple[int, int], *, shallow: bool = False, watched: bool = True
) -> dict[str, float]:
    words = ["--weights", str(weights), "--run", *map(str, (count, *size_hw, int(shallow), int(watched)))]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *words]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def _weights(args: argparse.Namespace, shallow: bool = False) -> Path:
    path = args.weights.with_stem(args.weights.stem + "_shallow") if shallow else args.weights
    if not path.exists():
        write_weights(path, replace(VGGTConfig(), **(SHALLOW if shallow else {})))
    return path


def _time(args: argparse.Namespace, trees: dict[str, Path]) -> dict[str, Any]:
    path, found = _weights(args), {name: [] for name in trees}
    for _ in range(args.pairs):
        for name, tree in trees.items():
            found[name].append(_child(tree, path, 2, SIZE_HW, watched=False)["seconds"])
    report: dict[str, Any] = {name: {"seconds": values, "median": median(values)} for name, values in found.items()}
    if "before" in trees:
        shares = [1 - now / before for now, before in zip(found["now"], found["before"], strict=True)]
        report["less"] = median(shares)
    return report


def _memory(args: argparse.Namespace, trees: dict[str, Path]) -> dict[str, Any]:
    found = {name: _child(tree, _weights(args), 8, SIZE_HW) for name, tree in trees.items()}
    if "before" not in trees:
        return found
    return {**found, "ratio": found["now"]["peak_mb"] / found["before"]["peak_mb"]}


def _slope(args: argparse.Namespace, trees: dict[str, Path]) -> dict[str, Any]:
    path, report = _weights(args, shallow=True), {}
    for name, tree in trees.items():
        peaks = {count: _child(tree, path, count, LARGE_HW, shallow=True)["peak_mb"] for count in COUNTS}
        slope = (peaks[COUNTS[-1]] - peaks[COUNTS[-2]]) / (COUNTS[-1] - COUNTS[-2])
        report[name] = {
            "peak_mb": peaks,
            "mb_a_photo": slope,
            f"mb_of_{MANY}": peaks[COUNTS[-1]] + slope * (MANY - COUNTS[-1]),
        }
    return report


if __name__ == "__main__":
    main()
