"""Golden files of a whole SegVGGT: outputs of the official modules at small sizes, which the metadata tell.

A file holds ``images``, or their ``images_seed`` and ``shape_BVHW``; ``weights.NAME`` under the official names, where a
weight that is not stored follows from its name; and of ``outputs``: ``tokens.LAYER`` (frame, then global),
``queries_after_cross.LAYER``, ``queries.LAYER``, ``attn_frame_mean``, ``instance_features``, ``query_embedding``,
``mask_logits`` and ``class_logits``. Cameras and depth are those of VGGT's golden files. What is decoded from the
outputs, and their losses, are compared by `golden_segvggt_scenes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from golden_file import Comparison, Golden, compare_tensors
from golden_segvggt_scenes import compare_scenes
from golden_vggt import fill_by_name, images_by_seed, known_sizes
from torch import Tensor, nn

from tokengroups.checkpoint import load_state_strict
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.systems.segvggt.config import QueryConfig, SegVGGTConfig, SemanticHeadConfig
from tokengroups.systems.segvggt.network import SegVGGTNetwork
from tokengroups.systems.segvggt.queries import Reading

GATE = 3e-6  # relative L2, float32
WEIGHTS, OUTPUTS = "weights.", "outputs."
NEEDED = (
    "num_queries", "num_instance_classes", "query_cross_mlp_ratio", "query_self_mlp_ratio", "lora_rank", "lora_alpha",
    "class_hidden", "dpt_features", "mask_dim", "feature_down_ratio", "embed_dim", "num_heads", "dino_num_heads",
    "depth", "dino_depth", "dpt_layers", "dpt_out_channels", "pos_embed_image_size", "patch_size",
)  # fmt: skip


def compare_segvggt(golden: Golden) -> list[Comparison]:
    """Run our network on the photos of a file and compare every stored output.

    Raises:
        UserError: The file is of another kind, or of a network that SegVGGT's classes do not describe.
    """
    if not any(name.startswith(OUTPUTS) for name in golden.tensors) or "num_queries" not in golden.metadata:
        raise UserError(f"{golden.path}: neither outputs nor num_queries; this is no golden file of SegVGGT")
    return list(_compare(golden))


def network_of(golden: Golden) -> SegVGGTNetwork:
    """The network that the metadata describe, with the weights of the file.

    Raises:
        UserError: Something is missing, the sizes do not fit together, or the weights do not fit them.
    """
    try:
        with torch.device("meta"):
            network = SegVGGTNetwork(VGGT(_encoder_config(golden)), _config(golden))
    except ValueError as error:
        raise UserError(f"{golden.path}: {error}") from None
    network = network.to_empty(device="cpu").eval()
    parts = {"aggregator.": network.encoder.aggregator, "": network.branch}
    stored = {name.removeprefix(WEIGHTS): t for name, t in golden.tensors.items() if name.startswith(WEIGHTS)}
    expected = {prefix + name for prefix, part in parts.items() for name in part.state_dict()}
    if unknown := sorted(set(stored) - expected):
        raise UserError(f"{golden.path}: weights that SegVGGT does not have: {', '.join(unknown[:3])}")
    for prefix, part in parts.items():
        fill_by_name(part, str(golden.metadata.get("weight_salt", "")), prefix)
        values = {n: stored[prefix + n] if prefix + n in stored else t for n, t in part.state_dict().items()}
        load_state_strict(part, values, golden.path)
    return network


def _encoder_config(golden: Golden) -> VGGTConfig:
    _check_facts(golden.path, golden.metadata)
    known = known_sizes(golden)
    # Cameras and depth are not compared, so their heads are as small as can be.
    return VGGTConfig(**known | {"camera_depth": 0, "camera_heads": 1, "enable_depth": False, "enable_point": False})


def _check_facts(path: Any, metadata: Mapping[str, Any]) -> None:
    if missing := sorted(set(NEEDED) - set(metadata)):
        raise UserError(f"{path}: the metadata lack {', '.join(missing)}")
    fixed = {"dino_num_heads": metadata["num_heads"], "mask_dim": metadata["dpt_features"] // 2}
    for name, value in (fixed | {"feature_down_ratio": 2}).items():
        if metadata[name] != value:
            raise UserError(f"{path}: {name} is {metadata[name]}; a SegVGGT of these sizes has {value}")


def _config(golden: Golden) -> SegVGGTConfig:
    known = golden.metadata
    return SegVGGTConfig(
        num_classes=known["num_instance_classes"],
        queries=QueryConfig(
            number=known["num_queries"],
            cross_mlp_ratio=known["query_cross_mlp_ratio"],
            self_mlp_ratio=known["query_self_mlp_ratio"],
        ),
        head=SemanticHeadConfig(class_hidden=known["class_hidden"]),
        lora_rank=known["lora_rank"],
        lora_alpha=known["lora_alpha"],
    )


@torch.no_grad()
def _compare(golden: Golden) -> Iterator[Comparison]:
    network, images = network_of(golden), _images(golden)
    trunk, queries = network.encoder.aggregator, network.branch.aggregator
    with (
        outputs_of(trunk.frame_blocks) as in_frames,
        outputs_of(trunk.global_blocks) as in_scenes,
        outputs_of(queries.instance_cross_blocks) as after_cross,
        outputs_of(queries.instance_query_self_attn) as after_self,
    ):
        _, out = network(images, Reading(frame_attention=True))
    shape = images.shape[:2]
    answers: dict[str, Tensor | None] = {}
    for index, (frames, scenes) in enumerate(zip(in_frames, in_scenes, strict=True)):
        pair = frames.unflatten(0, shape), scenes.unflatten(1, (shape[1], -1))
        answers[f"tokens.{index}"] = torch.cat(pair, dim=-1)
    answers |= {f"queries_after_cross.{index}": states for index, (states, _) in enumerate(after_cross)}
    answers |= {f"queries.{index}": states for index, states in enumerate(after_self)}
    answers |= {"attn_frame_mean": out.frame_attention, "instance_features": out.features}
    answers |= {"query_embedding": out.queries, "mask_logits": out.mask_logits(), "class_logits": out.class_logits}
    for name, actual in answers.items():
        if OUTPUTS + name in golden.tensors and actual is not None:
            yield compare_tensors(name, actual, golden.tensors[OUTPUTS + name], GATE)
    yield from compare_scenes(golden, out)


def _images(golden: Golden) -> Tensor:
    if "images" in golden.tensors:
        return golden.tensors["images"]
    seed, shape = golden.fact("images_seed"), golden.fact("shape_BVHW")
    if seed is None or shape is None:
        raise UserError(f"{golden.path}: neither images nor their images_seed and shape_BVHW")
    batch, views, height, width = shape
    return images_by_seed(seed, (batch, views, 3, height, width))


@contextmanager
def outputs_of(blocks: nn.ModuleList) -> Iterator[list[Any]]:
    """What the blocks return in the order in which they run."""
    found: list[Any] = []
    handles = [block.register_forward_hook(lambda *call: found.append(call[-1])) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
