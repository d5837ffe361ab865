"""Pixel-aligned Gaussians."""
