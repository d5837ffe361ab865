"""VGGT, the geometry encoder (Wang et al., CVPR 2025): photos in; features, cameras, depth and points out.

An implementation from a written description of the architecture, with the official parameter names.
"""

from __future__ import annotations

from tokengroups.vggt.adjustment import RefinementSettings
from tokengroups.vggt.cameras import encoder_cameras
from tokengroups.vggt.config import VGGTConfig
from tokengroups.vggt.depths import encoder_depth
from tokengroups.vggt.model import VGGT, Embedding
from tokengroups.vggt.official import load_official
from tokengroups.vggt.refinement import refine_geometry

__all__ = [
    "VGGT", "Embedding", "RefinementSettings", "VGGTConfig", "encoder_cameras", "encoder_depth",
    "load_official", "refine_geometry",
]  # fmt: skip
