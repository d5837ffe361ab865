"""Flip ensemble: group assignments averaged over the photos and their mirror images (test-time augmentation).

A network is not symmetric, so its errors on a scene and on its mirror image differ. Mirrored groups are matched to
the straight ones and the assignments averaged; anchors, Gaussians and all the rest stay those of the straight photos.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.encoders import Geometry
from tokengroups.errors import UserError
from tokengroups.hungarian import match_groups
from tokengroups.nearest import nearest
from tokengroups.postprocess.draft import Draft
from tokengroups.types import Cameras

NEIGHBOURS = 3  # mirrored anchors that are averaged for an anchor
DISTANCE_OFFSET = 0.3  # added to distances, which count in 1.5 anchor strides
LOG_DEPTH_UNIT = 0.125  # difference of log depth that counts as much as 1.5 strides to the side


@dataclass(frozen=True)
class FlipEnsemble:
    """Encode and decode the mirrored photos too, and average both assignments (a `Step`); twice the network's time.

    The mirrored photos get new features; cameras and depth are those of the draft, mirrored.
    """

    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, draft: Draft) -> Draft:
        """Replace the assignment of the prediction.

        Raises:
            UserError: The groups are masks of the photos, which are others in a mirror.
        """
        prediction = draft.predicted()
        if prediction.photo_groups is not None:
            raise UserError(
                "flip_ensemble: groups of this system are masks, whose number may change; leave the step out"
            )
        photos = draft.photos.flip(-1)
        full = None if draft.full_photos is None else draft.full_photos.flip(-1)
        answer = draft.model.encode(photos, full_photos=full).geometry
        geometry = replace(mirror_geometry(draft.geometry), features=answer.features, evidence=answer.evidence)
        other = draft.model.decode(replace(draft, photos=photos, geometry=geometry, prediction=None)).predicted()
        assignment = average_mirrored(
            torch.stack([prediction.assignment, other.assignment]),
            torch.stack([prediction.anchor_pixels, other.anchor_pixels]),
            draft.geometry.depth,
            prediction.anchor_stride,
        )
        return replace(draft, prediction=replace(prediction, assignment=assignment))


def average_mirrored(
    assignment: Float[Tensor, "2 K L"],
    anchor_pixels: Int64[Tensor, "2 K 3"],
    depth: Float[Tensor, "V H W"],
    stride: int,
) -> Float[Tensor, "K L"]:
    """Average the assignment of a scene with that of its mirror image.

    Args:
        assignment: Probabilities of each anchor over the groups, for the photos and for the photos mirrored.
        anchor_pixels: View, row and column of each anchor in its own photos.
        depth: Predicted for the photos.
        stride: Pixels between anchor candidates.
    """
    own, other = anchor_pixels[0], anchor_pixels[1].clone()
    other[:, 2] = depth.shape[-1] - 1 - other[:, 2]
    own, other = _places(own, depth, stride), _places(other, depth, stride)
    distances, neighbours = nearest(own, other, NEIGHBOURS)
    weights = 1 / (distances + DISTANCE_OFFSET)
    weights = weights / weights.sum(dim=1, keepdim=True)
    straight, mirrored = assignment[0], (assignment[1][neighbours] * weights[..., None]).sum(dim=1)
    shared = straight.T @ mirrored
    union = straight.sum(dim=0)[:, None] + mirrored.sum(dim=0) - shared
    straight_idx, mirrored_idx = match_groups(-shared / union.clamp_min(1e-6))
    average = straight.clone()
    average[:, straight_idx] += mirrored[:, mirrored_idx]
    return average / average.sum(dim=1, keepdim=True)


def mirror_geometry(geometry: Geometry) -> Geometry:
    """Mirror points, depth and cameras like the photos: x of the world changes its sign.

    Features and evidence are not mirrored: they are no function of the mirrored photos' own.
    """
    sign = geometry.points.new_tensor([-1.0, 1.0, 1.0, 1.0])
    cameras = geometry.cameras
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., 0, 2] = cameras.size_hw[1] - intrinsics[..., 0, 2]
    return replace(
        geometry,
        points=geometry.points.flip(-2) * sign[:3],
        depth=geometry.depth.flip(-1),
        confidence=geometry.confidence.flip(-1),
        mask=None if geometry.mask is None else geometry.mask.flip(-1),
        cameras=Cameras(sign[:, None] * cameras.cam_from_world * sign, intrinsics, cameras.size_hw),
    )


def _places(pixels: Int64[Tensor, "K 3"], depth: Float[Tensor, "V H W"], stride: int) -> Float[Tensor, "K 4"]:
    """Photo, place in it and depth of anchors, so that distances tell which show the same."""
    view, row, column = pixels.unbind(-1)
    depths = depth[view, row, column].clamp_min(1e-6).log() / LOG_DEPTH_UNIT
    apart = 1e3 * view  # another photo is never near
    return torch.stack([apart, row / (1.5 * stride), column / (1.5 * stride), depths], dim=-1)
