"""Times of the rasteriser on the fixed scenes S, M and L.

Run: ``python benchmarks/render.py [--scenes S M L L111] [--threads 1 2] [--json FILE]``. Times are process CPU
time, least of several runs (mean with several threads), in milliseconds: on a busy machine they suffer less than
wall time. ``torch / this`` says how many times less CPU time it is than the PyTorch tiles of the same run. With a GPU,
gsplat's wall time stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from tokengroups.render import RenderOutput, rasterize
from tokengroups.render.api import Backend
from tokengroups.render.library import LibraryMissing, supported_variants

DATA = Path(__file__).parents[1] / "tests" / "data"
ANCHOR_SIZE, FEATURES = 32, 108  # L111: 3 colours and 108 channels constant within anchors of 32 Gaussians
REPEATS = {"S": 25, "M": 12, "L": 8, "L111": 6}
TORCH_REPEATS = {"S": 3, "M": 2, "L": 1, "L111": 1}


@dataclass(frozen=True)
class Row:
    """One line of the table; times in milliseconds of process CPU time, memory in MB."""

    backend: str
    variant: str
    scene: str
    channels: int
    threads: int
    forward_ms: float
    forward_backward_ms: float
    forward_backward_wall_ms: float
    peak_extra_mb: float | None
    ratio_to_torch: float | None


@dataclass(frozen=True)
class Workload:
    """A scene and cotangents of its images."""

    forward: Callable[[], RenderOutput]
    backward: Callable[[RenderOutput], None]


def load_workload(scene: str, backend: Backend) -> Workload:
    """The scene as differentiable leaves, on the backend's device."""
    device = "cuda" if backend == "gsplat" else "cpu"
    data = load_file(DATA / f"raster_bench_{scene[0]}.safetensors")
    data = {name: tensor.to(device) for name, tensor in data.items()}
    width, height = data["size_wh"].tolist()
    names = ("means", "quats", "scales", "opacities", "colors")
    leaves = [data[name].requires_grad_() for name in names]
    count, cameras = len(leaves[0]), len(data["Ks"])
    g = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(device)

    ids = features = None
    cotangents = [random(cameras, height, width, 3), random(cameras, height, width)]
    if scene == "L111":
        ids = torch.arange(count, device=device) // ANCHOR_SIZE
        features = random(count // ANCHOR_SIZE, FEATURES).requires_grad_()
        cotangents.append(random(cameras, height, width, FEATURES))

    def forward() -> RenderOutput:
        means, quats, scales, opacities, colors = leaves
        return rasterize(
            means, quats, scales, opacities, colors, data["viewmats"], data["Ks"], (height, width),
            anchor_ids=ids, anchor_features=features, backend=backend,
        )  # fmt: skip

    def backward(output: RenderOutput) -> None:
        images = [output.colors, output.alphas] + ([output.features] if output.features is not None else [])
        torch.autograd.backward(images, cotangents)

    return Workload(forward, backward)


def measure(work: Workload, repeats: int, threads: int, on_gpu: bool) -> tuple[float, float, float]:
    """Forward, forward + backward CPU time and forward + backward wall time, in milliseconds.

    The least of all repeats, but the mean CPU time of several threads: the kernel's account of a thread that runs
    elsewhere lags behind by up to a tick, so the least would be too little.
    """
    cpu_time = min if threads <= 1 else fmean
    forward, both, wall = [], [], []
    for _ in range(repeats):
        torch.cuda.synchronize() if on_gpu else None
        cpu, start = time.process_time(), time.perf_counter()
        output = work.forward()
        torch.cuda.synchronize() if on_gpu else None
        forward.append(time.perf_counter() - start if on_gpu else time.process_time() - cpu)
        work.backward(output)
        torch.cuda.synchronize() if on_gpu else None
        wall.append(time.perf_counter() - start)
        both.append(wall[-1] if on_gpu else time.process_time() - cpu)
    return cpu_time(forward) * 1e3, cpu_time(both) * 1e3, min(wall) * 1e3


def status_mb(field: str) -> float:
    """A memory figure of this process, in MB, from /proc."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(field))
    return int(line.split()[1]) / 1024


def peak_extra_mb(scene: str, backend: Backend) -> float:
    """How far forward + backward raise this process's memory: results, gradients and everything in between."""
    warm = load_workload("S", backend)
    warm.backward(warm.forward())  # code and thread pools are no scratch memory
    work = load_workload(scene, backend)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status_mb("VmRSS")
    work.backward(work.forward())
    return status_mb("VmHWM") - before


def peak_in_child(scene: str, backend: str, variant: str, threads: int) -> float | None:
    """`peak_extra_mb` in a fresh process, or None where /proc does not tell."""
    command = [sys.executable, __file__, "--memory-of", scene, backend, "--threads", str(threads)]
    environment = {**os.environ, "TOKENGROUPS_RENDER_VARIANT": variant}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return float(answer.stdout) if answer.returncode == 0 else None


def run(scenes: list[str], thread_counts: list[int], with_torch: bool) -> list[Row]:
    """All rows; the PyTorch tiles come first, because the others are compared with them."""
    try:
        variants = supported_variants()[::-1]
    except LibraryMissing as error:
        print(f"no C++ kernels: {error}", file=sys.stderr)
        variants = []
    jobs: list[tuple[Backend, str, int]] = []
    if with_torch:
        jobs.append(("torch", "-", 1))
    jobs.extend(("cpp", variant, threads) for variant in variants for threads in thread_counts)
    if torch.cuda.is_available():
        jobs.append(("gsplat", torch.cuda.get_device_name(), 0))
    rows: list[Row] = []
    torch_ms: dict[str, float] = {}
    for scene in scenes:
        for backend, variant, threads in tqdm(jobs, desc=scene, leave=False):
            os.environ["TOKENGROUPS_RENDER_VARIANT"] = variant if backend == "cpp" else ""
            torch.set_num_threads(max(threads, 1))
            repeats = (TORCH_REPEATS if backend == "torch" else REPEATS)[scene]
            work = load_workload(scene, backend)
            forward, both, wall = measure(work, repeats, threads, backend == "gsplat")
            if backend == "torch":
                torch_ms[scene] = both
            memory = None if backend == "gsplat" else peak_in_child(scene, backend, variant, threads)
            rows.append(
                Row(
                    backend, variant, scene, 111 if scene == "L111" else 3, threads, round(forward, 2), round(both, 2),
                    round(wall, 2), memory and round(memory, 1),
                    round(torch_ms[scene] / both, 1) if scene in torch_ms else None,
                )
            )  # fmt: skip
    return rows


def print_table(rows: list[Row]) -> None:
    """A Markdown table."""

    def cell(value: float | None, pattern: str) -> str:
        return "-" if value is None else format(value, pattern)

    print(f"{date.today()}, {platform.processor() or platform.machine()}, torch {torch.__version__}\n")
    print("| scene | D | backend | threads | forward | forward + backward | wall | extra MB | torch / this |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.scene[0]} | {row.channels} | {row.backend} {row.variant.strip('-')} | {row.threads} "
            f"| {row.forward_ms:.1f} | {row.forward_backward_ms:.1f} | {row.forward_backward_wall_ms:.1f} "
            f"| {cell(row.peak_extra_mb, '.0f')} | {cell(row.ratio_to_torch, '.0f')} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=list(REPEATS), default=list(REPEATS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--no-torch", action="store_true", help="skip the PyTorch tiles, which take a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--memory-of", nargs=2, metavar=("SCENE", "BACKEND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        torch.set_num_threads(args.threads[0])
        print(peak_extra_mb(*args.memory_of))
        return
    rows = run(args.scenes, args.threads, not args.no_torch)
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        print(f"\nwrote {args.json}")


if __name__ == "__main__":
    main()
