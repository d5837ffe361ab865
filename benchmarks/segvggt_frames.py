"""Seconds and memory of SegVGGT for many photos, or its arithmetic at the published size.

Run: ``python benchmarks/segvggt_frames.py --weights W [--photos 10 20 50 100 200] [--json FILE]`` or ``--flops
[--size 392x518]`` in place of the weights.

Seconds are of the trunk with the geometry heads, of the query branch (dense head and queries), and of decoding to one
label per pixel; memory is the peak of the process, weights included. ``--flops`` counts the products and sums of
matrix products, convolutions and attention of the published network (Q 400, 18 classes) without running it, in 1e12
(Tflop), and the query branch's share of VGGT-1B's.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from render import status_mb
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from views import reset_peak_mb

from tokengroups.cli.main import guarded
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.systems import load_model
from tokengroups.systems.segvggt.config import SegVGGTConfig
from tokengroups.systems.segvggt.decode import exclusive_instances
from tokengroups.systems.segvggt.network import SegVGGTNetwork
from tokengroups.systems.segvggt.system import SegVGGT

PARTS = ("trunk", "queries", "decode")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--weights")
    kind.add_argument("--flops", action="store_true")
    parser.add_argument("--photos", type=int, nargs="+", default=[10, 20, 50, 100, 200])
    parser.add_argument("--size", metavar="HxW", help="of the photos; default: the weights' own, or 392x518")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = count_rows(args) if args.flops else measure_rows(args)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of every part, after a first run of two photos."""
    system = load_model(args.weights)
    if not isinstance(system, SegVGGT):
        raise UserError(f"{args.weights}: no instance queries; give weights of segvggt")
    height, width = photo_size(args, f"{system.image_size}x{system.image_size}", system.size_multiple)
    measure(system, torch.rand(1, 2, 3, height, width))
    print("| photos | trunk s | queries s | decode s | total s | peak GB |\n|--:|--:|--:|--:|--:|--:|", flush=True)
    rows = []
    for count in args.photos:
        reset_peak_mb()
        found = measure(system, torch.rand(1, count, 3, height, width))
        row = {"photos": count, **found, "total": sum(found.values()), "peak_gb": (status_mb("VmHWM") or 0) / 1e3}
        print("| {photos} | {trunk:.2f} | {queries:.2f} | {decode:.2f} | {total:.2f} | {peak_gb:.2f} |".format(**row))
        rows.append(row)
    return rows


@torch.no_grad()
def measure(system: SegVGGT, images: torch.Tensor) -> dict[str, float]:
    """Seconds of the parts of one pass."""
    seconds = []

    def timed(call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
        return result

    output, layers = timed(lambda: system.joint.run_trunk(images))
    found = timed(lambda: system.joint.read(images, output, layers))
    size_hw = (images.shape[-2], images.shape[-1])
    scene = (found.queries[0], found.features[0], found.class_logits[0])
    timed(lambda: exclusive_instances(*scene, size_hw, system.decoding))
    return dict(zip(PARTS, seconds, strict=True))


def count_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Operations of the published network, in units of 1e12."""
    height, width = photo_size(args, "392x518", VGGTConfig().patch_size)
    print("| photos | VGGT-1B, Tflop | query branch, Tflop | share |\n|--:|--:|--:|--:|", flush=True)
    rows = []
    with torch.device("meta"):
        network = SegVGGTNetwork(VGGT(VGGTConfig()), SegVGGTConfig()).eval()
    network.to_empty(device="cpu").requires_grad_(False)  # never touched, so that it takes no memory
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes without numbers
        for count in args.photos:
            images = torch.rand(1, count, 3, height, width)
            trunk = operations(lambda shown=images: network.run_trunk(shown))
            whole = operations(lambda shown=images: network(shown))
            row = {"photos": count, "trunk": trunk, "queries": whole - trunk, "more": (whole - trunk) / trunk}
            print("| {photos} | {trunk:.1f} | {queries:.1f} | {more:.0%} |".format(**row), flush=True)
            rows.append(row)
    return rows


def photo_size(args: argparse.Namespace, own: str, multiple: int) -> tuple[int, int]:
    """Height and width of the photos, and a check of their number."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", args.size or own)
    if found is None or any(not int(side) or int(side) % multiple for side in found.groups()):
        raise UserError(f"--size: give height x width, two multiples of {multiple}, like {own}")
    if min(args.photos) < 1:
        raise UserError("--photos: give numbers from 1")
    return int(found[1]), int(found[2])


@torch.no_grad()
def operations(call: Callable[[], Any]) -> float:
    """Products and sums of a call, 1e12."""
    # The counter knows no attention kernel of the CPU, but the products that it stands for.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops() / 1e12


if __name__ == "__main__":
    raise SystemExit(guarded(main))
