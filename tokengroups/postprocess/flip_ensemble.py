"""Groups of mirrored photos: a second opinion on which anchors belong together, at the price of a second pass.

The network is not symmetric, so its mistakes on a scene and on its mirror image differ. Mirrored groups are matched to
the straight ones, and the assignments averaged; anchors, Gaussians and all the rest stay those of the straight photos.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.hungarian import match_groups
from tokengroups.nearest import nearest
from tokengroups.systems.token_groups.context import FrozenGeometry
from tokengroups.types import Cameras

NEIGHBOURS = 3  # mirrored anchors that an anchor's second opinion comes from
NEAR = 0.3  # added to distances, which count in 1.5 anchor strides
LOG_DEPTH_UNIT = 0.125  # of the logarithm of the depth, as far as 1.5 strides to the side


def average_mirrored(
    assignment: Float[Tensor, "2 K L"],
    anchor_pixels: Int64[Tensor, "2 K 3"],
    depth: Float[Tensor, "V H W"],
    stride: int,
) -> Float[Tensor, "K L"]:
    """Assignment of a scene averaged with that of its mirror image.

    Args:
        assignment: Probabilities of each anchor over the groups, of the photos and of the photos mirrored.
        anchor_pixels: View, row and column of each anchor in its own photos.
        depth: Predicted for the photos.
        stride: Pixels between anchor candidates.
    """
    own, other = anchor_pixels[0], anchor_pixels[1].clone()
    other[:, 2] = depth.shape[-1] - 1 - other[:, 2]
    own, other = _places(own, depth, stride), _places(other, depth, stride)
    distances, neighbours = nearest(own, other, NEIGHBOURS)
    weights = 1 / (distances + NEAR)
    weights = weights / weights.sum(dim=1, keepdim=True)
    straight, opinion = assignment[0], (assignment[1][neighbours] * weights[..., None]).sum(dim=1)
    shared = straight.T @ opinion
    union = straight.sum(dim=0)[:, None] + opinion.sum(dim=0) - shared
    mine, theirs = match_groups(-shared / union.clamp_min(1e-6))
    average = straight.clone()
    average[:, mine] += opinion[:, theirs]
    return average / average.sum(dim=1, keepdim=True)


def mirror_geometry(
    geometry: FrozenGeometry,
    features: Float[Tensor, "B V C h w"],
    photo_features: tuple[Float[Tensor, "B V _ _ _"], ...] = (),
) -> FrozenGeometry:
    """What the encoder would say of the mirrored photos if it were symmetric, with the features that it does give.

    The world is mirrored like the photos: x changes its sign.
    """
    sign = geometry.points.new_tensor([-1.0, 1.0, 1.0, 1.0])
    cameras = geometry.cameras
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., 0, 2] = cameras.size_hw[1] - intrinsics[..., 0, 2]
    return FrozenGeometry(
        features=features,
        points=geometry.points.flip(-2) * sign[:3],
        depth=geometry.depth.flip(-1),
        confidence=geometry.confidence.flip(-1),
        cameras=Cameras(sign[:, None] * cameras.cam_from_world * sign, intrinsics, cameras.size_hw),
        photo_features=photo_features,
    )


def _places(pixels: Int64[Tensor, "K 3"], depth: Float[Tensor, "V H W"], stride: int) -> Float[Tensor, "K 4"]:
    """Photo, place in it and depth of anchors, so that distances tell which show the same."""
    view, row, column = pixels.unbind(-1)
    depths = depth[view, row, column].clamp_min(1e-6).log() / LOG_DEPTH_UNIT
    apart = 1e3 * view  # another photo is never near
    return torch.stack([apart, row / (1.5 * stride), column / (1.5 * stride), depths], dim=-1)
