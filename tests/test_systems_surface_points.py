"""Surface points on a pixel grid: real points at the cells' centre pixels, and the colours of the cells."""

from __future__ import annotations

import pytest
import torch
from toy_systems import random_input

from tokengroups.systems.surface_points import surface_points


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_each_cell_has_the_point_and_pixel_size_of_its_centre_pixel(stride):
    images, geometry = random_input()
    found = surface_points(images, geometry, stride)
    cells = 32 // stride
    assert found.stride == stride and found.points.shape == (2, 2 * cells * cells, 3)
    expected = [
        (view, row * stride + stride // 2, column * stride + stride // 2)
        for view in range(2) for row in range(cells) for column in range(cells)
    ]  # fmt: skip
    assert [tuple(pixel) for pixel in found.pixels.tolist()] == expected
    for index in (0, 5, len(expected) - 1):
        view, row, column = expected[index]
        for scene in range(2):
            assert torch.equal(found.points[scene, index], geometry.points[scene, view, row, column])
            size = geometry.depth[scene, view, row, column] / 30.0
            torch.testing.assert_close(found.pixel_sizes[scene, index], size)


def test_patches_are_the_cells_pixels_and_colours_their_mean():
    images, geometry = random_input()
    found = surface_points(images, geometry, 4)
    m = 77
    view, row, column = found.pixels[m].tolist()
    cell = images[0, view, :, row - 2 : row + 2, column - 2 : column + 2]
    assert torch.equal(found.patches[0, m], cell.flatten())
    torch.testing.assert_close(found.colors[0, m], cell.mean(dim=(1, 2)))
