"""The context cameras that the page gets, against our own projection."""

from __future__ import annotations

import numpy as np
import torch
from scenes import random_scene

from tokengroups.geometry import project, transform_points
from tokengroups.viewer.cameras import film_size, page_cameras


def test_views_are_the_cameras() -> None:
    cameras, origin = random_scene().cameras, torch.tensor([0.3, -0.1, 2.0]).double()
    height, width = cameras.size_hw
    for k, camera in enumerate(page_cameras(cameras, origin, 2.5)):
        view, pose = camera["view"], cameras.cam_from_world[k].double().numpy()
        assert view["rotation"] == pose[:3, :3].flatten().tolist() and view["distance"] == 2.5
        np.testing.assert_allclose(pose[:3, :3] @ (view["eye"] + origin.numpy()) + pose[:3, 3], 0, atol=1e-12)
        pinhole = cameras.intrinsics[k].flatten()[[0, 4, 2, 5]].tolist()
        assert list(view["lens"].values()) == [*pinhole, width, height]


def test_pyramids_are_the_pictures_corners() -> None:
    cameras, origin = random_scene().cameras, torch.tensor([0.3, -0.1, 2.0]).double()
    pyramid = torch.tensor(page_cameras(cameras, origin, 2.0)[1]["pyramid"]).double()
    local = transform_points(cameras.cam_from_world[1].double(), pyramid + origin)
    torch.testing.assert_close(local[0], torch.zeros(3).double(), atol=1e-5, rtol=0)
    pixels, depth = project(local[1:], cameras.intrinsics[1].double())
    height, width = cameras.size_hw
    wanted = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]]).double()
    torch.testing.assert_close(pixels, wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, torch.full((4,), 0.3).double(), atol=1e-5, rtol=0)


def test_films_have_even_sides_of_the_photos_shape() -> None:
    assert film_size((480, 640)) == [640, 480] and film_size((97, 131)) == [648, 480]
    assert film_size((601, 333)) == [334, 602]
