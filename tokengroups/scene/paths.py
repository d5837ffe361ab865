"""Camera paths: smooth motion through viewpoints.

Positions follow a cubic Catmull-Rom spline with centripetal knots, which makes no loops or cusps between viewpoints,
however unevenly they are placed (Yuksel, Schaefer and Keyser 2011, Computer-Aided Design 43). Orientations follow the
same spline on unit quaternions: Bezier curves by de Casteljau's algorithm with great arcs for lines (Shoemake 1985,
SIGGRAPH). The spline's parameter is time, so neither speed nor turning jumps at a viewpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import (
    invert_rigid,
    multiply_quaternions,
    quaternion_from_rotation,
    rigid,
    rotation_from_quaternion,
)
from tokengroups.types import Cameras

_SHORTEST = 0.1  # time of a leg in mean legs: viewpoints may be equal
_HALF_TURN = 1e-6  # cosine of half the angle: turns that are this near to 180 degrees go to the right


def path_cameras(viewpoints: Cameras, count: int, closed: bool = False) -> Cameras:
    """Cameras at equal steps of time on a smooth path through viewpoints, which all have one size.

    An open path begins at the first viewpoint and ends at the last one. A closed one goes on to the first one; its
    last camera is one step before that, so that the film repeats without a halt. One viewpoint is a still. Two make a
    straight line at constant speed.

    Args:
        viewpoints: Batch axis V, at least one.
        count: Number of cameras, at least 1.
        closed: Whether the path returns to its first viewpoint.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import path_cameras
        >>> scene = tg.example_scene()
        >>> film = tg.render_views(scene, path_cameras(scene.cameras, count=3))
        >>> len(list(film))
        3
    """
    steps = torch.arange(count, dtype=torch.float64)
    return cameras_along(viewpoints, steps / (count if closed else max(count - 1, 1)), closed)


def viewpoint_times(viewpoints: Cameras, closed: bool = False) -> Float[Tensor, " V"]:
    """Share of the whole time, 0 to 1, after which a path reaches each viewpoint, float64.

    The time of a leg is the square root of its length, as centripetal knots are: long ways are faster than short ones,
    but not so much that viewpoints rush by. The length unites shift, turn in radians, and logarithm of the zoom. Shifts
    are in units of the viewpoints' spread (RMS distance from their mean), so turning on the spot takes time, too, and
    the unit of the scene does not matter.
    """
    _, shares = _legs(viewpoints, closed)
    ends = shares.cumsum(0)
    return torch.cat([ends.new_zeros(1), ends])[: len(viewpoints.intrinsics)]


def cameras_along(viewpoints: Cameras, times: Float[Tensor, " n"], closed: bool = False) -> Cameras:
    """Cameras of a path through viewpoints at shares of the whole time, 0 to 1.

    At the times of `viewpoint_times` they are the viewpoints. Focal lengths are interpolated in the logarithm.
    """
    steps, shares = _legs(viewpoints, closed)
    flat, quats = _values(viewpoints)
    if not len(shares):
        return viewpoints.map(lambda values: values[:1].expand(len(times), -1, -1))
    ends = shares.cumsum(0)
    leg = torch.searchsorted(ends, times.double().contiguous(), right=True).clamp(max=len(shares) - 1)
    s = ((times - ends[leg] + shares[leg]) / shares[leg]).clamp(0, 1)[:, None]
    speeds = _speeds(steps, shares, closed)
    after = (leg + 1) % len(flat)
    third = shares[leg, None] / 3
    leave, arrive = speeds[leg] * third, -speeds[after] * third
    a, b = flat[leg], flat[after]
    flat = _bezier([a, a + leave[:, :-3], b + arrive[:, :-3], b], s, torch.lerp)
    p = quats[leg]
    q = multiply_quaternions(p, _exp(steps[leg, -3:]))  # the second viewpoint, with the sign of the shorter way
    controls = [p, multiply_quaternions(p, _exp(leave[:, -3:])), multiply_quaternions(q, _exp(arrive[:, -3:])), q]
    return _cameras(flat, _bezier(controls, s, _arc), viewpoints)


def _values(viewpoints: Cameras) -> tuple[Float[Tensor, "V 7"], Float[Tensor, "V 4"]]:
    """Position, logarithms of the focal lengths, and centre of the picture; quaternions of world_from_cam."""
    world_from_cam, pinholes = invert_rigid(viewpoints.cam_from_world.double()), viewpoints.intrinsics.double()
    focal, centres = pinholes.diagonal(dim1=1, dim2=2)[:, :2], pinholes[:, :2, 2]
    flat = torch.cat([world_from_cam[:, :3, 3], focal.log(), centres], dim=1)
    return flat, quaternion_from_rotation(world_from_cam[:, :3, :3])


def _cameras(flat: Float[Tensor, "n 7"], quats: Float[Tensor, "n 4"], like: Cameras) -> Cameras:
    """Inverse of `_values`, with the size and type of other cameras."""
    pinholes = torch.zeros(len(flat), 3, 3, dtype=flat.dtype, device=flat.device)
    pinholes[:, [0, 1], [0, 1]], pinholes[:, :2, 2], pinholes[:, 2, 2] = flat[:, 3:5].exp(), flat[:, 5:], 1.0
    poses = invert_rigid(rigid(rotation_from_quaternion(quats), flat[:, :3]))
    return Cameras(poses.to(like.cam_from_world), pinholes.to(like.intrinsics), like.size_hw)


def _legs(viewpoints: Cameras, closed: bool) -> tuple[Float[Tensor, "M 10"], Float[Tensor, " M"]]:
    """From each viewpoint to the next: changes of the `_values`, half of the turn; and share of the whole time."""
    flat, quats = _values(viewpoints)
    count = len(flat) if closed and len(flat) > 1 else len(flat) - 1
    turns = _half_turns(quats, quats.roll(-1, 0))
    steps = torch.cat([flat.roll(-1, 0) - flat, turns], dim=1)[:count]
    spread = (flat[:, :3] - flat[:, :3].mean(dim=0)).square().sum(dim=1).mean().sqrt().clamp(min=1e-12)
    felt = torch.cat([steps[:, :3] / spread, steps[:, 3:4], 2 * steps[:, -3:]], dim=1)
    times = felt.norm(dim=1).sqrt()
    mean = times.mean() if times.any() else times.new_ones(())
    times = times.clamp(min=_SHORTEST * float(mean))
    return steps, times / times.sum()


def _speeds(steps: Float[Tensor, "M 10"], shares: Float[Tensor, " M"], closed: bool) -> Float[Tensor, "V 10"]:
    """Derivatives by time at the viewpoints: of the two adjacent legs, that of the shorter one counts more.

    The turn within any leg at this speed is bounded by 180 degrees: great arcs of the curve are then shorter than half
    a circle, and the orientation cannot jump.
    """
    chords = torch.cat([steps, shares[:, None]], dim=1)
    chords[:, :-1] /= shares[:, None]
    if closed:
        before, after = chords.roll(1, 0), chords
    else:
        before, after = torch.cat([chords[:1], chords]), torch.cat([chords, chords[-1:]])
    h, k = before[:, -1:], after[:, -1:]
    speeds = (k * before[:, :-1] + h * after[:, :-1]) / (h + k)
    turns = speeds[:, -3:] * torch.maximum(h, k)
    speeds[:, -3:] *= (math.pi / 2 / turns.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    return speeds


def _bezier(
    controls: list[Tensor], s: Float[Tensor, "n 1"], mix: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Float[Tensor, "n D"]:
    """De Casteljau's algorithm."""
    while len(controls) > 1:
        controls = [mix(a, b, s) for a, b in pairwise(controls)]
    return controls[0]


def _half_turns(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3"]:
    """Half of the shorter turn from orientation a to b as a vector in a's frame."""
    turn = multiply_quaternions(_conjugate(a), b)
    undecided = turn[:, 0].abs() < _HALF_TURN
    negative = torch.where(undecided, turn[:, 2] < 0, turn[:, 0] < 0)  # y is down: positive turns go to the right
    return _log(torch.where(negative[:, None], -turn, turn))


def _arc(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"], s: Float[Tensor, "n 1"]) -> Float[Tensor, "n 4"]:
    """Point of a great arc between unit quaternions; the longer turn where their product is negative."""
    return multiply_quaternions(a, _exp(s * _log(multiply_quaternions(_conjugate(a), b))))


def _conjugate(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])


def _exp(half: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Unit quaternion of half a turn's vector."""
    angle = half.norm(dim=1, keepdim=True)
    return torch.cat([angle.cos(), half * torch.sinc(angle / math.pi)], dim=1)


def _log(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3"]:
    """Inverse of `_exp`, of at most pi."""
    length = quats[:, 1:].norm(dim=1, keepdim=True)
    return quats[:, 1:] * (torch.atan2(length, quats[:, :1]) / length.clamp(min=1e-30))
