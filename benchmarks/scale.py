"""CPU time and memory of the commands on large scenes: many Gaussians, or many groups.

Run: ``python benchmarks/scale.py [--scenes gaussians groups both] [--commands list export ...]``. Scenes are upright
blocks on a floor, drawn at random from a fixed seed. Every command is a fresh process of one thread. Its CPU time is
user and system time, its memory the largest resident set, both with the start of Python and PyTorch.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from tokengroups.scene import export_scene, save_scene
from tokengroups.scene.views import look_at
from tokengroups.types import Cameras, Gaussians, TokenScene

COMMANDS = {  # SCENE is the scene file, PLY the same as a PLY with groups.json, OUT a place for files
    "list": "list SCENE --json",
    "export": "export SCENE -o OUT/scene.ply",
    "export --groups": "export SCENE -o OUT/scene.ply --groups OUT/groups",
    "import": "import PLY -o OUT/scene.safetensors",
    "render": "render SCENE --what color,depth,groups -o OUT/pictures",
    "edit": "edit SCENE remove 3 move 4 0.1 0 0 duplicate 5 -o OUT/edited.safetensors",
}


@dataclass(frozen=True)
class Size:
    """Size of a scene; every group has the same number of Gaussians but the floor, which has a fourth of all."""

    gaussians: int
    groups: int
    per_anchor: int  # Gaussians


SIZES = {"gaussians": Size(1_000_000, 50, 8), "groups": Size(60_000, 2000, 10), "both": Size(1_000_000, 2000, 500)}
VIEWS, SIDE_PX, FLOOR = 2, 256, 0.25
# Starts a command and prints what it took. Between it and this process, because the kernel counts the memory of whoever
# starts a command as the command's.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args()
    print("| scene | command | CPU seconds | peak MB |\n|---|---|--:|--:|")
    for name in args.scenes:
        size = SIZES[name]
        with tempfile.TemporaryDirectory() as folder:
            write(size, folder, "import" in args.commands)
            for command in args.commands:
                seconds, megabytes = cost(COMMANDS[command].split(), Path(folder))
                row = f"{size.gaussians:,} Gaussians, {size.groups:,} groups | `{command}`"
                print(f"| {row} | {seconds:.1f} | {megabytes:,.0f} |", flush=True)


def write(size: Size, folder: str | Path, also_ply: bool) -> None:
    """Write the scene, and the same as a PLY with groups.json."""
    scene = blocks(size)
    save_scene(f"{folder}/scene.safetensors", scene)
    if also_ply:
        export_scene(scene, f"{folder}/scene.ply")


def blocks(size: Size, seed: int = 0) -> TokenScene:
    """Blocks of random sizes and yaws in the cells of a square floor, seen from above one of its edges."""
    rng = torch.Generator().manual_seed(seed)
    counts = torch.full((size.groups,), int((1 - FLOOR) * size.gaussians) // (size.groups - 1))
    counts[0] += size.gaussians - counts.sum()
    columns = torch.arange(size.groups).repeat_interleave(counts)
    cells = math.ceil(math.sqrt(size.groups))
    place = torch.stack([torch.arange(cells**2) % cells, torch.arange(cells**2) // cells], dim=1)[: size.groups] + 0.5
    sides = 0.2 + 0.6 * torch.rand(size.groups, 3, generator=rng)
    centres = torch.stack([place[:, 0] - cells / 2, -sides[:, 1] / 2, place[:, 1]], dim=1)  # y points down
    sides[0], centres[0] = torch.tensor([cells, 0.02, cells]), torch.tensor([0.0, 0.01, cells / 2])
    yaws = 2 * math.pi * torch.rand(size.groups, generator=rng)
    yaws[0] = 0
    x, y, z = ((torch.rand(size.gaussians, 3, generator=rng) - 0.5) * sides[columns]).unbind(dim=1)
    cosine, sine = yaws.cos()[columns], yaws.sin()[columns]
    means = centres[columns] + torch.stack([cosine * x + sine * z, y, cosine * z - sine * x], dim=1)
    anchors_of = (counts + size.per_anchor - 1) // size.per_anchor
    within = torch.arange(size.gaussians) - (counts.cumsum(0) - counts)[columns]
    anchor_ids = (anchors_of.cumsum(0) - anchors_of)[columns] + within // size.per_anchor
    owners = torch.arange(size.groups).repeat_interleave(anchors_of)
    n, num_anchors = size.gaussians, len(owners)
    gaussians = Gaussians(
        means=means,
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
        scales=0.5 * cells / n**0.5 * torch.rand(n, 3, generator=rng),
        opacities=0.2 + 0.7 * torch.rand(n, generator=rng),
        sh=torch.rand(size.groups, 1, 3, generator=rng)[columns],
    )
    return TokenScene(
        gaussians=gaussians,
        anchor_ids=anchor_ids,
        anchors=torch.zeros(num_anchors, 3).index_add(0, anchor_ids, means) / torch.bincount(anchor_ids)[:, None],
        assignment=torch.zeros(num_anchors, size.groups).scatter_(1, owners[:, None], 1.0),
        group_ids=torch.arange(size.groups) + 1,
        group_tokens=torch.zeros(size.groups, 0),
        cameras=cameras(cells),
    )


def cameras(cells: int) -> Cameras:
    """Two cameras above the near edge of the floor, which look at its middle."""
    target, down = torch.tensor([0, 0, cells / 2]), torch.tensor([0, 1.0, 0])
    eyes = torch.tensor([[-0.1, -0.6, -0.3], [0.1, -0.6, -0.3]]) * cells
    pinhole = torch.tensor([[SIDE_PX, 0, SIDE_PX / 2], [0, SIDE_PX, SIDE_PX / 2], [0, 0, 1]])
    poses = torch.stack([look_at(eye, target, down) for eye in eyes])
    return Cameras(poses, pinhole.repeat(VIEWS, 1, 1), (SIDE_PX, SIDE_PX))


def cost(arguments: list[str], folder: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of one command."""
    with tempfile.TemporaryDirectory() as out:
        places = {"SCENE": f"{folder}/scene.safetensors", "PLY": f"{folder}/scene.ply", "OUT": out}
        for name, place in places.items():
            arguments = [argument.replace(name, place) for argument in arguments]
        command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "tokengroups", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds, kilobytes = result.stdout.split()
    return float(seconds), float(kilobytes) / 1024


if __name__ == "__main__":
    main()
