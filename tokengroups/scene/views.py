"""Views of a scene: rendered colour, depth and group maps, and cameras to look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.gaussians import select
from tokengroups.geometry import invert_rigid, project, rigid, rotation_from_quaternion, transform_points
from tokengroups.render import RenderOutput, render
from tokengroups.scene.groups import gaussian_mask, group_members, select_points
from tokengroups.scene.layout import cameras_up
from tokengroups.scene.quantiles import weighted_quantile
from tokengroups.ties import ascending
from tokengroups.types import Cameras, Gaussians, TokenScene

GROUP_ALPHA = 0.5  # a pixel belongs to a group where at least this much is covered by Gaussians
_PALE = 0.35  # contrast of what `highlight` leaves in the background
_NEAR = 0.05  # Gaussians nearer to the camera plane do not count as seen
_FILL = 0.85  # share of a portrait's side that holds the group,
_FRAMED = 0.97  # or rather this share of its opacity: faint floaters may fall outside
_FAINT = 1e-3  # alpha below which a colour does not show
_SAME_FACING = 1e-6  # cosine: views that differ by less face a group equally
_WIDEST_SLOPE = 1.5  # half of a portrait's widest field of view, as a tangent
Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]  # shows progress: items, their number, what


@dataclass(frozen=True)
class SceneView:
    """One rendered picture of a scene."""

    color: Float[Tensor, "H W 3"]
    alpha: Float[Tensor, "H W"]
    depth: Float[Tensor, "H W"]  # z in scene units; 0 where nothing is
    group_map: Int64[Tensor, "H W"]  # group ids; -1 where no group covers the pixel


def render_views(
    scene: TokenScene, cameras: Cameras, background: Float[Tensor, "3"] | None = None
) -> Iterator[SceneView]:
    """Render camera by camera, so that memory does not grow with their number; black background if None.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.example_scene()
        >>> first, second = tg.render_views(scene, scene.cameras)
        >>> first.color.shape, first.depth.shape
        (torch.Size([48, 64, 3]), torch.Size([48, 64]))
        >>> first.group_map.unique()  # -1 = no group
        tensor([-1,  1,  2,  3])
    """
    for out, columns in _render_columns(scene, cameras, background):
        ids = scene.group_ids[columns.clamp(min=0)]
        yield SceneView(out.colors[0], out.alphas[0], out.depths[0], ids.masked_fill_(columns < 0, -1))


def _render_columns(
    scene: TokenScene, cameras: Cameras, background: Float[Tensor, "3"] | None = None
) -> Iterator[tuple[RenderOutput, Int64[Tensor, "H W"]]]:
    """Pictures of each camera, and at each pixel the column of its most probable group, -1 where none covers it."""
    scene = scene.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
    for pose, pinhole in zip(cameras.cam_from_world, cameras.intrinsics, strict=True):
        out = render(
            scene.gaussians,
            pose[None].to(scene.gaussians.means),
            pinhole[None].to(scene.gaussians.means),
            cameras.size_hw,
            background=background,
            anchor_ids=scene.anchor_ids,
            anchor_features=scene.assignment,
            argmax=True,
        )
        assert out.argmax is not None
        yield out, out.argmax[0].masked_fill_(out.alphas[0] < GROUP_ALPHA, -1)


def highlight(view: SceneView, group_id: int) -> Float[Tensor, "H W 3"]:
    """Show one group of a view in its colours, and all else in pale grey.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import highlight
        >>> scene = tg.example_scene()
        >>> view = next(tg.render_views(scene, scene.cameras))
        >>> picture = highlight(view, 3)
        >>> bool((picture[view.group_map == 3] == view.color[view.group_map == 3]).all())
        True
    """
    grey = view.color.mean(dim=-1, keepdim=True).expand_as(view.color)
    mine = (view.group_map == group_id)[..., None]
    return torch.where(mine, view.color, _PALE * grey + (1 - _PALE))


def visible_shares(
    scene: TokenScene,
    watch: Watch = lambda items, total, what: items,  # noqa: ARG005
) -> Float[Tensor, " L"]:
    """Share of all pixels of the context views that shows each group, by column; `watch` shows progress.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import visible_shares
        >>> [round(share, 2) for share in visible_shares(tg.example_scene()).tolist()]
        [0.17, 0.12, 0.07]
    """
    counts, views = torch.zeros(len(scene.group_ids)), len(scene.cameras.intrinsics)
    for _, columns in watch(_render_columns(scene, scene.cameras), views, "views"):
        counts += torch.bincount(columns[columns >= 0], minlength=len(counts)) / columns.numel()
    return counts / views


def select_cameras(cameras: Cameras, indices: list[int]) -> Cameras:
    """Select cameras by indices, in this order."""
    return Cameras(cameras.cam_from_world[indices], cameras.intrinsics[indices], cameras.size_hw)


def resize_cameras(cameras: Cameras, height: int) -> Cameras:
    """Change the pictures' height without changing the views; the aspect stays, up to whole pixels."""
    old_height, old_width = cameras.size_hw
    width = max(round(height * old_width / old_height), 1)
    factors = cameras.intrinsics.new_tensor([width / old_width, height / old_height, 1.0])
    return Cameras(cameras.cam_from_world, cameras.intrinsics * factors[:, None], (height, width))


def orbit_cameras(scene: TokenScene, count: int, degrees: float = 360.0) -> Cameras:
    """Cameras on an orbit of the first context camera around its focus, about the cameras' common up axis.

    A turn of 360 degrees begins at the first camera. A smaller one is an arc with it in the middle.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import orbit_cameras
        >>> scene = tg.example_scene()
        >>> frames = tg.render_views(scene, orbit_cameras(scene, count=3, degrees=40))
        >>> len(list(frames))
        3
    """
    pose = scene.cameras.cam_from_world[0].double()
    world_from_cam = invert_rigid(pose)
    focus = world_from_cam[:3, 3] + focus_depth(scene) * world_from_cam[:3, 2]
    up = cameras_up(scene.cameras)
    full = degrees >= 360
    angles = torch.arange(count) * (360 / count) if full else torch.linspace(-degrees / 2, degrees / 2, count)
    half = torch.deg2rad(angles.double()) / 2
    turns = rotation_from_quaternion(torch.cat([half.cos()[:, None], half.sin()[:, None] * up], dim=1))
    moved_from_world = rigid(turns, focus - turns @ focus)  # turns the world about the focus
    poses = invert_rigid(moved_from_world @ world_from_cam)
    pinholes = scene.cameras.intrinsics[:1].expand(count, 3, 3)
    return Cameras(poses.to(scene.cameras.cam_from_world), pinholes, scene.cameras.size_hw)


def render_portrait(
    scene: TokenScene, column: int, size: int, background: Float[Tensor, "3"]
) -> Float[Tensor, "size size 3"]:
    """Render one group alone, filling the frame, from the context camera that faces it most."""
    return _portrait(scene, gaussian_mask(scene, column), size, background).colors[0]


def render_portraits(
    scene: TokenScene, size: int, background: Float[Tensor, "3"]
) -> Iterator[Float[Tensor, "size size 3"]]:
    """`render_portrait` of every group, by column."""
    for mine in group_members(scene):
        yield _portrait(scene, mine, size, background).colors[0]


def render_cutouts(scene: TokenScene, columns: Sequence[int], size: int) -> Iterator[Float[Tensor, "size size 4"]]:
    """`render_portrait` of the groups in some columns without a background: colour, not multiplied by alpha, and alpha.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import render_cutouts
        >>> (box,) = render_cutouts(tg.example_scene(), [1], size=32)
        >>> box.shape, bool(box[0, 0, 3] == 0), bool(box[16, 16, 3] > 0.9)
        (torch.Size([32, 32, 4]), True, True)
    """
    members = group_members(scene)
    for column in columns:
        out = _portrait(scene, members[column], size, torch.zeros(3))
        alpha = out.alphas[0, ..., None]
        yield torch.cat([out.colors[0] / alpha.clamp(min=_FAINT), alpha], dim=-1).clamp(0, 1)


def _portrait(scene: TokenScene, mine: Tensor, size: int, background: Float[Tensor, "3"]) -> RenderOutput:
    alone = select(scene.gaussians, mine).map(lambda values: values.float())
    centre = select_points(scene, mine).centre().double()
    camera = _portrait_camera(scene.cameras, centre, alone, size).to(alone.means)
    return render(alone, camera.cam_from_world, camera.intrinsics, camera.size_hw, background=background)


def look_at(eye: Float[Tensor, "3"], target: Float[Tensor, "3"], down: Float[Tensor, "3"]) -> Float[Tensor, "4 4"]:
    """Pose cam_from_world at `eye`, looking at `target`; `down` points to the picture's lower edge."""
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.linalg.cross(down, forward)
    if right.norm() < 1e-6 * down.norm():  # looking straight up or down
        right = torch.linalg.cross(down.roll(1), forward)
    right = torch.nn.functional.normalize(right, dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    return rigid(rotation, -rotation @ eye)


def focus_depth(scene: TokenScene) -> float:
    """Opacity-weighted median depth (z) in the first view; if that shows none, the mean distance of all."""
    cameras, pose = scene.cameras, scene.cameras.cam_from_world[0]
    points = transform_points(pose.double(), scene.gaussians.means.double())
    pixels, depth = project(points, cameras.intrinsics[0].double())
    height, width = cameras.size_hw
    inside = (pixels >= 0).all(dim=1) & (pixels[:, 0] < width) & (pixels[:, 1] < height) & (depth > _NEAR)
    weights = scene.gaussians.opacities[inside].double()
    if weights.sum() > 0:
        return float(weighted_quantile(depth[inside][:, None], weights, 0.5)[0])
    return float((scene.gaussians.means - invert_rigid(pose)[:3, 3]).norm(dim=1).mean())


def _portrait_camera(cameras: Cameras, centre: Float[Tensor, "3"], alone: Gaussians, size: int) -> Cameras:
    """Turn the view that faces the group most (the first of equals) to its centre; zoom to most of its opacity."""
    poses = cameras.cam_from_world.double()
    in_camera = poses[:, :3, :3] @ centre + poses[:, :3, 3]
    facing = in_camera[:, 2] / in_camera.norm(dim=1).clamp(min=1e-9)
    best = int(ascending(-facing.numpy(force=True), _SAME_FACING, 1)[0])
    eye = invert_rigid(poses[best])[:3, 3]
    if (centre - eye).norm() < _NEAR:
        eye = centre - poses[best, 2, :3]
    pose = look_at(eye, centre, poses[best, 1, :3])
    points = transform_points(pose, alone.means.double())
    offsets = (points[:, :2].abs() + alone.scales.double().amin(dim=1, keepdim=True)).amax(dim=1, keepdim=True)
    slopes = torch.where(points[:, 2:] > _NEAR, offsets / points[:, 2:].clamp(min=_NEAR), _WIDEST_SLOPE)
    slope = float(weighted_quantile(slopes, alone.opacities.double(), _FRAMED)[0])
    focal_px = size / 2 * _FILL / min(max(slope, 1e-6), _WIDEST_SLOPE)
    pinhole = torch.tensor([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(pose[None], pinhole[None], (size, size))
