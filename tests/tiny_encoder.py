"""A tiny encoder's sizes, small enough to train in tests."""

from __future__ import annotations

from dataclasses import replace

from tokengroups.encoders.vggt_tiny import VGGTTinyConfig

TINY = VGGTTinyConfig(
    patch_size=8, image_size=32, embed_dim=32, num_heads=2, num_registers=1, dino_depth=1, dino_layer_scale=1.0,
    depth=4, layer_scale=0.2, camera_depth=1, camera_heads=2, enable_point=True, dpt_layers=(0, 1, 2, 3),
    dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=4, dpt_chunk=8, stem_channels=(4, 8, 16), matching_dim=8,
)  # fmt: skip
WITH_SINGLE_VIEW = replace(TINY, single_view_channels=(8, 8, 16, 32), single_view_depth=1)
