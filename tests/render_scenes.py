"""Scenes and the dense float64 oracle for the tests of rendering.

The oracle composites every Gaussian at every pixel (no tiles, no lists, no culling but the near plane) on gsplat's own
PyTorch projection, so it shares no code with any backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from golden_file import read_golden, relative_l2
from golden_raster import Scene, cpu_backends, golden_scene, gradients
from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci
from torch import Tensor

from tokengroups.render import RenderOutput

__all__ = [
    "BACKENDS", "Dense", "Scene", "cotangents", "dense_render", "gradients", "load_golden", "random_scene",
    "relative_l2", "single_camera_scene", "with_fields",
]  # fmt: skip

NEAR = 0.01


BACKENDS = cpu_backends()  # with every variant of the C++ kernels that this machine executes


@dataclass(frozen=True)
class Dense:
    """What the oracle renders, and how close any decision was: 0 = on the edge (relative distance)."""

    colors: Tensor
    alphas: Tensor
    depths: Tensor
    features: Tensor | None
    margin: float


def dense_render(scene: Scene) -> Dense:
    """Render with the oracle; the scene should be float64."""
    images = [_dense_image(scene, camera) for camera in range(len(scene.intrinsics))]
    features = None if scene.anchor_features is None else torch.stack([i.features for i in images])
    return Dense(
        torch.stack([i.colors for i in images]), torch.stack([i.alphas for i in images]),
        torch.stack([i.depths for i in images]), features, min(i.margin for i in images),
    )  # fmt: skip


def _dense_image(scene: Scene, camera: int) -> Dense:
    pose, (height, width) = scene.cam_from_world[camera], scene.size_hw
    z = scene.means @ pose[2, :3] + pose[2, 3]
    kept = (z >= NEAR).nonzero()[:, 0]
    kept = kept[torch.sort(z[kept], stable=True).indices]
    covariance, _ = _quat_scale_to_covar_preci(scene.quats[kept], scene.scales[kept], True, False)
    _, means2d, depths, conics, _ = _fully_fused_projection(
        scene.means[kept], covariance, pose[None], scene.intrinsics[camera][None], width, height
    )
    x = torch.arange(width, dtype=z.dtype) + 0.5
    y = torch.arange(height, dtype=z.dtype) + 0.5
    dx, dy = (x[None, :, None] - means2d[0, :, 0], y[:, None, None] - means2d[0, :, 1])  # [H, W, M] by broadcasting
    a, b, c = conics[0].unbind(-1)
    free = scene.opacities[kept] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
    alpha = torch.where(free >= 1 / 255, free.clamp_max(0.999), torch.zeros_like(free))
    after = torch.cumprod(1 - alpha, dim=-1)
    before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], dim=-1)
    weights = torch.where(after > 1e-4, alpha * before, torch.zeros_like(alpha))
    alphas = weights.sum(dim=-1)
    colors = scene.colors[camera] if scene.colors.ndim == 3 else scene.colors
    features = None
    if scene.anchor_features is not None and scene.anchor_ids is not None:
        features = weights @ scene.anchor_features[scene.anchor_ids[kept]]
    depth = (weights * depths[0]).sum(dim=-1) / torch.where(alphas > 0, alphas, torch.ones_like(alphas))
    return Dense(weights @ colors[kept], alphas, depth, features, _margin(free, after, depths[0]))


def _margin(free: Tensor, after: Tensor, depths: Tensor) -> float:
    """Least relative distance of a pair from a threshold, or of two depths from a tie."""
    edges = [(free * 255 - 1).abs(), (free / 0.999 - 1).abs(), (after / 1e-4 - 1).abs()]
    edges.append((depths.diff() / depths[:-1]).abs())
    return min((float(edge.detach().min()) for edge in edges if edge.numel()), default=1.0)


def random_scene(
    seed: int, count: int, size_hw: tuple[int, int], cameras: int = 2, channels: int = 3, features: int = 0
) -> Scene:
    """Gaussians around the origin, cameras around them; some Gaussians lie behind or beside the cameras."""
    g = torch.Generator().manual_seed(seed)
    height, width = size_hw
    means = 1.5 * torch.randn(count, 3, generator=g)
    quats = torch.randn(count, 4, generator=g)
    scales = torch.exp(torch.randn(count, 3, generator=g) * 0.7 - 1.8)
    opacities = torch.sigmoid(2 * torch.randn(count, generator=g))
    colors = torch.randn(count, channels, generator=g)
    angles = torch.rand(cameras, generator=g) * 6.28
    pose = torch.eye(4).repeat(cameras, 1, 1)
    pose[:, 0, 0], pose[:, 0, 2] = angles.cos(), angles.sin()
    pose[:, 2, 0], pose[:, 2, 2] = -angles.sin(), angles.cos()
    pose[:, :3, 3] = torch.tensor([0.1, -0.2, 2.5])
    focal = 0.9 * max(width, height)
    intrinsics = torch.tensor([[focal, 0, width * 0.45], [0, focal * 1.1, height * 0.55], [0, 0, 1.0]])
    anchors = max(1, count // 4)
    return Scene(
        means, quats, scales, opacities, colors, pose, intrinsics.repeat(cameras, 1, 1), size_hw,
        torch.randint(0, anchors, (count,), generator=g) if features else None,
        torch.randn(anchors, features, generator=g) if features else None,
    )  # fmt: skip


def single_camera_scene(
    means: Sequence[Sequence[float]], *, scale: float = 0.1, opacity: float = 0.5, size_hw: tuple[int, int] = (12, 16)
) -> Scene:
    """Round Gaussians in front of a camera at the origin that looks along z, with focal length 16 pixels."""
    count = len(means)
    g = torch.Generator().manual_seed(count)
    height, width = size_hw
    intrinsics = torch.tensor([[[16.0, 0, width / 2], [0, 16.0, height / 2], [0, 0, 1]]])
    return Scene(
        torch.tensor(means, dtype=torch.float32).reshape(count, 3), torch.randn(count, 4, generator=g),
        torch.full((count, 3), scale), torch.full((count,), opacity), torch.rand(count, 3, generator=g),
        torch.eye(4)[None], intrinsics, size_hw,
    )  # fmt: skip


def load_golden(path: Path) -> tuple[Scene, dict[str, Tensor]]:
    """A golden scene, and all tensors of its file."""
    golden = read_golden(path)
    return golden_scene(golden), golden.tensors


def cotangents(output: RenderOutput | Dense, seed: int = 0) -> dict[str, Tensor]:
    """Random float64 cotangents of every image."""
    g = torch.Generator().manual_seed(seed)
    images = {name: getattr(output, name) for name in ("colors", "alphas", "depths", "features")}
    return {
        name: torch.randn(image.shape, generator=g, dtype=torch.float64)
        for name, image in images.items()
        if image is not None
    }


def with_fields(scene: Scene, **changes: Tensor) -> Scene:
    """A copy with some tensors replaced."""
    return replace(scene, **changes)
