"""Rendering of 3D Gaussians with gsplat's semantics on CUDA (gsplat), CPU (our C++ kernels) or anything (PyTorch)."""

from __future__ import annotations

from tokengroups.render.api import RenderOutput, available_backends, rasterize, render

__all__ = ["RenderOutput", "available_backends", "rasterize", "render"]
