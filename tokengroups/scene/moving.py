"""Scenes in another world: moved, turned and scaled as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import transform
from tokengroups.geometry import rigid
from tokengroups.types import Cameras, TokenScene

_OUTER = ("cameras", "imported_from", "world_from_scene")  # records of scenes in a world that other files share


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


def scale_scene(scene: TokenScene, factor: float, unit: str) -> TokenScene:
    """Multiply all lengths of a scene by a factor above 0, about the world's origin.

    Colours, rotations and intrinsics keep every bit. The provenance gets the new unit's name; where the world is one
    that other files share, it also says where that world is.

    Raises:
        UserError: What the scene file records of its world is no similarity.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import scale_scene
        >>> scene = scale_scene(tg.example_scene(), 100.0, "centimetre")
        >>> scene.provenance["unit"], bool((scene.anchors == 100 * tg.example_scene().anchors).all())
        ('centimetre', True)
    """
    provenance: dict[str, Any] = {**scene.provenance, "unit": unit}
    if any(name in provenance for name in _OUTER):
        before = world_from_scene(scene)
        shrink = torch.diag(torch.tensor([1 / factor] * 3 + [1.0], dtype=torch.float64))
        provenance["world_from_scene"] = (shrink if before is None else before @ shrink).tolist()
    poses = scene.cameras.cam_from_world
    lengths = rigid(torch.ones(3, 3), torch.full((3,), float(factor))).to(poses)
    return replace(
        scene,
        gaussians=transform(scene.gaussians, torch.zeros(3), scale=factor),
        anchors=factor * scene.anchors,
        cameras=replace(scene.cameras, cam_from_world=lengths * poses),
        provenance=provenance,
    )


def world_from_scene(scene: TokenScene) -> Float[Tensor, "4 4"] | None:
    """Similarity, float64, from a scene to the world of its photos' cameras or its file; None = it is not recorded.

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
        raise UserError("the scene's provenance: its world_from_scene is no similarity; make the scene again")
    return found


def cameras_in_scene(cameras: Cameras, world_from_scene: Float[Tensor, "4 4"]) -> Cameras:
    """Move cameras into the world of a scene by a similarity, float64, such as `world_from_scene`; float32."""
    return move_cameras(cameras, torch.linalg.inv(world_from_scene)).to(torch.float32)
