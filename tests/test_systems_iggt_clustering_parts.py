"""Parts of clustering against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from tokengroups.systems.iggt.clustering import ClusteringConfig
from tokengroups.systems.iggt.clustering import regions as regions_module
from tokengroups.systems.iggt.clustering.cells import FieldReader, cell_size
from tokengroups.systems.iggt.clustering.hdbscan import SAMPLES_PER_REGION, sample_regions
from tokengroups.systems.iggt.clustering.mean_shift import climb
from tokengroups.systems.iggt.clustering.regions import find_regions
from tokengroups.systems.iggt.clustering.smoothing import smooth_in_space


def test_climbing_is_brute_force_mean_shift() -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(0, 0.1, (20, 3)), random.normal(0.6, 0.1, (25, 3))])
    weights = random.uniform(1, 5, len(points))
    expected = points.copy()
    for mode in expected:
        for _ in range(500):
            kernel = weights * np.exp(-((points - mode) ** 2).sum(axis=1) / (2 * 0.2**2))
            mode[:] = (kernel[:, None] * points).sum(axis=0) / kernel.sum()
    found = climb(points, weights, 0.2)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # it stops at steps of a thousandth of the bandwidth
    assert len(np.unique(found.round(1), axis=0)) == 2


def test_cells_are_means_of_unit_vectors_also_at_the_border() -> None:
    field = torch.randn(2, 5, 7, 10, generator=torch.Generator().manual_seed(0)).double()
    unit = (field / field.norm(dim=1, keepdim=True)).numpy()
    for normalise, source in ((True, unit), (False, field.numpy())):
        reader = FieldReader(field, cell=4, normalise=normalise)
        cells = reader.cells(1)
        assert cells.shape == (2, 3, 5)
        for row in range(2):
            for column in range(3):
                mean = source[1][:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean(axis=(1, 2))
                mean = mean / np.linalg.norm(mean) if normalise else mean
                np.testing.assert_allclose(cells[row, column], mean, atol=1e-6)
        spread = reader.to_pixels(np.arange(6).reshape(2, 3))
        assert spread.shape == (7, 10) and spread[4, 7] == 4 and spread[6, 9] == 5 and spread[3, 8] == 2


@pytest.mark.parametrize(
    ("size_hw", "cell"), [((8, 8), 1), ((128, 128), 1), ((259, 350), 2), ((518, 392), 4), ((1036, 1036), 8)]
)
def test_cells_grow_with_the_photo(size_hw: tuple[int, int], cell: int) -> None:
    assert cell_size(size_hw) == cell


def test_regions_are_flood_fills() -> None:
    random = np.random.default_rng(1)
    colors = np.eye(4)[random.integers(4, size=(2, 9, 11))] + random.normal(0, 0.02, (2, 9, 11, 4))
    field = torch.from_numpy(colors).permute(0, 3, 1, 2)
    config = ClusteringConfig(link=0.5, min_cells=3)  # most neighbours differ, and so the median is the distance of two
    found = find_regions(FieldReader(field), config)
    unit = colors / np.linalg.norm(colors, axis=-1, keepdims=True)
    means, sizes = [], []
    for view in unit:
        free = np.ones(view.shape[:2], dtype=bool)
        for start in np.ndindex(free.shape):
            stack, cells = [start], []
            while stack:
                row, column = stack.pop()
                if not free[row, column]:
                    continue
                free[row, column] = False
                cells.append((row, column))
                for other in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                    inside = 0 <= other[0] < 9 and 0 <= other[1] < 11
                    if inside and free[other] and np.linalg.norm(view[other] - view[row, column]) < 0.5:
                        stack.append(other)
            if len(cells) >= 3:
                means.append(np.mean([view[cell] for cell in cells], axis=0))
                sizes.append(len(cells))
    assert len(sizes) > 5 and found.sizes.tolist() == sizes
    np.testing.assert_allclose(found.means, means, atol=1e-6)
    assert np.bincount(found.index[found.index >= 0]).tolist() == sizes
    for region, mean in enumerate(found.means):
        np.testing.assert_allclose(unit[found.index == region].mean(axis=0), mean, atol=1e-6)


def test_of_too_many_regions_the_larger_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions_module, "MAX_REGIONS", 5)
    assert regions_module._largest(np.array([9, 2, 7, 2, 2, 8])).tolist() == [True, False, True, False, False, True]
    assert regions_module._largest(np.full(11, 4)).nonzero()[0].tolist() == [0, 3, 6, 9]
    assert regions_module._largest(np.array([1, 1, 1, 1, 1])).all()


def test_samples_are_cells_of_every_region() -> None:
    field = torch.zeros(2, 3, 40, 40)
    field[:, 0] = 1
    field[0, 1, 3:5, 3:5] = 9  # 4 cells
    field[1, 2, 10:, 10:] = 9
    reader = FieldReader(field)
    regions = find_regions(reader, ClusteringConfig(min_cells=3))
    points, weights = sample_regions(reader, regions)
    assert sorted(regions.sizes.tolist()) == [4, 700, 900, 1596]
    assert len(points) == 3200 and weights.tolist() == [1.0] * 3200  # few enough to take all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokengroups.systems.iggt.clustering.hdbscan.SAMPLES", 100)
        points, weights = sample_regions(reader, regions)
    assert len(points) == 4 + 22 + 29 + 50  # ceilings of 100 / 3200, at least SAMPLES_PER_REGION = 8 or all
    assert SAMPLES_PER_REGION == 8 and weights.sum() == pytest.approx(3200)


def test_smoothing_is_a_loop_over_the_nearest_points_of_all_views() -> None:
    random = torch.Generator().manual_seed(2)
    field, points = torch.randn(3, 4, 5, 6, generator=random), torch.randn(3, 5, 6, 3, generator=random)
    found = smooth_in_space(field, points, 7).permute(0, 2, 3, 1).reshape(-1, 4)
    unit = functional.normalize(field.double(), dim=1).permute(0, 2, 3, 1).reshape(-1, 4)
    places = points.double().reshape(-1, 3)
    for own, mean in enumerate(found):
        others = (places - places[own]).norm(dim=1)
        others[own] = np.inf
        np.testing.assert_allclose(mean, unit[others.argsort()[:7]].mean(dim=0), atol=1e-6)
    assert found.norm(dim=1).max() < 0.9


def test_smoothing_of_few_or_coincident_points() -> None:
    field = functional.normalize(torch.arange(8.0).view(1, 2, 2, 2) + 1, dim=1)
    total = field.sum(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(smooth_in_space(field, torch.randn(1, 2, 2, 3), 20), (total - field) / 3)
    torch.testing.assert_close(smooth_in_space(field, torch.zeros(1, 2, 2, 3), 3), (total - field) / 3)
    many = smooth_in_space(torch.ones(1, 3, 20, 20), torch.zeros(1, 20, 20, 3), 5)
    torch.testing.assert_close(many, torch.full((1, 3, 20, 20), 3**-0.5))
    single = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(smooth_in_space(single, torch.zeros(1, 1, 1, 3), 5), single / 5)
    with pytest.raises(ValueError, match="points must be finite"):
        smooth_in_space(field, torch.full((1, 2, 2, 3), float("nan")), 2)
