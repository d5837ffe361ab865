"""Instances of fields against known truth, brute force, and changes that must not matter."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from synthetic_fields import STYLES, make_field
from tolerances import tolerance
from torch import Tensor
from torch.nn import functional

from tokengroups.errors import UserError
from tokengroups.evaluation.instance_field import joint_mean_iou, true_means_ceiling
from tokengroups.systems.iggt.clustering import METHODS, ClusteringConfig, cluster_field
from tokengroups.systems.iggt.clustering.labelling import LARGE_CELL

GRANULARITY = ClusteringConfig().granularity
SHARES = {"clear": 0.95, "noisy": 0.93, "learned": 0.8}  # of the ceiling
EVERYTHING = {"min_pixels": 1, "min_cells": 1}


def config(method: str = "mean_shift", **fields: object) -> ClusteringConfig:
    return ClusteringConfig(method=method, **fields)  # pyright: ignore[reportArgumentType]


def pair_at(distance: float, dim: int = 4) -> Tensor:
    """Two unit vectors at a distance."""
    angle = 2 * np.arcsin(distance / 2)
    vectors = torch.zeros(2, dim)
    vectors[0, 0], vectors[1, 0], vectors[1, 1] = 1, np.cos(angle), np.sin(angle)
    return vectors


def halves(vectors: Tensor, views: int = 2, side: int = 16) -> Tensor:
    """Views whose left half shows the first vector and whose right half the second."""
    ids = (torch.arange(side) >= side // 2).long().expand(views, side, side)
    return vectors[ids].permute(0, 3, 1, 2).contiguous()


def same_partition(labels: Tensor, others: Tensor) -> bool:
    """Whether two labellings are equal up to names."""
    pairs = torch.stack([labels.flatten(), others.flatten()]).unique(dim=1)
    return pairs.shape[1] == len(labels.unique()) == len(others.unique())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("style", "seed"), [("clear", 21), ("noisy", 22), ("learned", 23)])
def test_known_instances_are_found(method: str, style: str, seed: int) -> None:
    field, ids = make_field(8, (128, 128), seed, STYLES[style])
    instances = cluster_field(field, config(method))
    ceiling = true_means_ceiling(field, ids, min_pixels=200)
    found = joint_mean_iou(instances.labels, ids, min_pixels=200)
    shares = {"clear": 0.93, "noisy": 0.82, "learned": 0.7} if method == "hdbscan" else SHARES
    assert found >= shares[style] * ceiling


def test_labels_margins_and_scores_are_those_of_the_nearest_prototypes_in_float64() -> None:
    field, _ = make_field(3, (40, 56), 1, STYLES["clear"])
    instances = cluster_field(field, config())
    assert {instances.margins.dtype, instances.prototypes.dtype, instances.scores.dtype} == {torch.float32}
    pixels = functional.normalize(field.double(), dim=1).permute(0, 2, 3, 1)
    distances = torch.cdist(
        pixels.flatten(0, 2), instances.prototypes.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    two, order = distances.sort(dim=1)
    margins = (two[:, 1] - two[:, 0]).view(instances.labels.shape)
    sure = margins > 1e-4  # elsewhere rounding decides
    assert sure.double().mean() > 0.99
    assert torch.equal(instances.labels[sure], order[:, 0].view(instances.labels.shape)[sure])
    torch.testing.assert_close(instances.margins.double(), margins, rtol=0, atol=1e-4)
    sizes = torch.bincount(instances.labels.flatten())
    assert (sizes >= ClusteringConfig().min_pixels).all() and (sizes[:-1] >= sizes[1:]).all()
    means = [instances.margins[instances.labels == label].double().mean().item() for label in range(len(sizes))]
    np.testing.assert_allclose(instances.scores.numpy(), means, **tolerance("float32"))


def test_linkage_of_single_cells_is_scipys_of_all_pixels() -> None:
    """Without links every pixel is a region, so that only the cut is left."""
    random = torch.Generator().manual_seed(0)
    field = halves(pair_at(1.2), side=8) + 0.03 * torch.randn(2, 4, 8, 8, generator=random)
    field[:, :, 2:4, 2:4] = torch.tensor([0.0, 0, 1, 0])[:, None, None]
    instances = cluster_field(field, config("linkage", link=0.1, **EVERYTHING))
    pixels = functional.normalize(field.double(), dim=1).permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    expected = fcluster(linkage(pixels, "average"), GRANULARITY, "distance")
    assert len(np.unique(expected)) == 3
    assert same_partition(instances.labels, torch.from_numpy(expected))


@pytest.mark.parametrize("method", METHODS)
def test_granularity_is_the_distance_of_two_instances(method: str) -> None:
    random = torch.Generator().manual_seed(0)
    for granularity in (0.3, 0.5, 0.9):
        for factor, count in ((0.7, 1), (1.15, 2)):
            field = halves(pair_at(factor * granularity), side=32)
            field = field + 0.01 * granularity * torch.randn(field.shape, generator=random)
            instances = cluster_field(field, config(method, granularity=granularity))
            assert len(instances.scores) == count, (granularity, factor)
            assert same_partition(instances.labels[0], instances.labels[1])


@pytest.mark.parametrize("method", METHODS)
def test_order_of_views_and_mirrored_pixels_do_not_matter(method: str) -> None:
    field, _ = make_field(4, (64, 64), 5, STYLES["clear"])
    labels = cluster_field(field, config(method)).labels
    assert torch.equal(labels, cluster_field(field.clone(), config(method)).labels)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = cluster_field(field[order], config(method)).labels
    mirrored = cluster_field(field.flip(-1).transpose(-1, -2), config(method)).labels
    exact = 0.999 if method != "hdbscan" else 0.95  # HDBSCAN's sample depends on the order of a region's cells
    assert agreement(shuffled, labels[order]) > exact
    assert agreement(mirrored.transpose(-1, -2).flip(-1), labels) > exact


def agreement(labels: Tensor, others: Tensor) -> float:
    """Mean IoU of the instances of two labellings after matching."""
    return min(joint_mean_iou(labels, others), joint_mean_iou(others, labels))


def test_length_of_features_and_number_type_do_not_matter() -> None:
    field, _ = make_field(2, (48, 48), 3, STYLES["clear"])
    labels = cluster_field(field, config()).labels
    lengths = 2.0 ** torch.randint(-8, 8, (2, 1, 48, 48), generator=torch.Generator().manual_seed(0))
    assert torch.equal(cluster_field(field * lengths, config()).labels, labels)
    assert torch.equal(cluster_field(field.double(), config()).labels, labels)
    assert torch.equal(cluster_field(field.requires_grad_(), config()).labels, labels)
    assert agreement(cluster_field(field.detach().half(), config()).labels, labels) > 0.95


def test_small_instances_are_dropped_and_their_pixels_take_the_nearest_other() -> None:
    field = halves(pair_at(1.2, dim=4), side=16)
    near_second = functional.normalize(pair_at(1.2)[1] + torch.tensor([0, 0, 0.8, 0]), dim=0)
    field[0, :, 4:8, 1:5] = near_second[:, None, None]  # 16 pixels in the left half
    kept = cluster_field(field, config(min_pixels=16))
    assert len(kept.scores) == 3 and (kept.labels[0, 4:8, 1:5] == 2).all()
    dropped = cluster_field(field, config(min_pixels=17))
    assert len(dropped.scores) == 2
    assert (dropped.labels[0, 4:8, 1:5] == dropped.labels[0, 0, -1]).all()
    assert len(cluster_field(halves(pair_at(1.2)), config(min_pixels=1000)).scores) == 1  # of two equal ones


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (1, 3, 1, 9), (2, 8, 2, 3), (1, 8, 37, 53), (40, 2, 5, 5)])
def test_constant_fields_are_one_instance_of_any_shape(method: str, shape: tuple[int, ...]) -> None:
    for field in (torch.full(shape, -0.3), torch.zeros(shape)):
        instances = cluster_field(field, config(method))
        assert instances.labels.shape == instances.margins.shape == (shape[0], *shape[2:])
        assert (instances.labels == 0).all() and instances.scores.tolist() == [GRANULARITY]
        expected = functional.normalize(field[0, :, 0, 0], dim=0)
        torch.testing.assert_close(instances.prototypes, expected[None], **tolerance("float32"))


@pytest.mark.parametrize("method", METHODS)
def test_noise_is_one_instance(method: str) -> None:
    noise = torch.randn(3, 8, 48, 48, generator=torch.Generator().manual_seed(0))
    instances = cluster_field(noise, config(method))
    assert (instances.labels == 0).all() and torch.isfinite(instances.scores).all()


def test_zero_vectors_are_a_thing_of_their_own() -> None:
    field = halves(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    instances = cluster_field(field, config())
    assert same_partition(instances.labels, field[:, 1] > 0)
    expected = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(instances.prototypes, expected, **tolerance("float32"))


@pytest.mark.parametrize("method", METHODS)
def test_a_wide_soft_border_does_not_tie_two_instances_together(method: str) -> None:
    """Every step across it is small, so that regions chain; their spread gives them away."""
    first, second = pair_at(1.2, dim=8)
    share = ((torch.arange(64) - 20) / 24).clamp(0, 1)
    field = ((1 - share) * first[:, None] + share * second[:, None])[None, :, None].repeat(2, 1, 64, 1)
    field = field + 0.03 * torch.randn(field.shape, generator=torch.Generator().manual_seed(0))
    labels = cluster_field(field, config(method)).labels
    assert (labels[..., :16] == labels[0, 0, 0]).all() and (labels[..., -16:] == labels[0, 0, -1]).all()
    assert labels[0, 0, 0] != labels[0, 0, -1]


def test_large_photos_are_labelled_by_cells_except_at_borders() -> None:
    field, ids = make_field(2, (130, 141), 4, STYLES["clear"])
    large = cluster_field(field, config(cell=LARGE_CELL))
    assert large.labels.shape == ids.shape
    pixels = functional.normalize(field, dim=1).permute(0, 2, 3, 1)
    nearest = torch.cdist(pixels.flatten(0, 2), large.prototypes).argmin(dim=1).view(ids.shape)
    differs = large.labels != nearest
    assert 0 < differs.double().mean() < 0.03  # outlier pixels inside of instances
    cells = functional.avg_pool2d(
        functional.normalize(field, dim=1), LARGE_CELL, ceil_mode=True, count_include_pad=False
    )
    cells = functional.normalize(cells, dim=1).permute(0, 2, 3, 1)
    labels = torch.cdist(cells.flatten(0, 2), large.prototypes).argmin(dim=1).view(cells.shape[:3])
    spread = labels.repeat_interleave(LARGE_CELL, 1)[:, :130].repeat_interleave(LARGE_CELL, 2)[:, :, :141]
    assert torch.equal(large.labels[differs], spread[differs])


def test_smoothing_removes_noise_that_differs_between_views() -> None:
    random = torch.Generator().manual_seed(0)
    field = halves(pair_at(1.2, dim=8), views=6, side=24)
    field = field + 0.35 * torch.randn(field.shape, generator=random)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    points = torch.stack([columns, rows, torch.zeros(24, 24)], dim=-1).expand(6, 24, 24, 3)
    points = points + (columns >= 12)[..., None] * 5  # the two halves are apart in space
    true = (columns >= 12).long().expand(6, 24, 24)
    rough, smooth = (cluster_field(field, config(smoothing=k), points).labels for k in (0, 20))
    assert joint_mean_iou(rough, true) < 0.9
    assert joint_mean_iou(smooth, true) > 0.98


def test_bad_input_is_refused() -> None:
    field = torch.ones(2, 4, 8, 8)
    for bad in (float("nan"), float("inf")):
        broken = field.clone()
        broken[1, 2, 3, 4] = bad
        with pytest.raises(ValueError, match="view 1 holds NaN or infinity"):
            cluster_field(broken, config())
    with pytest.raises(ValueError, match="nothing to cluster"):
        cluster_field(torch.ones(0, 4, 8, 8), config())
    with pytest.raises(ValueError, match="world points"):
        cluster_field(field, config(smoothing=20))


@pytest.mark.parametrize(
    "fields",
    [
        {"granularity": 0.0}, {"granularity": 2.5}, {"granularity": float("nan")}, {"min_pixels": 0}, {"smoothing": -1},
        {"cell": -1}, {"link": 0.0}, {"min_cells": 0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        dataclasses.replace(ClusteringConfig(), **fields)  # pyright: ignore[reportArgumentType]


def test_hdbscan_without_its_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "hdbscan" else find(name, *rest)
    )
    with pytest.raises(UserError, match=r'pip install "tokengroups\[hdbscan\]"'):
        cluster_field(halves(pair_at(1.2)), config("hdbscan"))
