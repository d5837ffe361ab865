"""Golden files of IGGT's heads: outputs of the official modules, with weights that follow from the parameter names.

A file holds ``seed`` and ``grid`` [S, h, w] (photos, rows and columns of patches), from which the tokens follow, and
``world_points``, ``world_points_conf``, the point head's maps ``point_features.{0,1,2}`` (every 8th channel), the part
adaptor's ``adaptor.res{1..4}`` (every 16th channel) and ``part_features``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from golden_file import Comparison, Golden, compare_tensors
from golden_vggt import by_name
from torch import Tensor, nn

from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt.dense import predict_points
from tokengroups.errors import UserError
from tokengroups.systems.iggt.config import InstanceHeadConfig
from tokengroups.systems.iggt.network import InstanceBranch

GATE = 1e-5  # relative L2, float32
POINT_STEP, ADAPTOR_STEP = 8, 16  # of the stored channels


def compare_iggt_heads(golden: Golden) -> list[Comparison]:
    """Run our heads on the tokens of a file and compare every stored output.

    Raises:
        UserError: The file is of another kind.
    """
    if "part_features" not in golden.tensors or golden.fact("seed") is None or golden.fact("grid") is None:
        raise UserError(f"{golden.path}: lacks part_features, seed or grid; this is no golden file of IGGT's heads")
    return list(_compare(golden))


@torch.no_grad()
def _compare(golden: Golden) -> Iterator[Comparison]:
    config = VGGTConfig(enable_point=False)
    with torch.device("meta"):
        branch = InstanceBranch(config, InstanceHeadConfig())
    branch = branch.to_empty(device="cpu").eval()
    fresh = InstanceBranch(replace(config, embed_dim=8, dpt_features=8, dpt_channels=(4,) * 4), InstanceHeadConfig())
    fill_state(branch, dict(fresh.named_buffers()), str(golden.metadata.get("weight_salt", "")))
    views, rows, columns = golden.fact("grid")
    size_hw = (config.patch_size * rows, config.patch_size * columns)
    layers = [
        tokens_by_seed(golden.fact("seed") + layer, views, rows * columns, config)[:, config.num_special :]
        for layer in config.dpt_layers
    ]
    point_maps = branch.point_head.scratch.fusion_maps(branch.point_head.layer_maps(layers, size_hw))
    adapted = branch.part_adaptor(layers, size_hw)
    out = branch(layers, size_hw)
    points, confidence = predict_points(out.points[None])
    answers: dict[str, Tensor | None] = {"world_points": points, "world_points_conf": confidence}
    answers |= {f"point_features.{i}": maps[:, ::POINT_STEP] for i, maps in enumerate(point_maps[1:])}
    answers |= {f"adaptor.res{i + 1}": maps[:, ::ADAPTOR_STEP] for i, maps in enumerate(adapted)}
    answers["part_features"] = out.field[None]
    for name, actual in answers.items():
        if name in golden.tensors and actual is not None:
            yield compare_tensors(name, actual, golden.tensors[name], GATE)


def tokens_by_seed(seed: int, views: int, patches: int, config: VGGTConfig) -> Tensor:
    """Gaussian noise [S, P, C2], special tokens included."""
    shape = (1, views, config.num_special + patches, 2 * config.embed_dim)
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))[0]


def fill_state(module: nn.Module, indices: dict[str, Tensor], salt: str) -> None:
    """Give parameters and running statistics the values that their names stand for, and index tables their own."""
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            tensor.copy_(indices[name])
            continue
        z = np.random.RandomState(zlib.crc32((salt + name).encode()) & 0xFFFFFFFF)
        values, kind = z.standard_normal(tuple(tensor.shape)).astype(np.float32), name.rsplit(".", 1)[-1]
        statistics = {"running_mean": 0.1 * values, "running_var": 1 + 0.5 * np.abs(values)}
        tensor.copy_(torch.from_numpy(statistics[kind] if kind in statistics else by_name(values, kind)))
