"""PyTorch backend: readable, any device and dtype, gradients by autograd. Fallback and float64 oracle.

Projection follows Zwicker et al., "EWA Splatting" (2002) with gsplat's limits; compositing is a dense
[pixels, Gaussians] product per 16 x 16 tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.geometry import pixel_centres, rotation_from_quaternion
from tokengroups.render.inputs import RasterImages, RasterInputs
from tokengroups.types import TensorFields

NEAR = 0.01  # metres in camera z
BLUR = 0.3  # pixels^2, added to the diagonal of the 2D covariance
MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4
MAX_DETERMINANT = 1e30  # pixels^4; larger covariances overflow in float32
FIELD_MARGIN = 0.3  # of half the field of view: limit of x / z and y / z in the Jacobian
TILE = 16


@dataclass(frozen=True)
class Splats(TensorFields):
    """Gaussians of one scene in one camera, visible ones only, sorted by depth."""

    means: Float[Tensor, "M 2"]
    factors: Float[Tensor, "M 3"]  # Cholesky factor of the conic: sigma = ((ux x + uy y)^2 + (vy y)^2) / 2
    opacities: Float[Tensor, " M"]
    depths: Float[Tensor, " M"]
    extents: Float[Tensor, "M 2"]  # half size of the box where alpha >= 1/255
    indices: Int64[Tensor, " M"]  # into the scene's Gaussians


def project_splats(inputs: RasterInputs, scene: int, camera: int) -> Splats:
    """Project one scene into one camera. Differentiates through the visible Gaussians only: others may overflow."""
    gaussians = [each[scene] for each in (inputs.means, inputs.quats, inputs.scales, inputs.opacities)]
    means, *_, opacities = gaussians
    cam_from_world, intrinsics = inputs.cam_from_world[scene, camera], inputs.intrinsics[scene, camera]
    with torch.no_grad():
        depths = means @ cam_from_world[2, :3] + cam_from_world[2, 3]
        kept = ((depths >= NEAR) & (opacities >= MIN_ALPHA)).nonzero()[:, 0]
        kept = kept[torch.sort(depths[kept], stable=True).indices]
        candidates, determinants = _project(
            [each[kept] for each in gaussians], cam_from_world, intrinsics, inputs.size_hw
        )
        limit = means.new_tensor([inputs.size_hw[1], inputs.size_hw[0]])
        near, far = candidates.means + candidates.extents, candidates.means - candidates.extents
        kept = kept[((near > 0) & (far < limit)).all(dim=-1) & (determinants <= MAX_DETERMINANT)]
    splats, _ = _project([each[kept] for each in gaussians], cam_from_world, intrinsics, inputs.size_hw)
    return replace(splats, indices=kept)


def _project(
    gaussians: Sequence[Tensor], cam_from_world: Tensor, intrinsics: Tensor, size_hw: tuple[int, int]
) -> tuple[Splats, Float[Tensor, " M"]]:
    """Splats of Gaussians in front of the camera, in the order given, and determinants of their covariances."""
    means, quats, scales, opacities = gaussians
    points = means @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    axes = cam_from_world[:3, :3] @ (rotation_from_quaternion(quats) * scales[:, None, :])
    first, second = (_jacobian(points, intrinsics, size_hw) @ axes).unbind(-2)
    xx, xy, yy = (first * first).sum(-1), (first * second).sum(-1), (second * second).sum(-1)
    # Determinant by Lagrange's identity: a sum of positive terms, where xx yy - xy xy loses all digits for needles.
    area = torch.linalg.cross(first, second).square().sum(-1)
    determinants = area + BLUR * (xx + yy + BLUR)
    xx, yy = xx + BLUR, yy + BLUR
    ux = (yy / determinants).sqrt()
    factors = torch.stack([ux, -ux * xy / yy, yy.rsqrt()], dim=-1)
    means2d = points[:, :2] / points[:, 2:] * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    sigmas = (2 * torch.log(opacities.detach() / MIN_ALPHA)).sqrt()[:, None]
    extents = sigmas * torch.stack([xx, yy], dim=-1).detach().sqrt() * (1 + 1e-4) + 1e-3
    splats = Splats(means2d, factors, opacities, points[:, 2], extents, torch.arange(len(means)))
    return splats, determinants


def _jacobian(
    points: Float[Tensor, "M 3"], intrinsics: Float[Tensor, "3 3"], size_hw: tuple[int, int]
) -> Float[Tensor, "M 2 3"]:
    """Jacobian of the pinhole projection, with x / z and y / z limited to a little more than the field of view."""
    size = points.new_tensor([size_hw[1], size_hw[0]])
    focal, centre = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    margin = FIELD_MARGIN * 0.5 * size / focal
    z = points[:, 2:]
    ratio = torch.clamp(points[:, :2] / z, -centre / focal - margin, (size - centre) / focal + margin)
    diagonal = torch.diag_embed(focal / z)
    return torch.cat([diagonal, (-focal * ratio / z)[..., None]], dim=-1)


def composite(
    splats: Splats, values: Float[Tensor, "M D"], pixels: Float[Tensor, "P 2"]
) -> tuple[Float[Tensor, "P D"], Float[Tensor, " P"]]:
    """Alpha-composite values front to back at pixel positions: sums of weights times values, and of weights."""
    delta = pixels[:, None] - splats.means
    ux, uy, vy = splats.factors.unbind(-1)
    sigma = 0.5 * ((ux * delta[..., 0] + uy * delta[..., 1]) ** 2 + (vy * delta[..., 1]) ** 2)
    alpha = (splats.opacities * torch.exp(-sigma)).clamp_max(MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=-1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=-1)
    weights = torch.where(after > MIN_TRANSMITTANCE, alpha * before, torch.zeros_like(alpha))
    return weights @ values, weights.sum(dim=-1)


def _render_image(
    splats: Splats, values: Float[Tensor, "M D"], size_hw: tuple[int, int]
) -> tuple[Float[Tensor, "H W D"], Float[Tensor, "H W"]]:
    height, width = size_hw
    rows = []
    for y in range(0, height, TILE):
        tiles = []
        for x in range(0, width, TILE):
            size = (min(TILE, height - y), min(TILE, width - x))
            corner = splats.means.new_tensor([x, y])
            far_corner = corner + splats.means.new_tensor([size[1], size[0]])
            near = (splats.means + splats.extents > corner) & (splats.means - splats.extents < far_corner)
            chosen = near.all(dim=-1).nonzero()[:, 0]
            part = splats.map(lambda values, chosen=chosen: values[chosen])
            pixels = rearrange(pixel_centres(size, values) + corner, "h w c -> (h w) c")
            image, alpha = composite(part, values[chosen], pixels)
            tiles.append(rearrange(torch.cat([image, alpha[:, None]], dim=-1), "(h w) d -> h w d", h=size[0]))
        rows.append(torch.cat(tiles, dim=1))
    image = torch.cat(rows, dim=0)
    return image[..., :-1], image[..., -1]


def rasterize_tiles(inputs: RasterInputs) -> RasterImages:
    """Render with PyTorch operations, in the dtype of the inputs."""
    scenes, cameras = inputs.cam_from_world.shape[:2]
    every = [(scene, camera) for scene in range(scenes) for camera in range(cameras)]
    colors = inputs.plain_colors()
    images = [_rasterize_one(inputs, colors, scene, camera) for scene, camera in every]
    colors, alphas, depths, features = (
        torch.stack(parts).unflatten(0, (scenes, cameras)) for parts in zip(*images, strict=True)
    )
    return RasterImages(colors, alphas, depths, None if inputs.anchor_features is None else features)


def _rasterize_one(inputs: RasterInputs, colors: Tensor, scene: int, camera: int) -> tuple[Tensor, ...]:
    splats = project_splats(inputs, scene, camera)
    colors = colors[scene, camera] if colors.ndim == 4 else colors[scene]
    values = [colors[splats.indices], splats.depths[:, None]]
    if inputs.anchor_features is not None and inputs.anchor_ids is not None:
        values.append(inputs.anchor_features[scene, inputs.anchor_ids[splats.indices]])
    image, alphas = _render_image(splats, torch.cat(values, dim=-1), inputs.size_hw)
    dims = [colors.shape[-1], 1, image.shape[-1] - colors.shape[-1] - 1]
    colors, depths, features = image.split(dims, dim=-1)
    safe = torch.where(alphas > 0, alphas, torch.ones_like(alphas))
    return colors, alphas, depths[..., 0] / safe, features
