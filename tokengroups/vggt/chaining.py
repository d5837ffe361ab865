"""Poses of photos that turned far from the first one: led on from the photo before.

A small VGGT tells the pose of a photo well where it shows what the first one shows, and loses photos that see nothing
of it. Photos that follow each other do overlap: such a pair, looked at by itself, tells how the camera went on.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import relative_cameras
from tokengroups.vggt.cameras import encoder_cameras
from tokengroups.vggt.depths import encoder_depth
from tokengroups.vggt.model import VGGT

FAR_ANGLE = math.radians(30.0)  # half of a usual field of view: half of the photo is new


@torch.no_grad()
def chained_poses(
    encoder: VGGT,
    images: Float[Tensor, "B V 3 H W"],
    poses: Float[Tensor, "B V 4 4"],
    depth: Float[Tensor, "B V H W"],
) -> Float[Tensor, "B V 4 4"]:
    """Poses with those that turned far from view 0 replaced: the pose of the view before, and the pair's own motion.

    Args:
        encoder: A VGGT.
        images: Photos in [0, 1], in the order in which they were taken.
        poses: `cam_from_world` that it predicts for all photos together; that of view 0 is the identity.
        depth: That it predicts with them, which gives the pairs' motions their scale.
    """
    num_views = images.shape[1]
    cosine = (poses[..., :3, :3].diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1) / 2
    scenes, views = (cosine < math.cos(FAR_ANGLE)).nonzero(as_tuple=True)
    if num_views < 3 or len(views) == 0:
        return poses
    ends = torch.stack([views - 1, views], dim=1)
    pairs = images[scenes[:, None], ends]
    output = encoder(pairs)
    size_hw = (images.shape[-2], images.shape[-1])
    scale = (depth[scenes, views - 1] / encoder_depth(output)[:, 0]).flatten(1).median(dim=1).values
    predicted = encoder_cameras(output, size_hw).cam_from_world
    motions = relative_cameras(predicted, predicted[:, 0], scale)[:, 1]
    chained = poses.clone()
    for scene, view, motion in zip(
        scenes.tolist(), views.tolist(), motions, strict=True
    ):  # in the order of the views
        chained[scene, view] = motion @ chained[scene, view - 1]
    return chained
