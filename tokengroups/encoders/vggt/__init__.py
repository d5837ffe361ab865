"""VGGT, the geometry encoder (Wang et al., CVPR 2025): photos in; features, cameras, depth and points out.

An implementation from a written description of the architecture, with the official parameter names.
"""

from __future__ import annotations

from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.model import VGGT, Embedding
from tokengroups.encoders.vggt.official import load_official
from tokengroups.encoders.vggt_tiny.depth_fusion import encoder_depth
from tokengroups.encoders.vggt_tiny.focal_fusion import encoder_cameras
from tokengroups.postprocess.bundle_adjustment.gauss_newton import RefinementSettings
from tokengroups.postprocess.bundle_adjustment.refine import refine_geometry

__all__ = [
    "VGGT", "Embedding", "RefinementSettings", "VGGTConfig", "encoder_cameras", "encoder_depth",
    "load_official", "refine_geometry",
]  # fmt: skip
