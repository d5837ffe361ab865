"""Clustering of instance fields: time, memory and quality of each method beside its ceiling and full HDBSCAN.

Run: ``python benchmarks/cluster.py [--sets 8x128x128 10x259x350 100x518x392] [--styles clear noisy close_pairs learned]
[--seeds 11 12 13] [--methods mean_shift linkage hdbscan full_hdbscan] [--granularity G] [--features FILE ...]
[--weights W [--rooms 12] [--views 8]] [--json FILE]``.

Fields are made up (synthetic_fields.py), made by trained weights from held-out rooms, or read: ``--features`` names
safetensors files with a `field` [V, E, H, W] and true `ids` [V, H, W] (-1 = unlabelled). Every measurement is a process
of its own with one thread, warmed up on a small field. `extra_mb` is how far the peak exceeds interpreter, libraries
and field, results included. `miou` is over all instances after one matching over all views, `ceiling` that of the
nearest true means. `full_hdbscan` takes all pixels and is stopped after five minutes. Styles other than the first are
measured at the first size only, and very large fields with the first seed only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import interval
from render import status_mb
from room_fields import room_fields
from scipy.spatial import KDTree
from synthetic_fields import STYLES, make_field
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from views import reset_peak_mb

from tokengroups.checkpoint import read_tensors, write_tensors
from tokengroups.evaluation.instance_field import joint_mean_iou, true_means_ceiling
from tokengroups.systems.iggt.clustering import METHODS, ClusteringConfig, cluster_field

FULL = "full_hdbscan"
LIMIT_S = 300
MAX_FULL_PIXELS = 2_000_000  # full HDBSCAN takes over five minutes at half of this already
REPEATS = 3  # of short measurements; the median counts
SHORT_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["8x128x128", "10x259x350", "100x518x392"], metavar="VxHxW")
    parser.add_argument("--styles", nargs="+", default=list(STYLES), choices=list(STYLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--methods", nargs="+", default=[*METHODS, FULL], choices=[*METHODS, FULL])
    parser.add_argument("--granularity", type=float, default=ClusteringConfig().granularity)
    parser.add_argument("--features", nargs="+", type=Path, metavar="FILE", help="real fields in place of made-up ones")
    parser.add_argument("--weights", help="fields of held-out rooms by these weights")
    parser.add_argument("--rooms", type=int, default=12, help="of every seed")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "METHOD"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_here(Path(args.measure[0]), args.measure[1], args.granularity)))
        return
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, file in fields(args, Path(folder)):
            rows += measure_field(name, file, args.methods, args.granularity)
    print_table(rows)
    if args.weights:
        print_means(rows)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"\nwrote {args.json}")


def fields(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every field; a made-up one is overwritten by the next."""
    if args.features:
        yield from ((file.stem, file) for file in args.features)
        return
    if args.weights:
        for seed in args.seeds:
            for name, field, ids in room_fields(args.weights, seed, args.rooms, args.views):
                write_tensors(folder / "field.safetensors", {"field": field.cpu(), "ids": ids.cpu()})
                yield f"{seed}: {name}", folder / "field.safetensors"
        return
    for number, shape in enumerate(args.sets):
        views, height, width = map(int, shape.split("x"))
        seeds = args.seeds if views * height * width < MAX_FULL_PIXELS else args.seeds[:1]
        for style in args.styles if number == 0 else args.styles[:1]:
            for seed in seeds:
                field, ids = make_field(views, (height, width), seed, STYLES[style])
                write_tensors(folder / "field.safetensors", {"field": field, "ids": ids})
                del field, ids
                yield f"{style} {seed}", folder / "field.safetensors"


def measure_field(name: str, file: Path, methods: Sequence[str], granularity: float) -> list[dict[str, Any]]:
    """One row for each method that ends in time."""
    tensors = read_tensors(file)
    ids = tensors["ids"].long()
    views, height, width = ids.shape
    ceiling = true_means_ceiling(tensors["field"], ids)
    rows = []
    for method in tqdm(methods, desc=f"{name}, {views} of {height}x{width}", unit="method", leave=False):
        if method == FULL and ids.numel() > MAX_FULL_PIXELS:
            print(f"{name}: {FULL} left out, {ids.numel()} pixels take far more than {LIMIT_S} s")
            continue
        found = measure_in_child(name, file, method, granularity)
        if found is not None:
            row = {"method": method, "views": views, "size": f"{height}x{width}", "data": name}
            rows.append(row | found | {"ceiling": ceiling})
    return rows


def measure_in_child(name: str, file: Path, method: str, granularity: float) -> dict[str, Any] | None:
    """`measure_here` in a fresh process; None, with a note, where it fails or does not end."""
    command = [sys.executable, __file__, "--granularity", str(granularity), "--measure", str(file), method]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"{name}: {method} stopped after {LIMIT_S} s")
        return None
    if answer.returncode != 0:
        print(f"{name}: {method} left out ({answer.stderr.strip().splitlines()[-1]})")
        return None
    return json.loads(answer.stdout)


def measure_here(file: Path, method: str, granularity: float) -> dict[str, Any]:
    """CPU seconds, extra memory and mean IoU of one method in this process."""
    torch.set_num_threads(1)
    tensors = {
        name: tensor.clone() for name, tensor in read_tensors(file).items()
    }  # in memory, no longer a map of the file
    field, ids = tensors["field"], tensors["ids"].long()
    cluster(field[:1, :, :24, :24], method, granularity)  # code and thread pools are no scratch memory
    before = reset_peak_mb()
    seconds: list[float] = []
    labels, extra = ids, None
    while not seconds or (len(seconds) < REPEATS and seconds[0] < SHORT_S):
        start = time.process_time()
        labels = cluster(field, method, granularity)
        seconds.append(time.process_time() - start)
        if before is not None and extra is None:
            extra = status_mb("VmHWM") - before
    return {"cpu_seconds": float(np.median(seconds)), "extra_mb": extra, "miou": joint_mean_iou(labels, ids)}


def cluster(field: Tensor, method: str, granularity: float) -> Tensor:
    """Labels of all pixels by one method."""
    if method == FULL:
        return full_hdbscan(field)
    return cluster_field(field, ClusteringConfig(method=method, granularity=granularity)).labels  # pyright: ignore[reportArgumentType]


def full_hdbscan(field: Tensor) -> Tensor:
    """HDBSCAN of all pixels, as IGGT's demonstration runs it, for photos of 128 pixels; noise joins its neighbour."""
    from hdbscan import HDBSCAN

    pixels = functional.normalize(field, dim=1).movedim(1, -1).flatten(0, 2).double().numpy()
    found = HDBSCAN(min_cluster_size=80, min_samples=30, cluster_selection_epsilon=0.06, core_dist_n_jobs=1)
    labels = found.fit_predict(pixels).astype(np.int64)
    noise = labels < 0
    if noise.all():
        labels[:] = 0
    elif noise.any():
        _, nearest = KDTree(pixels[~noise]).query(pixels[noise])
        labels[noise] = labels[~noise][nearest]
    return torch.from_numpy(labels).view(len(field), *field.shape[-2:])


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    print("| data | views | size | method | CPU s | extra MB | mIoU | ceiling |\n|---|--:|---|---|--:|--:|--:|--:|")
    for row in rows:
        extra = "-" if row["extra_mb"] is None else f"{row['extra_mb']:.0f}"
        print(
            f"| {row['data']} | {row['views']} | {row['size']} | {row['method']} | {row['cpu_seconds']:.2f} | {extra} "
            f"| {row['miou']:.3f} | {row['ceiling']:.3f} |"
        )


def print_means(rows: Sequence[dict[str, Any]]) -> None:
    """Means over the rooms of every seed, then over the seeds, with Student's 95 % interval."""
    print("\n| method | mIoU | ceiling - mIoU | CPU s |\n|---|--:|--:|--:|")
    for method in dict.fromkeys(row["method"] for row in rows):
        seeds: dict[str, list[tuple[float, float, float]]] = {}
        for row in rows:
            if row["method"] == method:
                values = (row["miou"], row["ceiling"] - row["miou"], row["cpu_seconds"])
                seeds.setdefault(row["data"].partition(":")[0], []).append(values)
        means = np.array([np.mean(each, axis=0) for each in seeds.values()])
        cells = (f"{mean:.3f} ± {half:.3f}" for mean, half in map(interval, means.T))
        print(f"| {method} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
