"""Pixel-aligned Gaussians: the paper's stage before token groups, which adapts an encoder to the data by rendering."""

from __future__ import annotations

from tokengroups.systems.pixel_gaussians.head import PixelGaussianHead, PixelGaussiansConfig
from tokengroups.systems.pixel_gaussians.system import PixelGaussians, PixelGaussiansLossWeights, PixelGaussiansSettings

__all__ = [
    "PixelGaussianHead", "PixelGaussians", "PixelGaussiansConfig", "PixelGaussiansLossWeights",
    "PixelGaussiansSettings",
]  # fmt: skip
