"""Scenes in another world: moved, turned and scaled as a whole."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.gaussians import transform
from tokengroups.geometry import rigid
from tokengroups.types import Cameras, TokenScene


def move_scene(scene: TokenScene, similarity: Float[Tensor, "4 4"]) -> TokenScene:
    """Move a whole scene by a similarity, `new_world_from_world`: Gaussians with their colours, anchors and cameras.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> from tokengroups.scene import move_scene
        >>> scene = tg.example_scene()
        >>> twice = move_scene(scene, torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
        >>> bool((twice.anchors == 2 * scene.anchors).all())
        True
    """
    similarity = similarity.double().to(scene.anchors.device)
    scale = torch.linalg.det(similarity[:3, :3]) ** (1 / 3)
    rotation, translation = similarity[:3, :3] / scale, similarity[:3, 3]
    turns = not torch.equal(rotation, torch.eye(3).to(rotation))
    anchors = scene.anchors.double() @ similarity[:3, :3].T + translation
    return replace(
        scene,
        gaussians=transform(scene.gaussians, translation, rotation if turns else None, float(scale)),
        anchors=anchors.to(scene.anchors),
        cameras=move_cameras(scene.cameras, similarity),
    )


def move_cameras(cameras: Cameras, similarity: Float[Tensor, "4 4"]) -> Cameras:
    """Cameras, batch axis V, moved with their world by a similarity."""
    poses, similarity = cameras.cam_from_world.double(), similarity.double().to(cameras.cam_from_world.device)
    scale = torch.linalg.det(similarity[:3, :3]) ** (1 / 3)
    turned = poses[:, :3, :3] @ (similarity[:3, :3] / scale).T
    moved = rigid(turned, scale * poses[:, :3, 3] - turned @ similarity[:3, 3])
    return Cameras(moved.to(cameras.cam_from_world), cameras.intrinsics, cameras.size_hw)
