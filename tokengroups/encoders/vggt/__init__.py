"""VGGT, the published geometry encoder (Wang et al., CVPR 2025): photos in; cameras, depth, points and features out.

An implementation from a written description of the architecture, with the official parameter names.
"""

from __future__ import annotations

from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.model import VGGT, Embedding, VGGTOutput
from tokengroups.encoders.vggt.official import load_official

__all__ = ["VGGT", "Embedding", "VGGTConfig", "VGGTOutput", "load_official"]
