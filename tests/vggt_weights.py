"""Weights that follow from parameter names alone, as used by the reference runs behind the golden files."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import nn

TOKENS = {
    "cls_token", "register_tokens", "mask_token", "pos_embed", "camera_token", "register_token",
    "empty_pose_tokens",
}  # fmt: skip


@torch.no_grad()
def fill_by_name(model: nn.Module) -> None:
    """Give every parameter the values its name stands for."""
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        seed = zlib.crc32(name.encode()) & 0xFFFFFFFF
        z = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
        parameter.copy_(torch.from_numpy(scaled(z, name.rsplit(".", 1)[-1])))


def scaled(z: np.ndarray, kind: str) -> np.ndarray:
    if kind in TOKENS:
        return 0.5 * z
    if kind == "gamma":
        return 0.35 + 0.05 * z
    if kind == "bias":
        return 0.05 * z
    if z.ndim == 1:
        return 1 + 0.2 * z
    return z / np.float32(math.sqrt(math.prod(z.shape[1:])))


def images_by_seed(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Uniform noise [B, V, 3, H, W]."""
    return torch.from_numpy(np.random.RandomState(seed).random_sample(shape).astype(np.float32))
