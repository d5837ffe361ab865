"""Reconstructions from given cameras, in the world and unit of these cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.alignment import similarity_of_cameras
from tokengroups.geometry import invert_rigid, rigid, transform_points
from tokengroups.postprocess import Draft, KnownPoses, Reconstruction
from tokengroups.scene import move_scene, scale_scene

FLOAT32_STEP = 2.0**-23
VISIBLE_ROUNDING = 1e-4  # of positions, in the median depth


@dataclass(frozen=True)
class CameraChange:
    """How far a refined camera is from the given one."""

    degrees: float
    distance: float  # in the unit of the given cameras


def in_known_world(made: Reconstruction, draft: Draft) -> Reconstruction:
    """Move a reconstruction into the world of the given cameras.

    Where this world's origin is so far away that float32 would round positions visibly, it is moved to the first
    camera, which `world_from_scene` in the provenance says.
    """
    known = draft.known_poses
    assert known is not None
    given, scene = known.cam_from_world.to(draft.geometry.depth.device), made.scene
    similarity = _world_from_geometry(draft, known, given)
    unit = float(torch.linalg.det(similarity[:3, :3]) ** (1 / 3))
    provenance = {**scene.provenance, "cameras": "refined" if known.refine else "given"}
    provenance["unit"] = "that of the cameras" if known.unit else "relative"
    provenance["depth_unit"] = float(f"{unit:.6g}")
    origin = similarity[:3, 3].clone()
    far = float(origin.abs().max()) * FLOAT32_STEP > VISIBLE_ROUNDING * unit * float(made.depth.median())
    shift = rigid(torch.eye(3).to(origin), origin if far else torch.zeros_like(origin))
    if far:
        provenance["world_from_scene"] = shift.tolist()
    scene = move_scene(scene, invert_rigid(shift) @ similarity)
    if known.refine:
        found = scene.cameras.cam_from_world.double()
        provenance["camera_changes"] = [vars(change) for change in camera_changes(found, given @ shift)]
    else:  # every bit
        poses = (given @ shift).to(scene.cameras.cam_from_world)
        scene = replace(scene, cameras=replace(scene.cameras, cam_from_world=poses))
    return replace(made, scene=replace(scene, provenance=provenance), depth=made.depth * unit)


def camera_changes(found: Float[Tensor, "V 4 4"], given: Float[Tensor, "V 4 4"]) -> list[CameraChange]:
    """Angles and distances between paired cameras."""
    skew = found[:, :3, :3] @ given[:, :3, :3].mT - torch.eye(3).to(found)
    angles = 2 * (torch.linalg.matrix_norm(skew) / 8**0.5).clamp(max=1).asin()
    centres = (invert_rigid(poses)[:, :3, 3] for poses in (found, given))
    moved = torch.linalg.vector_norm(torch.sub(*centres), dim=1)
    numbers = zip(torch.rad2deg(angles).tolist(), moved.tolist(), strict=True)
    return [CameraChange(round(degrees, 4), float(f"{distance:.4g}")) for degrees, distance in numbers]


def distance_between(made: Reconstruction, first: tuple[int, float, float], second: tuple[int, float, float]) -> float:
    """Distance in the scene of the surface points behind two pixels (view, x, y) of the photos; NaN = depth unknown."""
    points = []
    for view, x, y in (first, second):
        cameras, (height, width) = made.scene.cameras, made.depth.shape[1:]
        row, column = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
        depth = made.depth[view, row, column].double()
        ray = torch.linalg.solve(cameras.intrinsics[view].double(), depth.new_tensor([x, y, 1.0]))
        known = depth > 0 if made.mask is None else (depth > 0) & made.mask[view, row, column]
        in_cam = torch.where(known, depth, torch.nan) * ray
        points.append(transform_points(invert_rigid(cameras.cam_from_world[view].double()), in_cam[None])[0])
    return float(torch.linalg.vector_norm(points[0] - points[1]))


def scaled(made: Reconstruction, factor: float, unit: str) -> Reconstruction:
    """Multiply all lengths of a reconstruction; `unit` is what its new unit is called."""
    return replace(made, scene=scale_scene(made.scene, factor, unit), depth=made.depth * factor)


def _world_from_geometry(draft: Draft, known: KnownPoses, given: Float[Tensor, "V 4 4"]) -> Float[Tensor, "4 4"]:
    """Similarity, float64, from the world of the geometry to that of the given cameras."""
    if known.refine:
        found = similarity_of_cameras(draft.geometry.cameras.cam_from_world.double(), given)
        return found if known.unit else _with_scale(found, 1.0)
    world_from_first = invert_rigid(given[0])
    return _with_scale(world_from_first, known.unit or 1.0)


def _with_scale(motion: Float[Tensor, "4 4"], scale: float) -> Float[Tensor, "4 4"]:
    rotation = motion[:3, :3] / torch.linalg.det(motion[:3, :3]) ** (1 / 3)
    return rigid(scale * rotation, motion[:3, 3])
