"""Ray casting and shading of procedural scenes against closed forms and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tokengroups.data.procedural.draw import Draw, rotation_x, rotation_y, rotation_z
from tokengroups.data.procedural.raycast import TriangleScene
from tokengroups.data.procedural.shading import Light, Lighting
from tokengroups.data.procedural.shapes import Builder, Solid
from tokengroups.data.procedural.textures import Material, albedo, fabric, value_noise, wood
from tokengroups.data.procedural.views import DEPTH_STEPS, render_view, visible_instances

GREY = Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), grain=0.0)
SIZE = 40


def box(centre: tuple[float, float, float], size: tuple[float, float, float]) -> Solid:
    builder = Builder()
    builder.box(centre, size, GREY)
    return builder.solid()


def camera(size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """At (0, -4, 1), looking along +y with z up."""
    pose = np.eye(4)
    pose[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    pose[:3, 3] = -pose[:3, :3] @ np.array([0.0, -4.0, 1.0])
    return pose, np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])


def lighting(*lights: Light, ambient: float = 0.0) -> Lighting:
    return Lighting(lights, (ambient,) * 3, (1e3, 1e3, 1e3))


def shifted_room(*extra: tuple[Solid, bool]) -> TriangleScene:
    """A floor slab (top z = 0) and a back slab (front y = 3), then `extra`."""
    return TriangleScene([(box((0, 0, -0.5), (60, 60, 1)), False), (box((0, 3.5, 0), (60, 1, 60)), False), *extra])


def test_depth_is_z_of_the_planes() -> None:
    view = render_view(shifted_room(), *camera(), SIZE, lighting(ambient=1.0))
    down = (np.arange(SIZE) + 0.5 - SIZE / 2) / SIZE
    expected = np.where(down > 1 / 7, 1 / np.maximum(down, 1e-9), 7.0)
    np.testing.assert_allclose(view.depth, np.tile(expected[:, None], (1, SIZE)), atol=2 / DEPTH_STEPS, rtol=1e-5)
    np.testing.assert_array_equal(view.instances[:, 0], np.where(down > 1 / 7, 0, 1))


def test_irradiance_is_lambert_with_inverse_square() -> None:
    light = Light((0.5, 0.0, 2.0), (3.0, 2.0, 1.0))
    view = render_view(shifted_room(), *camera(), SIZE, lighting(light))
    row, column = SIZE - 5, 12
    x, y = (column + 0.5 - SIZE / 2) / SIZE, (row + 0.5 - SIZE / 2) / SIZE
    point = np.array([x / y, -4 + 1 / y, 0.0])
    to_light = np.array(light.position) - point
    square = to_light @ to_light
    expected = 0.5 * to_light[2] / math.sqrt(square) / (square + 0.4) * np.array(light.power)
    np.testing.assert_allclose(view.radiance.reshape(3, SIZE, SIZE)[:, row, column], expected, rtol=1e-3)


def test_box_throws_its_shadow_where_the_light_is_hidden() -> None:
    light = np.array([0.0, 0.0, 3.0])
    scene = shifted_room((box((0, 0, 1.0), (1, 1, 0.1)), True))
    points = np.stack(np.meshgrid(np.linspace(-3, 3, 61), np.linspace(-2.9, 2.9, 61), [0.002]), -1)
    lit = scene.lit(points.reshape(-1, 3).astype(np.float32), light.astype(np.float32))
    reach = np.abs(points[..., :2]).max(axis=-1).reshape(-1)
    assert not lit[reach < 0.74].any()  # the box's top edge throws the shadow to 0.5 * 3 / (3 - 1.05) = 0.77
    assert lit[reach > 0.78].all()


def test_walls_marked_transparent_to_light_throw_no_shadow() -> None:
    scene = shifted_room()
    inside = np.array([[0.0, 0.0, 0.01]], np.float32)
    assert scene.lit(inside, np.array([0.0, 50.0, 5.0], np.float32)).all()


def test_quick_look_sees_what_the_rendering_sees() -> None:
    scene = shifted_room((box((0.3, 0, 0.5), (1, 1, 1)), True))
    view = render_view(scene, *camera(), SIZE, lighting(ambient=1.0))
    seen = visible_instances(scene, *camera(), SIZE, 4)
    np.testing.assert_array_equal(seen.reshape(10, 10), view.instances[2::4, 2::4])


def test_borders_are_smoothed_and_the_rest_is_not() -> None:
    builder = Builder()
    builder.box((0.8, 0, 0.5), (1, 1, 1), Material((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), grain=0.0, glow=1.0))
    scene = shifted_room((builder.solid(), True))
    view = render_view(scene, *camera(), SIZE, lighting(ambient=1.0))
    red, inside = view.radiance[0].reshape(SIZE, SIZE), view.instances == 2
    border = np.zeros_like(inside)
    for axis in (0, 1):
        change = np.diff(inside, axis=axis)
        border |= np.insert(change, 0, False, axis) | np.insert(change, SIZE - 1, False, axis)
    darkest, brightest = red[inside & ~border].min(), red[~inside & ~border].max()
    assert darkest > 1.2 * brightest
    mixed = (red > 1.02 * brightest) & (red < 0.98 * darkest)
    assert mixed.sum() > 10 and border[mixed].all()


@pytest.mark.parametrize("shape", ["box", "cylinder", "frustum", "ball", "cushion", "ring", "lathe"])
def test_normals_are_unit_and_point_outwards(shape: str) -> None:
    builder, turn = Builder(), rotation_z(0.4) @ rotation_x(0.7) @ rotation_y(-0.3)
    if shape == "box":
        builder.box((1, 2, 3), (1, 2, 0.5), GREY, turn)
    elif shape == "cylinder":
        builder.cylinder((1, 2, 3), 0.3, 2, GREY, turn=turn)
    elif shape == "frustum":
        builder.cylinder((1, 2, 3), 0.5, 0.6, GREY, top=0.4, turn=turn)
    elif shape == "ball":
        builder.ball((1, 2, 3), (1, 0.4, 0.7), GREY, turn)
    elif shape == "cushion":
        builder.cushion((1, 2, 3), (1, 0.4, 0.7), GREY, turn)
    elif shape == "ring":
        builder.ring((1, 2, 3), 0.5, 0.2, GREY, turn)
    else:
        builder.lathe((1, 2, 3), [(0.2, 0.0), (0.5, 0.3), (0.3, 0.8), (0.0, 1.0)], GREY)
    soup = builder.solid().soup
    face = np.cross(soup.corners[:, 1] - soup.corners[:, 0], soup.corners[:, 2] - soup.corners[:, 0])
    area = np.linalg.norm(face, axis=-1)
    solid = area > 1e-6
    agreement = (soup.normals * (face / np.maximum(area, 1e-12)[:, None])[:, None]).sum(-1)[solid]
    assert agreement.min() > 0.5
    volume = (soup.corners[:, 0] * np.cross(soup.corners[:, 1], soup.corners[:, 2])).sum() / 6
    assert volume > 0 or shape == "lathe"  # a lathe's underside may be open


def test_value_noise_equals_a_loop_over_the_lattice() -> None:
    from tokengroups.data.procedural import textures

    lattice = textures._lattice().reshape(32, 32, 32)
    q = np.random.default_rng(0).uniform(-40, 40, (3, 50)).astype(np.float32)
    for k, value in enumerate(value_noise(q)):
        low = np.floor(q[:, k]).astype(int)
        t = q[:, k].astype(np.float64) - low
        t = t * t * (3 - 2 * t)
        total = 0.0
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([t[i] if corner[i] else 1 - t[i] for i in range(3)])
            total += weight * lattice[tuple((low + corner) & 31)]
        assert value == pytest.approx(total, abs=1e-5)


def test_patterns_stay_between_their_two_colours_and_fade_with_distance() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (3, 400)).astype(np.float32)
    for seed in range(20):
        material = (wood if seed % 2 else fabric)(Draw(seed))
        rows = np.repeat(np.array(material.row(), np.float32)[:, None], 400, axis=1)
        near, far = (albedo(rows, points, np.full(400, size, np.float32)) for size in (1e-4, 10.0))
        ends = np.array([material.colour, material.second])
        assert (near <= ends.max(0)[:, None] * (1 + material.grain / 2) + 1e-6).all()
        assert (near >= ends.min(0)[:, None] * (1 - material.grain / 2) - 1e-6).all()
        assert far.std(axis=1).max() < 1e-6
