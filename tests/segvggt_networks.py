"""Small SegVGGT networks for tests, with weights that hide no mistake."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny_encoder import WITH_SINGLE_VIEW

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.systems.segvggt.config import QueryConfig, SegVGGTConfig, SemanticHeadConfig
from tokengroups.systems.segvggt.network import SegVGGTNetwork

SIZES = VGGTConfig(
    patch_size=14, image_size=56, embed_dim=32, num_heads=2, dino_depth=1, depth=5, camera_depth=1, camera_heads=2,
    camera_iterations=1, dpt_layers=(0, 1, 3, 4), dpt_channels=(4, 8, 8, 8), dpt_features=16, dpt_hidden=4,
    dpt_chunk=2,
)  # fmt: skip
CONFIG = SegVGGTConfig(num_classes=7, queries=QueryConfig(number=9), lora_rank=3, lora_alpha=4.5)
SKIPS = SemanticHeadConfig(stem=(4, 6), single_view_features=True)


def shaken(network: SegVGGTNetwork) -> SegVGGTNetwork:
    """Move all parameters: a new network has zero factors, unit norms and queries of nearly zero."""
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def small(config: SegVGGTConfig = CONFIG, encoder: VGGTConfig = SIZES) -> SegVGGTNetwork:
    """A network on a small VGGT."""
    torch.manual_seed(5)
    return shaken(SegVGGTNetwork(VGGT(encoder), config))


def on_tiny(**queries: object) -> SegVGGTNetwork:
    """A network with skips on a small relative of the tiny encoder."""
    torch.manual_seed(5)
    config = replace(CONFIG, queries=QueryConfig(number=9, **queries), head=SKIPS)
    return shaken(SegVGGTNetwork(VGGTTiny(WITH_SINGLE_VIEW), config))


def published_state(config: SegVGGTConfig = CONFIG) -> dict[str, torch.Tensor]:
    """A state dict with the published names, at small sizes."""
    network = small(config)
    return {**network.encoder.state_dict(), **network.branch.state_dict()}
