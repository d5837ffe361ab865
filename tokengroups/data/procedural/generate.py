"""Procedural furnished rooms: photos, depth, instances and cameras as a function of (split, seed, index)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tokengroups.data.procedural import cameras
from tokengroups.data.procedural.draw import Draw
from tokengroups.data.procedural.furnishing import furnish
from tokengroups.data.procedural.furniture import CLASS_NAMES
from tokengroups.data.procedural.layout import Plan
from tokengroups.data.procedural.raycast import TriangleScene
from tokengroups.data.procedural.shading import Light, Lighting
from tokengroups.data.procedural.shell import Shell, build_shell
from tokengroups.data.procedural.views import RenderedView, render_view, visible_instances
from tokengroups.types import SceneFrames

__all__ = ["CLASS_NAMES", "GENERATOR_VERSION", "SPLITS", "generate_room"]

Gaze = Literal["centre", "around"]
GENERATOR_VERSION = 1  # raise it whenever the same arguments give other pixels: it is part of the cache's key
SPLITS = {"train": 0, "test": 1}
ATTEMPTS = 100
VISIBLE_SHARE = 1 / 400  # of the pixels: an object this large in a view counts as visible
# Objects that every view must show, and their share of its pixels.
LEAST_SEEN: dict[Gaze, tuple[int, float]] = {"centre": (3, 0.12), "around": (0, 0.0)}
MEAN_LUMINANCE = 0.2  # linear light, the target of the automatic exposure


def generate_room(
    seed: int, index: int, split: str = "train", num_views: int = 8, size: int = 128, gaze: Gaze = "centre"
) -> SceneFrames:
    """Generate one room and photograph it along a handheld-like path.

    Rooms of the two splits can never coincide: the split is part of the random entropy. 4-12 objects stand
    in a room beside its floor, ceiling, four walls, doors, windows and pictures; every even-numbered room
    has 2-4 objects of one class side by side. Neighbouring frames are 0.2-0.6 m apart.

    Args:
        seed: Seed of the whole collection, >= 0.
        index: Number of the room, >= 0.
        split: "train" or "test".
        num_views: Frames along the path, >= 1.
        size: Image side in pixels; images are square.
        gaze: "centre": all frames look at the middle of the furniture, so that most of it is in most frames. "around":
            they turn by three quarters of a circle, so that most things are in a minority of the frames.

    Returns:
        Frames in metres, world z up. Instance ids count from 0 and hold for all views.

    Raises:
        ValueError: If an argument is out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {sorted(SPLITS)}, got {split!r}")
    if min(seed, index) < 0 or num_views < 1 or size < 8:
        raise ValueError(
            f"need seed >= 0, index >= 0, num_views >= 1, size >= 8; got {seed}, {index}, {num_views}, {size}"
        )
    name = f"{split}_{seed}_{index:06d}"
    for attempt in range(ATTEMPTS):
        draw = Draw(SPLITS[split], seed, index, attempt)
        frames = _attempt(draw, name, with_row=index % 2 == 0, num_views=num_views, size=size, gaze=gaze)
        if frames is not None:
            return frames
    raise RuntimeError(f"no good room in {ATTEMPTS} attempts for {name}")


def _attempt(draw: Draw, name: str, *, with_row: bool, num_views: int, size: int, gaze: Gaze) -> SceneFrames | None:
    """One try; None if too little is furnished or visible."""
    shell = build_shell(draw)
    positions = cameras.walk(draw, shell.area, num_views)
    plan = Plan(draw, shell.size, shell.blocked, positions, shell.area)
    if not furnish(plan, with_row):
        return None
    focus = np.round(np.mean([thing.middle for thing in plan.things], axis=0), 9)
    centred = gaze == "centre"
    targets = cameras.drift(draw, focus, num_views) if centred else cameras.around(draw, positions, focus)
    poses = cameras.aim(draw, positions, targets)
    matrix = cameras.intrinsics(draw, size)
    instances = [(solid, opaque) for _, solid, opaque in shell.parts] + [(thing.solid(), True) for thing in plan.things]
    classes = [part[0] for part in shell.parts] + [thing.thing.kind.name for thing in plan.things]
    scene = TriangleScene(instances)
    least = LEAST_SEEN[gaze]
    if not all(_well_seen(scene, pose, matrix, size, len(shell.parts), least) for pose in poses):
        return None
    lighting = _lighting(draw, shell)
    views = [render_view(scene, pose, matrix, size, lighting) for pose in poses]
    return SceneFrames(
        name=name,
        images=_expose(draw, views, size),
        depth=np.stack([view.depth for view in views]),
        group_ids=np.stack([view.instances for view in views]),
        cam_from_world=poses,
        intrinsics=np.tile(matrix, (num_views, 1, 1)),
        instance_classes=dict(enumerate(classes)),
    )


def _lighting(draw: Draw, shell: Shell) -> Lighting:
    """Two or three lamps under the ceiling, of different warmth, and an ambient share."""
    width, depth, height = shell.size
    lights = []
    for k in range(3 if draw.chance(0.25) else 2):
        low, high = ((0.2, 0.45), (0.8, 0.8)) if k == 0 else ((0.12, 0.08), (0.88, 0.6))
        x, y = draw.uniform(low[0], high[0]) * width, draw.uniform(low[1], high[1]) * depth
        warmth, power = draw.uniform(-0.12, 0.25), draw.uniform(1.2, 2.4) / (1 + 0.5 * (k > 0))
        position = (x, y, height - draw.uniform(0.15, 0.5))
        lights.append(Light(position, (power * (1 + warmth), power, power * (1 - warmth))))
    ambient, tint = draw.uniform(0.22, 0.42), draw.signed(0.06)
    return Lighting(tuple(lights), (ambient * (1 + tint), ambient, ambient * (1 - tint)), shell.size)


def _well_seen(
    scene: TriangleScene,
    cam_from_world: np.ndarray,
    intrinsics: np.ndarray,
    size: int,
    first_object: int,
    least: tuple[int, float],
) -> bool:
    """Test whether a view shows enough objects of some size, and enough of them altogether."""
    seen = visible_instances(scene, cam_from_world, intrinsics, size, max(size // 32, 1))
    pixels = np.bincount(seen)[first_object:]
    return int((pixels >= VISIBLE_SHARE * len(seen)).sum()) >= least[0] and int(pixels.sum()) >= least[1] * len(seen)


def soft_shoulder(linear: np.ndarray) -> np.ndarray:
    """Radiance as a camera's curve keeps it: unchanged to 0.8, then smoothly up to 1, which it never reaches."""
    # `maximum` changes nothing where the second branch counts, and keeps its pole at 0.6 out of the other.
    bright = 1 - np.float32(0.04) / (np.maximum(linear, np.float32(0.8)) - np.float32(0.6))
    return np.where(linear > 0.8, bright, linear)


def _expose(draw: Draw, views: list[RenderedView], size: int) -> np.ndarray:
    """uint8 images [V, H, W, 3]: one exposure a room, small changes between views, sensor noise, gamma 2."""
    luminance = np.mean([_mean_luminance(view.radiance) for view in views])
    exposure = MEAN_LUMINANCE * draw.uniform(0.8, 1.25) / max(float(luminance), 1e-3)
    noise_level = draw.uniform(0.002, 0.012)
    images = np.empty((len(views), size, size, 3), np.uint8)
    for image, view in zip(images, views, strict=True):
        gain, warmth = exposure * draw.uniform(0.93, 1.07), draw.signed(0.02)
        gains = np.array([gain * (1 + warmth), gain, gain * (1 - warmth)], np.float32)[:, None]
        linear = soft_shoulder(view.radiance * gains)
        noise = draw.generator.random(linear.shape, np.float32) - np.float32(0.5)
        encoded = np.sqrt(np.maximum(linear, 0)) + np.float32(3.5 * noise_level) * noise
        image[:] = (
            np.clip(encoded * 255 + np.float32(0.5), 0, 255).astype(np.uint8).reshape(3, size, size).transpose(1, 2, 0)
        )
    return images


def _mean_luminance(radiance: np.ndarray) -> float:
    """Mean of the green channel in fixed point: integer sums do not depend on the order of addition."""
    return int(np.minimum(radiance[1] * 4096, 16384).astype(np.int64).sum()) / (4096 * radiance.shape[1])
