"""Noise model and priors of bundle adjustment, chosen on held-out rooms; results hardly depend on most of them."""

from __future__ import annotations

from dataclasses import dataclass

STOP_BELOW_STEP = 2e-3  # of poses, in radians and the geometry's unit: no further Gauss-Newton steps
CELL_STD_PX = 2.0  # of a cell's match
PATCH_STEP_PX = 4  # between the patches of a view
MANY_VIEWS_PATCH_STEP_PX = 5  # where many views see each patch
WIDE_SEARCH_RADIUS_PX = 16
WIDE_SEARCH_STD_PX = 2.0
DEPTH_STD = 0.2  # relative, of a pixel's depth
CORRECTED_DEPTH_STD = 0.03  # relative, of a corrected depth
DEPTH_CONSISTENCY_STD = 0.05  # of the difference of two views' log depths of one point
DEPTH_CONSISTENCY_WEIGHT = 0.3
FOCAL_PRIOR_STD_AFTER_RIGID = 0.03  # of the log focal length, once depths are corrected: they hardly constrain it
GIVEN_FOCAL_LOG_STD = 1e-4  # of a given focal length: it stays
CORRECTION_NODES = 8  # a side of the grid of log-depth corrections
CORRECTION_PRIOR_STD = 0.3  # of a node
CORRECTION_SMOOTHNESS_STD = 0.15  # of the difference of neighbouring nodes


@dataclass(frozen=True)
class BundleAdjustmentSettings:
    """Stages, weights and priors; a weight scales the evidence of a match against the prior."""

    max_iterations: int = 12  # Gauss-Newton steps a stage
    cell_weight: float = 0.02  # of a cell's match: errors of neighbouring cells are correlated
    patch_weight: float = 0.5  # of a patch's match
    search_radii_px: tuple[int, ...] = (8, 6, 4, 3)  # around the expected pixel, one stage each
    patch_stds_px: tuple[float, ...] = (1.0, 0.5, 0.5, 0.5)  # of a patch's match, one a stage
    wide_search_below: float = 0.25  # share of patches found in the first stage: below it, a wide stage comes first
    rigid_stages: int = 2  # stages before depths are corrected
    rotation_prior_std: float = 0.3  # radians, under Cauchy's loss: predicted poses have outliers
    translation_prior_std: float = 0.2  # in the geometry's unit
    focal_prior_std: float = 0.06  # of the log focal length, one error for all views
