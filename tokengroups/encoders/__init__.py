"""Geometry encoders: unposed photos to cameras, depth, points and features."""

from __future__ import annotations

from tokengroups.encoders.base import Encoder, Geometry, geometry_of
from tokengroups.encoders.weights import load_encoder, save_encoder

__all__ = ["Encoder", "Geometry", "geometry_of", "load_encoder", "save_encoder"]
