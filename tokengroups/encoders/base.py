"""The interface of geometry encoders: photos in, `Geometry` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.geometry import relative_cameras, world_points
from tokengroups.types import Cameras, TensorFields

# Names of optional evidence. Systems and post-processing steps say which of it they need.
MATCH_DESCRIPTORS = "match_descriptors"  # [*b V Q D], one per cell, row-major: products are matching logits
SINGLE_VIEW_FEATURES = "single_view_features"  # maps [*b V C g g] of each photo's central square, coarse to fine
PAIR_AFFINITY = "pair_affinity"  # [*b V R d d]: logits that two cells of that square show one object
# Rows and columns from a cell to its partner, one pair for each channel of the affinities.
PAIR_OFFSETS = ((0, 1), (1, 0), (0, 2), (2, 0), (0, 4), (4, 0), (0, 8), (8, 0))


@dataclass(frozen=True)
class Geometry(TensorFields):
    """An encoder's answer for one scene or a batch; world = camera of view 0, the scale is the encoder's own."""

    features: Float[Tensor, "*b V C h w"]  # one vector per patch
    points: Float[Tensor, "*b V H W 3"]
    depth: Float[Tensor, "*b V H W"]  # z
    confidence: Float[Tensor, "*b V H W"]  # of the depth, >= 1
    cameras: Cameras  # batch axes *b V
    evidence: Mapping[str, Tensor | tuple[Tensor, ...]] = field(default_factory=dict)  # by the names above
    mask: Bool[Tensor, "*b V H W"] | None = None  # pixels that count, not padding or ignored ones; None = all

    def scene(self, index: int) -> Geometry:
        """Take one scene out of a batch."""
        return self.map(lambda tensor: tensor[index])


@runtime_checkable
class Encoder(Protocol):
    """A network that turns unposed photos into cameras, depth, points and features.

    `image_size` is the longer side in pixels of the photos that suit it, photo sides must be multiples of `patch_size`,
    features have `feature_dim` channels, `evidence_dims` has the channels of each map of the evidence that it gives.
    One with an attribute `reads_full_photos` that is true also takes `full_images`, the photos with more pixels.
    An attribute `fast`, false at first, says that it can approximate attention among many photos where that is set.
    Your own needs one file; name it ``package.module:Class`` wherever an encoder is asked for::

        class FlatWall:  # every photo shows a wall one unit away
            image_size, patch_size, feature_dim, evidence_dims = 64, 8, 3, {}

            def encode(self, images, intrinsics=None):
                batch, views, _, height, width = images.shape
                if intrinsics is None:
                    pinhole = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
                    intrinsics = pinhole.to(images).expand(batch, views, 3, 3)
                poses = torch.eye(4).to(images).expand(batch, views, 4, 4)
                depth = torch.ones_like(images[:, :, 0])
                features = functional.avg_pool2d(images.flatten(0, 1), 8).unflatten(0, (batch, views))
                return geometry_of(features, depth, depth, Cameras(poses, intrinsics, (height, width)))
    """

    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def patch_size(self) -> int: ...  # noqa: D102
    @property
    def feature_dim(self) -> int: ...  # noqa: D102
    @property
    def evidence_dims(self) -> Mapping[str, tuple[int, ...]]: ...  # noqa: D102

    def encode(
        self, images: Float[Tensor, "B V 3 H W"], intrinsics: Float[Tensor, "B V 3 3"] | None = None
    ) -> Geometry:
        """Encode photos in [0, 1]; `intrinsics` in pixels, where they are given, take the place of predicted ones."""
        ...


def geometry_of(
    features: Float[Tensor, "B V C h w"],
    depth: Float[Tensor, "B V H W"],
    confidence: Float[Tensor, "B V H W"],
    cameras: Cameras,
    evidence: Mapping[str, Tensor | tuple[Tensor, ...]] | None = None,
) -> Geometry:
    """Assemble `Geometry` in the world of the first camera; points come from depth and cameras.

    Unprojected depth is more accurate than VGGT's point head (Wang et al. 2025, section 4.3). An encoder's own pose
    of the first photo is close to the identity but not equal to it, so the world is moved there.
    """
    first = cameras.cam_from_world[:, 0]
    poses = relative_cameras(cameras.cam_from_world, first, torch.ones_like(first[:, 0, 0]))
    points = world_points(depth, poses, cameras.intrinsics)
    cameras = Cameras(poses, cameras.intrinsics, cameras.size_hw)
    return Geometry(features, points, depth, confidence, cameras, evidence or {})
