"""Alignment of predictions and truth: by the first camera and one scale per scene, or by all points."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import (
    invert_rigid,
    median_distance_ratio,
    relative_cameras,
    rigid,
    transform_points,
    world_points,
)
from tokengroups.types import Cameras, Views


def align_cameras(
    targets: Cameras, context: Views, predicted_points: Float[Tensor, "B V H W 3"]
) -> tuple[Cameras, Float[Tensor, " B"]]:
    """Express target cameras in the predicted frame of the first context camera.

    Translations are multiplied by the scene's scale: the median, over all context pixels of known depth, of the
    predicted point's distance from the first camera over the true point's.

    Args:
        targets: True cameras, batch axes B T.
        context: The photos with true depth and cameras.
        predicted_points: Points of the photos' pixels, in the predicted frame of the first context camera.

    Returns:
        Cameras whose world is that frame, with the true intrinsics; predicted units per metre.
    """
    first = context.cameras.cam_from_world[:, 0]
    true_points = world_points(context.depth, context.cameras.cam_from_world, context.cameras.intrinsics)
    true_points = transform_points(first, rearrange(true_points, "b v h w c -> b (v h w) c"))
    predicted = rearrange(predicted_points, "b v h w c -> b (v h w) c")
    scale = median_distance_ratio(predicted, true_points, context.depth.flatten(1) > 0)
    cam_from_first = relative_cameras(targets.cam_from_world, first, scale)
    return Cameras(cam_from_first, targets.intrinsics, targets.size_hw), scale


def similarity(points: Float[Tensor, "M 3"], targets: Float[Tensor, "M 3"]) -> Float[Tensor, "4 4"]:
    """Rotation, translation and scale that move points to their targets with the least sum of squared distances.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991. Never a
    reflection. Points that all coincide keep their scale; without points nothing moves.

    Example:
        >>> import torch
        >>> from tokengroups.alignment import similarity
        >>> points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
        >>> similarity(points, 2 * points + 1).diagonal()
        tensor([2., 2., 2., 1.])
    """
    if not len(points):
        return torch.eye(4).to(points)
    source, target = points.double(), targets.double()
    centre, target_centre = source.mean(dim=0), target.mean(dim=0)
    source, target = source - centre, target - target_centre
    left, spread, right = torch.linalg.svd(target.T @ source / len(source))
    signs = torch.ones_like(spread)
    signs[-1] = torch.linalg.det(left @ right).sign()
    rotation = left * signs @ right
    variance = source.square().sum() / len(source)
    scale = (spread * signs).sum() / variance if variance > 0 else 1.0
    return rigid(scale * rotation, target_centre - scale * rotation @ centre).to(points)


def similarity_of_cameras(poses: Float[Tensor, "V 4 4"], targets: Float[Tensor, "V 4 4"]) -> Float[Tensor, "4 4"]:
    """World of the targets from that of the poses (cam_from_world): the similarity that moves cameras onto others.

    The rotation is the mean of those between paired cameras, which cameras along a line and a single one define, too
    (Moakher, "Means and averaging in the group of rotations", 2002). Cameras in one place keep their scale.

    Example:
        >>> import torch
        >>> from tokengroups.alignment import similarity_of_cameras
        >>> poses = torch.eye(4).repeat(2, 1, 1)
        >>> poses[1, 0, 3] = -1.0  # stands at x = 1
        >>> targets = poses.clone()
        >>> targets[1, 0, 3] = -3.0
        >>> similarity_of_cameras(poses, targets).diagonal()
        tensor([3., 3., 3., 1.])
    """
    source, target = invert_rigid(poses.double()), invert_rigid(targets.double())
    left, _, right = torch.linalg.svd((target[:, :3, :3] @ source[:, :3, :3].mT).mean(dim=0))
    left[:, 2] *= torch.linalg.det(left @ right).sign()
    rotation = left @ right
    centres, target_centres = source[:, :3, 3] @ rotation.T, target[:, :3, 3]
    middle, target_middle = centres.mean(dim=0), target_centres.mean(dim=0)
    spread = (centres - middle).square().sum()
    along = ((centres - middle) * (target_centres - target_middle)).sum()
    scale = along / spread if spread > 0 and along > 0 else torch.ones_like(spread)
    return rigid(scale * rotation, target_middle - scale * middle).to(poses)
