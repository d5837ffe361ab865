"""Small untrained systems, and random geometry for their models."""

from __future__ import annotations

import torch

from tokengroups.encoders import Geometry
from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.geometry import world_points
from tokengroups.systems.token_groups import TokenGroupModel, TokenGroupsConfig, TokenGroupsOutput
from tokengroups.types import Cameras

ENCODER = VGGTConfig(
    patch_size=8, image_size=32, embed_dim=24, num_heads=2, dino_depth=1, depth=4, camera_depth=1, camera_heads=2,
    dpt_layers=(0, 1, 2, 3), dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=8, enable_point=False,
)  # fmt: skip
GROUPS = TokenGroupsConfig(
    context_patch=8, anchor_stride=4, num_anchors=48, num_groups=6, gaussians_per_anchor=3, dim=32, num_heads=4,
    anchor_layers=1, group_layers=1,
)  # fmt: skip
DEEPER = TokenGroupsConfig(
    context_patch=8, anchor_stride=4, num_anchors=40, num_groups=6, gaussians_per_anchor=5, dim=32, num_heads=4,
    anchor_layers=2, group_layers=2, sh_degree=1,
)  # fmt: skip
WITH_SEMANTICS = TokenGroupsConfig(
    context_patch=16, anchor_stride=8, num_anchors=32, num_groups=6, gaussians_per_anchor=2, dim=24, num_heads=2,
    anchor_layers=1, group_layers=1, semantic_dim=10, residual_dim=3, text_encoder="words:1",
)  # fmt: skip
FEATURE_DIM = 12


def random_photos(num_photos: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(num_photos, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def random_input(num_scenes: int = 2, num_views: int = 2, seed: int = 0) -> tuple[torch.Tensor, Geometry]:
    """Photos of 32 pixels a side, and geometry that no encoder made."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num_scenes, num_views, 3, 32, 32, generator=generator)
    depth = torch.rand(num_scenes, num_views, 32, 32, generator=generator) + 1.0
    intrinsics = torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]]).expand(num_scenes, num_views, 3, 3)
    cam_from_world = torch.eye(4).repeat(num_scenes, num_views, 1, 1)
    cam_from_world[..., :3, 3] = torch.randn(num_scenes, num_views, 3, generator=generator) * 0.2
    cameras = Cameras(cam_from_world, intrinsics, (32, 32))
    features = torch.randn(num_scenes, num_views, FEATURE_DIM, 2, 2, generator=generator)
    points = world_points(depth, cam_from_world, intrinsics)
    return images, Geometry(features, points, depth, 1.0 + depth, cameras)


def decode(config: TokenGroupsConfig, scenes: int = 2) -> tuple[TokenGroupModel, TokenGroupsOutput, Cameras]:
    """An untrained model, what it predicts for random points, and their cameras."""
    torch.manual_seed(0)
    model = TokenGroupModel(config, feature_dim=FEATURE_DIM)
    poses = torch.eye(4).expand(scenes, 2, 4, 4)
    pinholes = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]]).expand(scenes, 2, 3, 3)
    cameras = Cameras(poses, pinholes, (32, 32))
    depth = torch.rand(scenes, 2, 32, 32) + 1
    features, points = torch.randn(scenes, 2, FEATURE_DIM, 2, 2), torch.randn(scenes, 2, 32, 32, 3)
    geometry = Geometry(features, points, depth, depth + 1, cameras)
    return model, model(torch.rand(scenes, 2, 3, 32, 32), geometry), cameras
