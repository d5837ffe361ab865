"""Camera paths, against scalar formulas in float64, scipy's rotations, and what no path may do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp
from tolerances import tolerance

from tokengroups.geometry import invert_rigid, rigid
from tokengroups.scene.paths import cameras_along, path_cameras, viewpoint_times
from tokengroups.types import Cameras

EXACT = tolerance("float64")


def viewpoints(positions: Any, rotations: Rotation, focal: Any = 50.0) -> Cameras:
    """Cameras at positions, turned by world-from-camera rotations."""
    centres = torch.as_tensor(np.asarray(positions, np.float64))
    turned = torch.from_numpy(rotations.as_matrix().reshape(-1, 3, 3))
    pinholes = torch.eye(3, dtype=torch.float64).repeat(len(centres), 1, 1)
    pinholes[:, 0, 0], pinholes[:, 1, 1] = torch.as_tensor(focal), 1.2 * torch.as_tensor(focal)
    pinholes[:, :2, 2] = torch.tensor([16.0, 12.0])
    return Cameras(invert_rigid(rigid(turned, centres)), pinholes, (24, 32))


def about_y(angles: Any) -> Rotation:
    return Rotation.from_rotvec(np.outer(angles, [0, 1, 0]))


def random_rotations(count: int, seed: int) -> Rotation:
    return Rotation.from_quat(np.random.default_rng(seed).normal(size=(count, 4)))


def random_viewpoints(count: int, seed: int = 0) -> Cameras:
    rng = np.random.default_rng(seed)
    return viewpoints(
        rng.normal(size=(count, 3)), random_rotations(count, seed), 50 * torch.from_numpy(rng.random(count) + 0.5)
    )


def positions(cameras: Cameras) -> np.ndarray:
    return invert_rigid(cameras.cam_from_world)[:, :3, 3].numpy()


def turns(cameras: Cameras) -> Rotation:
    return Rotation.from_matrix(invert_rigid(cameras.cam_from_world)[:, :3, :3].numpy())


def pyramid(knots: list[float], values: list[float], t: float) -> float:
    """Value of a Catmull-Rom spline between the second and third of four knots (Barry and Goldman 1988, SIGGRAPH)."""

    def mix(a: float, b: float, i: int, j: int) -> float:
        return ((knots[j] - t) * a + (t - knots[i]) * b) / (knots[j] - knots[i])

    lines = [mix(values[i], values[i + 1], i, i + 1) for i in range(3)]
    parabolas = [mix(lines[i], lines[i + 1], i, i + 2) for i in range(2)]
    return mix(parabolas[0], parabolas[1], 1, 2)


def spline(times: np.ndarray, values: np.ndarray, t: float) -> float:
    """The same with knots and values reflected at both ends."""
    knots = [2 * times[0] - times[1], *times, 2 * times[-1] - times[-2]]
    padded = [2 * values[0] - values[1], *values, 2 * values[-1] - values[-2]]
    leg = min(int(np.searchsorted(times, t, side="right")) - 1, len(times) - 2)
    return pyramid(knots[leg : leg + 4], padded[leg : leg + 4], t)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_path_passes_through_its_viewpoints(count: int, closed: bool) -> None:
    given = random_viewpoints(count)
    times = viewpoint_times(given, closed)
    assert times[0] == 0 and bool((times.diff() > 0).all())
    assert count == 1 or closed or times[-1] == pytest.approx(1)
    found = cameras_along(given, times, closed)
    torch.testing.assert_close(found.cam_from_world, given.cam_from_world, **EXACT)
    torch.testing.assert_close(found.intrinsics, given.intrinsics, **EXACT)
    assert found.size_hw == given.size_hw
    film = path_cameras(given, 40, closed)
    torch.testing.assert_close(film.cam_from_world[0], given.cam_from_world[0], **EXACT)
    if not closed:
        torch.testing.assert_close(film.cam_from_world[-1], given.cam_from_world[-1], **EXACT)


def test_positions_and_zoom_are_catmull_rom_splines() -> None:
    given = random_viewpoints(6, seed=1)
    times, places = viewpoint_times(given).numpy(), positions(given)
    film = path_cameras(given, 33)
    for index, t in enumerate(np.linspace(0, 1, 33)):
        for axis in range(3):
            assert positions(film)[index, axis] == pytest.approx(spline(times, places[:, axis], t), abs=1e-10)
        zoom = spline(times, given.intrinsics[:, 0, 0].log().numpy(), t)
        assert film.intrinsics[index, 0, 0] == pytest.approx(math.exp(zoom), rel=1e-10)
        assert film.intrinsics[index, 1, 1] == pytest.approx(1.2 * math.exp(zoom), rel=1e-10)


def test_turns_about_one_axis_are_a_spline_of_angles() -> None:
    """There great arcs are lines, so the curve on the sphere is the scalar one."""
    angles = np.array([0.0, 70.0, 100.0, 90.0, 150.0])
    places = np.random.default_rng(2).normal(size=(5, 3))
    given = viewpoints(places, about_y(np.radians(angles)))
    times, film = viewpoint_times(given).numpy(), path_cameras(given, 41)
    found = turns(film).as_euler("yxz", degrees=True)
    expected = [spline(times, angles, t) for t in np.linspace(0, 1, 41)]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-9)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-9)


def test_times_are_square_roots_of_lengths() -> None:
    """The formula of CONVENTIONS.md, leg by leg; equal viewpoints cost a tenth of a mean leg."""
    given = random_viewpoints(5, seed=3)
    places, rotations, focal = positions(given), turns(given), given.intrinsics[:, 0, 0].log().numpy()
    spread = math.sqrt(np.mean(np.sum((places - places.mean(0)) ** 2, axis=1)))
    lengths = [
        math.hypot(
            np.linalg.norm(places[i + 1] - places[i]) / spread,
            (rotations[i].inv() * rotations[i + 1]).magnitude(),
            focal[i + 1] - focal[i],
        )
        for i in range(4)
    ]
    shares = np.sqrt(lengths) / np.sqrt(lengths).sum()
    np.testing.assert_allclose(viewpoint_times(given).diff().numpy(), shares, **EXACT)
    still = viewpoints(np.zeros((3, 3)), about_y([0.0, 0, 1]))
    np.testing.assert_allclose(viewpoint_times(still).numpy(), [0, 0.05 / 1.05, 1], **EXACT)
    same = viewpoints(np.zeros((3, 3)), Rotation.identity(3))
    np.testing.assert_allclose(viewpoint_times(same).numpy(), [0, 0.5, 1], **EXACT)
    assert torch.equal(path_cameras(same, 5).cam_from_world, same.cam_from_world[:1].expand(5, 4, 4))


def test_two_viewpoints_are_a_line_at_constant_speed() -> None:
    given = random_viewpoints(2, seed=4)
    film = path_cameras(given, 11)
    along = np.linspace(0, 1, 11)
    ends = positions(given)
    np.testing.assert_allclose(positions(film), ends[0] + along[:, None] * (ends[1] - ends[0]), **EXACT)
    expected = Slerp([0, 1], turns(given))(along)
    assert float((turns(film) * expected.inv()).magnitude().max()) < 1e-7


def test_a_closed_path_is_smooth_where_it_begins() -> None:
    """Speed and turning just before and after the seam agree, and so do they at every viewpoint."""
    given, h = random_viewpoints(5, seed=5), 1e-5
    for moment in viewpoint_times(given, closed=True).tolist():
        at = torch.tensor([moment - h, moment, moment + h], dtype=torch.float64) % 1.0
        near = cameras_along(given, at, closed=True)
        steps = np.diff(positions(near), axis=0) / h
        np.testing.assert_allclose(steps[0], steps[1], atol=0.02 * np.linalg.norm(steps[0]) + 1e-3)
        rotations = turns(near)
        omega = [(rotations[i].inv() * rotations[i + 1]).as_rotvec() / h for i in (0, 1)]
        np.testing.assert_allclose(omega[0], omega[1], atol=0.02 * np.linalg.norm(omega[0]) + 1e-3)
    film = path_cameras(given, 10, closed=True)
    first = torch.arange(10, dtype=torch.float64) / 10
    torch.testing.assert_close(film.cam_from_world, cameras_along(given, first, closed=True).cam_from_world)


def test_orientations_never_jump() -> None:
    """Turns of nearly 180 degrees to and fro, legs of very different lengths."""
    rng = np.random.default_rng(6)
    for seed in range(30):
        count = int(rng.integers(2, 8))
        turned = Rotation.from_rotvec(math.pi * 0.999 * rng.permutation(np.eye(3))[rng.integers(0, 3, count)])
        given = viewpoints(rng.normal(size=(count, 3)) * 10 ** rng.uniform(-3, 3, (count, 1)), turned)
        rotations = turns(path_cameras(given, 4001, closed=bool(seed % 2)))
        assert float((rotations[:-1].inv() * rotations[1:]).magnitude().max()) < 0.1


def test_a_half_turn_goes_to_the_right() -> None:
    """However the matrices are rounded."""
    for error in (-1e-9, 0.0, 1e-9):
        given = viewpoints(np.zeros((2, 3)), about_y([0.0, math.pi + error]))
        forward = turns(path_cameras(given, 3)).as_matrix()[1, :, 2]
        np.testing.assert_allclose(forward, [1, 0, 0], atol=1e-6)


def test_neither_world_nor_unit_nor_direction_matters() -> None:
    given = random_viewpoints(5, seed=7)
    film = path_cameras(given, 21)
    move = random_rotations(1, seed=8).as_matrix()[0]
    places, shift = positions(given), np.array([3.0, -1, 5])
    moved = viewpoints(
        7 * places @ move.T + shift, Rotation.from_matrix(move) * turns(given), given.intrinsics[:, 0, 0]
    )
    found = path_cameras(moved, 21)
    np.testing.assert_allclose(positions(found), 7 * positions(film) @ move.T + shift, atol=1e-8)
    assert float((turns(found).inv() * Rotation.from_matrix(move) * turns(film)).magnitude().max()) < 1e-7
    back = path_cameras(Cameras(given.cam_from_world.flip(0), given.intrinsics.flip(0), given.size_hw), 21)
    torch.testing.assert_close(back.cam_from_world.flip(0), film.cam_from_world, **EXACT)


def test_float32_cameras_stay_float32() -> None:
    given = random_viewpoints(3)
    single = replace(given.to(torch.float32), size_hw=(24, 32))
    film = path_cameras(single, 5)
    assert film.cam_from_world.dtype == film.intrinsics.dtype == torch.float32
    torch.testing.assert_close(
        film.cam_from_world.double(), path_cameras(given, 5).cam_from_world, **tolerance("float32_chain")
    )
