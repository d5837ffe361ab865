"""What it takes to encode photos, estimated before it runs: arithmetic, memory, and seconds on this machine.

For VGGT and its relatives. The arithmetic is counted from the architecture: trunk, camera head and dense heads, within
1 percent of what torch counts at the published size; branches, clustering and later steps are left out. With random
weights of that size in bfloat16, on one thread (AVX-512), it gave 15, 65 and 53 CPU s for 2 and 8 photos of 252x252 and
2 of 518x392, where 15, 64 and 53 were measured; weights in float32 take 5 to 10 percent less. Memory beside the
weights, on a CPU: 0.29 GB for 8 photos of 252x252 and 6.8 GB for 100 of 518x392, where `benchmarks/lean.py` gave 0.30
and, by the line through 16 and 24, 6.3 GB. Seconds are those of the machine as busy as it is.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt.dpt_head import DPTScratch
from tokengroups.nn.chunks import pixel_budget
from tokengroups.systems.base import SceneSystem

BYTES_PER_TOKEN = 30_000  # of VGGT-1B's width, beside the weights
BYTES_PER_PIXEL = 160  # of all photos: maps, masks, Gaussians
BYTES_PER_DENSE_PIXEL = 2_000  # of the frames that a dense head takes at a time
BYTES_ALWAYS = 350_000_000  # interpreter and libraries
EFFICIENCY = 0.85  # of a network's arithmetic, beside that of a plain matrix product
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_ROWS, _SIDE = 1024, 2048  # of the product that is timed


@dataclass(frozen=True)
class Cost:
    """An estimate for one set of photos."""

    operations: float  # products and sums
    seconds: float
    bytes: int  # weights included


def estimate(model: SceneSystem, num_photos: int, size_hw: tuple[int, int], rate: float) -> Cost | None:
    """Estimate the cost of a scene; None for an encoder that is no relative of VGGT.

    Args:
        model: The system.
        num_photos: Photos of the scene.
        size_hw: Their pixels.
        rate: Operations a second in plain matrix products; see `measured_rate`.
    """
    if not isinstance(model.encoder, VGGT):
        return None
    config = model.encoder.config
    work = operations(config, num_photos, size_hw, _dense_heads(model))
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    device = next(model.encoder.parameters()).device
    memory = BYTES_ALWAYS + weights + working_bytes(config, num_photos, size_hw, device)
    return Cost(work, work / (EFFICIENCY * rate), memory)


def operations(config: VGGTConfig, num_photos: int, size_hw: tuple[int, int], dense_heads: int = 1) -> float:
    """Products and sums of one pass of the encoder."""
    dim, grid = config.embed_dim, (size_hw[0] // config.patch_size) * (size_hw[1] // config.patch_size)
    tokens = grid + config.num_special  # of a photo
    block = (4 + 2 * config.mlp_ratio) * dim**2  # weights of its four matrices
    pixels = 3 * config.patch_size**2
    trunk = num_photos * 2 * (tokens * block * (config.dino_depth + 2 * config.depth) + grid * pixels * dim)
    within = 4 * dim * num_photos * tokens**2 * (config.dino_depth + config.depth)
    across = 4 * dim * (num_photos * tokens) ** 2 * config.depth
    camera_block = 4 * block + 3 * 4 * dim**2 / config.camera_depth  # twice as wide; the modulation's matrix
    camera = config.camera_iterations * num_photos * 2 * config.camera_depth * camera_block
    return trunk + within + across + camera + num_photos * grid * dense_heads * _dense_operations(config)


def _dense_operations(config: VGGTConfig) -> float:
    """Products and sums of a dense head for one patch."""
    c1, c2, c3, c4 = config.dpt_channels
    wide, hidden = config.dpt_features, config.dpt_hidden
    projections = 2 * config.embed_dim * (c1 + c2 + c3 + c4)
    resizing = 16 * c1**2 + 4 * c2**2 + 9 * c4**2 / 4
    narrowing = 9 * wide * (16 * c1 + 4 * c2 + c3 + c4 / 4)
    units = 1 / 4 + 2 * (1 + 4 + 16)  # each is two convolutions, at so many cells a patch
    fusion = units * 18 * wide**2 + (1 / 4 + 1 + 4 + 16) * wide**2
    output = 64 * 9 * wide * (wide // 2) + config.patch_size**2 * 9 * (wide // 2) * hidden
    return 2 * (projections + resizing + narrowing + fusion + output)


def working_bytes(config: VGGTConfig, num_photos: int, size_hw: tuple[int, int], device: torch.device) -> int:
    """Peak memory beside the weights."""
    pixels = size_hw[0] * size_hw[1]
    tokens = num_photos * (pixels // config.patch_size**2 + config.num_special)
    width = config.embed_dim / VGGTConfig().embed_dim
    at_once = min(num_photos, config.dpt_chunk, max(pixel_budget(device) // pixels, 1))
    dense = at_once * pixels * BYTES_PER_DENSE_PIXEL * config.dpt_features / 256
    return int(tokens * width * BYTES_PER_TOKEN + num_photos * pixels * BYTES_PER_PIXEL + dense)


def measured_rate(device: str) -> float:
    """Operations a second of a matrix product in float32 on the device: the best of three, in about 0.2 s."""
    left, right = torch.rand(_ROWS, _SIDE, device=device), torch.rand(_SIDE, _SIDE, device=device)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        float((left @ right)[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return 2 * _ROWS * _SIDE**2 / min(seconds[1:])


def free_bytes(device: str) -> int | None:
    """Memory that this process may still take on the device; None where the system does not tell."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0]
    found = []
    if _MEMINFO.exists():
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdigit():
        found.append(int(most) - int(used.read_text()))
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


def peak_bytes(device: str) -> int | None:
    """The most memory that this process has had on the device; None where the system does not tell."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024


def most_photos(model: SceneSystem, size_hw: tuple[int, int], budget: int, at_most: int) -> int:
    """The largest number of photos whose estimate keeps to a budget in bytes; 0 = not even one."""

    def fits(count: int) -> bool:
        found = estimate(model, count, size_hw, 1.0)
        return found is None or found.bytes <= budget

    return next((count for count in range(at_most, 0, -1) if fits(count)), 0)


def _dense_heads(model: nn.Module) -> int:
    """Dense heads that run: the encoder's point head does not, unless a branch has taken it over."""
    idle = getattr(getattr(model, "encoder", None), "point_head", None)
    return sum(isinstance(part, DPTScratch) for part in model.modules()) - (idle is not None)
