"""Bundle adjustment of predicted cameras and depth on matched pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tokengroups.encoders.base import MATCH_DESCRIPTORS
from tokengroups.geometry import world_points
from tokengroups.postprocess.bundle_adjustment.gauss_newton import BundleAdjustmentSettings
from tokengroups.postprocess.bundle_adjustment.refine import refine_geometry
from tokengroups.postprocess.draft import Draft
from tokengroups.types import Cameras

__all__ = ["BundleAdjustment", "BundleAdjustmentSettings", "refine_geometry"]


GIVEN_FOCAL_LOG_STD = 1e-4  # of a given focal length: it stays
# Of given cameras that are to be refined, as a phone's odometry or an old calibration is off.
APPROXIMATE = {"rotation_prior_std": 0.05, "translation_prior_std": 0.05, "focal_prior_std": 0.02}


@dataclass(frozen=True)
class BundleAdjustment(BundleAdjustmentSettings):
    """Adjust poses, one focal-length factor and depth to matched pixels of covisible photos (a `Step`).

    It works on any encoder's geometry; match descriptors, where there are some, start it from coarse matches.
    """

    when: ClassVar[str] = "before_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, draft: Draft) -> Draft:
        """Refine cameras, depth and points; given intrinsics and poses stay, unless they are to be refined."""
        geometry, known = draft.geometry, draft.known_poses
        settings = replace(self, focal_prior_std=GIVEN_FOCAL_LOG_STD) if draft.intrinsics_given else self
        if known is not None:
            settings = replace(self, **APPROXIMATE) if known.refine else replace(settings, fixed_cameras=True)
        descriptors = geometry.evidence.get(MATCH_DESCRIPTORS)
        assert not isinstance(descriptors, tuple)
        cameras, depth = refine_geometry(
            draft.photos[None],
            geometry.cameras.map(lambda tensor: tensor[None]),
            geometry.depth[None],
            None if descriptors is None else descriptors[None],
            settings,
            None if geometry.mask is None else geometry.mask[None],
            None if draft.full_photos is None else draft.full_photos[None],
        )
        points = world_points(depth, cameras.cam_from_world, cameras.intrinsics)[0]
        cameras = Cameras(cameras.cam_from_world[0], cameras.intrinsics[0], cameras.size_hw)
        return replace(draft, geometry=replace(geometry, cameras=cameras, depth=depth[0], points=points))
