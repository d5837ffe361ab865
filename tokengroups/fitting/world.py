"""The worlds of a fit: that of the photos' cameras, and that of the scene, which is the first photo's camera."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.types import Cameras, TokenScene


def world_from_scene(scene: TokenScene) -> Float[Tensor, "4 4"] | None:
    """Similarity, float64, from a scene to the world of its photos' cameras; None unless `fit` made the scene.

    Raises:
        UserError: What the scene file records is no similarity.
    """
    recorded = scene.provenance.get("world_from_scene")
    if recorded is None:
        return None
    try:
        found = torch.tensor(recorded, dtype=torch.float64).reshape(4, 4)
        scale = torch.linalg.det(found[:3, :3]).clamp(min=0) ** (1 / 3)
        rotation = found[:3, :3] / scale
        exact = torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-3)
        good = exact and bool(found.isfinite().all()) and found[3].tolist() == [0, 0, 0, 1]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        good = False
    if not good:
        raise UserError("the scene's provenance: its world_from_scene is no similarity; fit the scene again")
    return found


def cameras_in_scene(cameras: Cameras, world_from_scene: Float[Tensor, "4 4"]) -> Cameras:
    """Move cameras into the world of a scene by a similarity, float64, such as `world_from_scene`; float32."""
    poses = cameras.cam_from_world.double() @ world_from_scene.to(cameras.cam_from_world.device)
    poses[..., :3, :] /= torch.linalg.det(poses[..., :3, :3])[..., None, None] ** (1 / 3)
    return Cameras(poses.float(), cameras.intrinsics.float(), cameras.size_hw)
