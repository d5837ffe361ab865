"""The tiny encoder: a small relative of VGGT that trains and runs on a CPU."""

from __future__ import annotations

from tokengroups.encoders.vggt_tiny.config import VGGTTinyConfig
from tokengroups.encoders.vggt_tiny.model import VGGTTiny, VGGTTinyOutput
from tokengroups.encoders.vggt_tiny.single_view import SingleViewNetwork, SingleViewPrediction

__all__ = ["SingleViewNetwork", "SingleViewPrediction", "VGGTTiny", "VGGTTinyConfig", "VGGTTinyOutput"]
