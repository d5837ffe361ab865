"""Seconds and memory of an encoder for 1 to 200 photos.

Run: ``python benchmarks/frames.py [--photos 1 2 4 8] [--size 392x518] [--precision bf16 fp32] [--device cuda]
[--encoder vggt_1b|NAME|DIR] [--json FILE]``. ``vggt_1b`` is VGGT-1B with random weights, which costs the same as the
trained one. Seconds are the median of the runs after a first one. Memory is the peak, weights included: of the GPU, or
of the process.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from render import status_mb
from torch import nn
from views import reset_peak_mb

from tokengroups.encoders import Encoder, load_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.nn.precision import Precision, autocast

RANDOM = "vggt_1b"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--size", default="392x518", metavar="HxW", help="multiples of the patch size")
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoder", default=RANDOM)
    parser.add_argument("--repeats", type=int, default=3, help="runs of every row after the first one")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    encoder = build(args.encoder, args.device)
    height, width = map(int, args.size.split("x"))
    rows = []
    print("| precision | photos | seconds | peak GB |\n|---|--:|--:|--:|", flush=True)
    for precision in args.precision:
        for count in args.photos:
            photos = torch.rand(1, count, 3, height, width, device=args.device)
            row = {"precision": precision, "photos": count} | measure(encoder, photos, precision, args.repeats)
            rows.append(row)
            print("| {precision} | {photos} | {seconds:.3f} | {peak_gb:.1f} |".format(**row), flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def build(source: str, device: str) -> Encoder:
    """The encoder, frozen, on the device."""
    torch.manual_seed(0)
    if source == RANDOM:
        with torch.device(device):
            encoder = VGGT(VGGTConfig())
    else:
        encoder = load_encoder(source)
    if isinstance(encoder, nn.Module):
        encoder.to(device).eval().requires_grad_(False)
    return encoder


@torch.no_grad()
def measure(encoder: Encoder, photos: torch.Tensor, precision: Precision, repeats: int) -> dict[str, Any]:
    """Seconds of one `encode`, and the peak of the memory."""
    seconds = []
    cuda = photos.is_cuda
    torch.cuda.reset_peak_memory_stats() if cuda else reset_peak_mb()
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with autocast(precision, photos.device):
            encoder.encode(photos)
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else (status_mb("VmHWM") or 0) / 1e3
    return {"seconds": float(np.median(seconds[1:])), "peak_gb": peak}


if __name__ == "__main__":
    main()
