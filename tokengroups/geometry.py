"""Rigid motions, pinhole projection and scene scale: pure functions on tensors with any leading batch axes.

Frames are in the names: ``b_from_a`` maps coordinates of frame a to frame b, so ``c_from_a = c_from_b @ b_from_a``.
Camera axes are OpenCV's; pixel (row i, column j) has its centre at (x, y) = (j + 0.5, i + 0.5).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def invert_rigid(b_from_a: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Inverse of a rigid motion, exact in structure (last row stays 0 0 0 1).

    Example:
        >>> import torch
        >>> from tokengroups.geometry import invert_rigid, rigid
        >>> cam_from_world = rigid(torch.eye(3), torch.tensor([0.0, 0.0, 2.0]))
        >>> invert_rigid(cam_from_world)[:3, 3].tolist()  # the camera's centre in the world
        [0.0, 0.0, -2.0]
    """
    rotation = b_from_a[..., :3, :3].transpose(-1, -2)
    translation = -rotation @ b_from_a[..., :3, 3:]
    bottom = b_from_a[..., 3:, :]
    return torch.cat([torch.cat([rotation, translation], dim=-1), bottom], dim=-2)


def rigid(rotation: Float[Tensor, "*b 3 3"], translation: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4 4"]:
    """Assemble a 4x4 rigid motion."""
    bottom = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*rotation.shape[:-2], 1, 4)
    return torch.cat([torch.cat([rotation, translation[..., None]], dim=-1), bottom], dim=-2)


def transform_points(b_from_a: Float[Tensor, "*b 4 4"], points: Float[Tensor, "*b M 3"]) -> Float[Tensor, "*b M 3"]:
    """Map points from frame a to frame b."""
    return points @ b_from_a[..., :3, :3].transpose(-1, -2) + b_from_a[..., None, :3, 3]


def cross_matrix(vectors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Skew-symmetric matrices [v]x, with [v]x p = v x p."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def rotation_from_vector(vectors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotations about the vectors' directions by their lengths, in radians."""
    return torch.linalg.matrix_exp(cross_matrix(vectors))


def rotation_from_quaternion(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices from quaternions wxyz of any non-zero length.

    Example:
        >>> import torch
        >>> from tokengroups.geometry import rotation_from_quaternion
        >>> half_turn_about_y = torch.tensor([0.0, 0.0, 1.0, 0.0])  # w x y z
        >>> rotation_from_quaternion(half_turn_about_y).diagonal().tolist()
        [-1.0, 1.0, -1.0]
    """
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def quaternion_from_rotation(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions wxyz with w >= 0, from the best-conditioned of the four square roots."""
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], dim=-1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    s, t, u, v = squares.unbind(-1)
    candidates = torch.stack([s, a, b, c, a, t, d, e, b, d, u, f, c, e, f, v], dim=-1).unflatten(-1, (4, 4))
    best = squares.argmax(dim=-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quats = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def multiply_quaternions(left: Float[Tensor, "*b 4"], right: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Hamilton product wxyz: the rotation `right`, then `left`."""
    w, x, y, z = left.unbind(-1)
    a, b, c, d = right.unbind(-1)
    parts = [
        w * a - x * b - y * c - z * d, w * b + x * a + y * d - z * c,
        w * c - x * d + y * a + z * b, w * d + x * c - y * b + z * a,
    ]  # fmt: skip
    return torch.stack(parts, dim=-1)


def pixel_centres(size_hw: tuple[int, int], like: Tensor) -> Float[Tensor, "H W 2"]:
    """Pixel coordinates (x, y) of all pixel centres."""
    height, width = size_hw
    y = torch.arange(height, device=like.device, dtype=like.dtype) + 0.5
    x = torch.arange(width, device=like.device, dtype=like.dtype) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def central_square(size_hw: tuple[int, int]) -> tuple[int, int, int]:
    """First row, first column and side of the largest square in the middle of an image."""
    side = min(size_hw)
    return (size_hw[0] - side) // 2, (size_hw[1] - side) // 2, side


def cell_centres(side: int, cells: int, like: Tensor) -> Int64[Tensor, " g"]:
    """Indices of the pixels in the middle of each of `cells` equal cells along `side` pixels."""
    return ((torch.arange(cells, device=like.device) + 0.5) * (side / cells)).long()


def unproject(depth: Float[Tensor, "*b H W"], intrinsics: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b H W 3"]:
    """Camera-frame points of a z-depth map.

    Example:
        >>> import torch
        >>> from tokengroups.geometry import project, unproject
        >>> pinhole = torch.tensor([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
        >>> points = unproject(torch.full((48, 64), 2.0), pinhole)
        >>> pixels, depth = project(points.flatten(0, 1), pinhole)
        >>> pixels[0].tolist(), depth[0].item()  # the first pixel's centre
        ([0.5, 0.5], 2.0)
    """
    height, width = depth.shape[-2:]
    pixels = pixel_centres((height, width), depth)
    fx, fy = intrinsics[..., 0, 0, None, None], intrinsics[..., 1, 1, None, None]
    cx, cy = intrinsics[..., 0, 2, None, None], intrinsics[..., 1, 2, None, None]
    x = (pixels[..., 0] - cx) / fx * depth
    y = (pixels[..., 1] - cy) / fy * depth
    return torch.stack([x, y, depth], dim=-1)


def project(
    points: Float[Tensor, "*b M 3"], intrinsics: Float[Tensor, "*b 3 3"]
) -> tuple[Float[Tensor, "*b M 2"], Float[Tensor, "*b M"]]:
    """Pixel coordinates and depths of camera-frame points; pixels are valid where the depth is positive."""
    homogeneous = points @ intrinsics.transpose(-1, -2)
    depth = points[..., 2]
    safe = torch.where(depth.abs() < 1e-8, torch.full_like(depth, 1e-8), depth)
    return homogeneous[..., :2] / safe[..., None], depth


def world_points(
    depth: Float[Tensor, "*b H W"], cam_from_world: Float[Tensor, "*b 4 4"], intrinsics: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b H W 3"]:
    """World-frame points of z-depth maps."""
    points = unproject(depth, intrinsics).flatten(-3, -2)
    return transform_points(invert_rigid(cam_from_world), points).unflatten(-2, depth.shape[-2:])


def mean_distance(points: Float[Tensor, "*b M 3"], valid: Bool[Tensor, "*b M"]) -> Float[Tensor, "*b"]:
    """Mean distance of the valid points from the origin: the scale that VGGT's training divides by."""
    distance = points.norm(dim=-1) * valid
    return (distance.sum(dim=-1) / (valid.sum(dim=-1) + 1e-3)).clamp(1e-6, 1e6)


def median_distance_ratio(
    points: Float[Tensor, "B M 3"], reference: Float[Tensor, "B M 3"], valid: Bool[Tensor, "B M"]
) -> Float[Tensor, " B"]:
    """Scale per scene: median over valid points of |points| / |reference|; 1 where nothing is valid."""
    ratio = points.norm(dim=-1) / reference.norm(dim=-1).clamp_min(1e-6)
    median = torch.where(valid, ratio, torch.nan).nanmedian(dim=-1).values
    return torch.where(torch.isfinite(median), median, torch.ones_like(median))


def relative_cameras(
    cam_from_world: Float[Tensor, "*b V 4 4"], first_from_world: Float[Tensor, "*b 4 4"], scale: Float[Tensor, "*b"]
) -> Float[Tensor, "*b V 4 4"]:
    """Cameras expressed in the frame of one camera, translations multiplied by one scale per scene."""
    cam_from_first = cam_from_world @ invert_rigid(first_from_world)[..., None, :, :]
    translation = cam_from_first[..., :3, 3] * scale[..., None, None]
    return rigid(cam_from_first[..., :3, :3], translation)
