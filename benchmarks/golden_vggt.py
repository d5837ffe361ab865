"""Golden files of VGGT: outputs of the official modules, with weights that follow from the parameter names.

A file holds ``tokens.LAYER``, ``pose_enc.ITERATION``, ``depth``, ``depth_conf``, ``world_points``,
``world_points_conf`` and ``extrinsics`` of one network, its ``images_seed`` and ``shape`` [B, S, H, W]; or ``pose_enc``
with the cameras, points and encodings that the official functions make of it. The network's sizes are those of the
metadata. What the metadata does not say follows from the shapes, and from the width: 384 is the small network of the
reference runs, 1024 is VGGT-1B.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from golden_file import Comparison, Golden, compare_tensors
from torch import Tensor, nn

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt.pose_encoding import decode_pose, encode_pose
from tokengroups.errors import UserError
from tokengroups.geometry import world_points

GATES = {"tokens": 2e-6, "pose": 3e-6, "depth_points": 1e-5, "functions": 1e-6}  # relative L2, float32
# Where pixel centres are integers, as in VGGT's own functions, the principal point lies half a pixel lower.
HALF_PIXEL = 0.5
CHANNEL_STEPS = (1, 8)  # of the stored tokens: every channel, or every 8th to save space
KNOWN_WIDTHS: dict[int, dict[str, Any]] = {
    384: {
        "num_heads": 6, "dino_depth": 12, "camera_heads": 12, "dpt_channels": (48, 96, 192, 384), "dpt_features": 64
    },
    1024: {},
}  # fmt: skip
# Names in the metadata that differ from the fields of `VGGTConfig`.
ALIASES = {
    "mlp_ratio": "block_mlp_ratio", "num_registers": "register_tokens", "image_size": "pos_embed_image_size",
    "dpt_channels": "dpt_out_channels", "camera_heads": "camera_num_heads", "camera_depth": "camera_trunk_depth",
}  # fmt: skip
FIELDS = (
    "patch_size", "image_size", "embed_dim", "num_heads", "mlp_ratio", "num_registers", "dino_depth", "depth",
    "camera_depth", "camera_heads", "camera_iterations", "dpt_layers", "dpt_channels", "dpt_features", "dpt_hidden",
)  # fmt: skip
TOKENS = {
    "cls_token", "register_tokens", "mask_token", "pos_embed", "camera_token", "register_token", "empty_pose_tokens",
    "instance_query_token",
}  # fmt: skip


def compare_vggt(golden: Golden) -> list[Comparison]:
    """Run our network, or our functions, on the inputs of a file and compare every stored output.

    Raises:
        UserError: The file is of another kind, or does not say how large the network is.
    """
    if golden.fact("images_seed") is None and "pose_enc" in golden.tensors:
        return list(_compare_functions(golden))
    if not golden.numbered("tokens"):
        raise UserError(f"{golden.path}: neither tokens.LAYER nor pose_enc; this is no golden file of VGGT")
    return list(_compare_network(golden))


def network_config(golden: Golden) -> VGGTConfig:
    """Sizes of the network: what the metadata says, else what the shapes and the width tell.

    Raises:
        UserError: Something is missing, or the sizes do not fit together.
    """
    facts = known_sizes(golden)
    layers = facts.get("dpt_layers") or tuple(golden.numbered("tokens"))
    width = facts.get("embed_dim") or next((w for w in _possible_widths(golden) if w in KNOWN_WIDTHS), None)
    if width is None:
        raise UserError(f"{golden.path}: the width of the network is unknown; add embed_dim to the metadata")
    missing = {"num_heads", "dino_depth", "camera_heads", "dpt_channels", "dpt_features"} - set(facts)
    if missing and width not in KNOWN_WIDTHS:
        what = ", ".join(sorted(missing))
        raise UserError(f"{golden.path}: the metadata lacks {what} of a network of width {width}")
    if facts.get("num_heads") != golden.metadata.get("dino_num_heads", facts.get("num_heads")):
        raise UserError(f"{golden.path}: DINO and trunk differ in their number of heads; those of VGGT do not")
    sizes = {
        "embed_dim": width,
        "dpt_layers": layers,
        "depth": max(layers) + 1,
        "camera_iterations": len(golden.numbered("pose_enc")) or VGGTConfig.camera_iterations,
        "enable_depth": "depth" in golden.tensors,
        "enable_point": "world_points" in golden.tensors,
    }
    try:
        return VGGTConfig(**{**sizes, **KNOWN_WIDTHS.get(width, {}), **facts})
    except ValueError as error:
        raise UserError(f"{golden.path}: {error}") from None


def known_sizes(golden: Golden) -> dict[str, Any]:
    """Fields of `VGGTConfig` that the metadata gives, under our names or others."""
    found = {field: golden.metadata.get(field, golden.metadata.get(ALIASES.get(field, ""))) for field in FIELDS}
    return {field: tuple(v) if isinstance(v, list) else v for field, v in found.items() if v is not None}


def _possible_widths(golden: Golden) -> dict[int, int]:
    """Width of a network with tokens of this size (twice the width) -> how many channels apart they are stored."""
    stored = golden.tensors[f"tokens.{golden.numbered('tokens')[0]}"].shape[-1]
    return {stored * step // 2: step for step in CHANNEL_STEPS}


def build_network(config: VGGTConfig, salt: str = "") -> VGGT:
    """Build the network with the weights that its parameter names stand for."""
    with torch.device("meta"):  # nothing is initialised twice
        model = VGGT(config)
    model = model.to_empty(device="cpu").eval()
    fill_by_name(model, salt)
    return model


@torch.no_grad()
def fill_by_name(model: nn.Module, salt: str = "", prefix: str = "") -> None:
    """Give every parameter the values that its name, after salt and prefix, stands for."""
    for name, parameter in model.named_parameters():
        seed = zlib.crc32((salt + prefix + name).encode()) & 0xFFFFFFFF
        z = np.random.RandomState(seed).standard_normal(tuple(parameter.shape)).astype(np.float32)
        parameter.copy_(torch.from_numpy(by_name(z, name.rsplit(".", 1)[-1])))


def images_by_seed(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise [B, V, 3, H, W]."""
    return torch.from_numpy(np.random.RandomState(seed).random_sample(shape).astype(np.float32))


def by_name(z: np.ndarray, kind: str) -> np.ndarray:
    """Scale standard normal values as the last part of a parameter's name asks for."""
    if kind in TOKENS:
        return 0.5 * z
    if kind == "gamma":
        return 0.35 + 0.05 * z
    if kind == "bias":
        return 0.05 * z
    if z.ndim == 1:
        return 1 + 0.2 * z
    return z / np.float32(math.sqrt(math.prod(z.shape[1:])))


def _compare_network(golden: Golden) -> Iterator[Comparison]:
    config = network_config(golden)
    batch, views, height, width = _shape(golden)
    model = build_network(config, str(golden.metadata.get("weight_salt", "")))
    with torch.no_grad():
        out = model(images_by_seed(golden.fact("images_seed"), (batch, views, 3, height, width)))
    step = _possible_widths(golden).get(config.embed_dim, 1)
    numbers = golden.numbered("tokens")
    names = config.dpt_layers if set(config.dpt_layers) <= set(numbers) else range(len(out.tokens))
    answers: dict[str, tuple[Tensor | None, str]] = {
        f"tokens.{name}": (tokens[..., ::step], "tokens") for name, tokens in zip(names, out.tokens, strict=True)
    }
    answers |= {f"pose_enc.{i}": (encoding, "pose") for i, encoding in enumerate(out.pose_encodings)}
    cam_from_world, intrinsics = decode_pose(out.pose_encodings[-1], (height, width))
    answers |= {
        "extrinsics": (cam_from_world[..., :3, :], "pose"),
        "intrinsics": (intrinsics, "pose"),
        "depth": (out.depth, "depth_points"),
        "depth_conf": (out.depth_confidence, "depth_points"),
        "world_points": (out.points, "depth_points"),
        "world_points_conf": (out.points_confidence, "depth_points"),
    }
    for name, (actual, gate) in answers.items():
        if name not in golden.tensors or actual is None:
            continue
        expected = golden.tensors[name]
        if name == "depth":
            name, actual, expected = "log depth", actual.log(), expected.reshape(actual.shape).log()
        yield compare_tensors(name, actual, expected, GATES[gate])


def _shape(golden: Golden) -> list[int]:
    """[B, S, H, W] of the images."""
    shape = golden.fact("shape") or golden.fact("shape_BVHW")
    if shape is None and "depth" in golden.tensors:
        shape = list(golden.tensors["depth"].shape[:4])
    if shape is None or golden.fact("images_seed") is None:
        raise UserError(f"{golden.path}: neither shape nor images_seed; the images cannot be made")
    return shape


def _compare_functions(golden: Golden) -> Iterator[Comparison]:
    """Cameras of pose encodings, encodings of cameras, and points of the depth of the first scene (or of all)."""
    tensors, gate = golden.tensors, GATES["functions"]
    size_hw = _size(golden)
    cam_from_world, intrinsics = decode_pose(tensors["pose_enc"], size_hw)
    answers = {
        "extrinsics": cam_from_world[..., :3, :],
        "intrinsics": intrinsics,
        "pose_enc_back": encode_pose(cam_from_world, intrinsics, size_hw),
    }
    if "depth" in tensors:
        depth = tensors["depth"][..., 0]
        first = 0 if depth.ndim == 3 and cam_from_world.ndim == 4 else ...
        shifted = intrinsics[first].clone()
        shifted[..., :2, 2] += HALF_PIXEL
        answers["world_points"] = world_points(depth, cam_from_world[first], shifted)
    for name, actual in answers.items():
        if name in tensors:
            yield compare_tensors(name, actual, tensors[name], gate)


def _size(golden: Golden) -> tuple[int, int]:
    """Height and width: as the metadata says, of the depth maps, or twice the principal point."""
    shape = golden.fact("size_hw") or golden.fact("shape") or golden.fact("shape_BVHW")
    if shape is not None:
        height, width = shape[-2:]
    elif "depth" in golden.tensors:
        height, width = golden.tensors["depth"].shape[-3:-1]
    elif "intrinsics" in golden.tensors:
        width, height = (2 * golden.tensors["intrinsics"].reshape(-1, 3, 3)[0, :2, 2]).round().int().tolist()
    else:
        raise UserError(f"{golden.path}: the size of the images is missing; add size_hw to the metadata")
    return height, width
