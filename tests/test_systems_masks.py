"""Pixels that do not count, such as padding: no Gaussian, no instance and no match comes from them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.geometry import pixel_centres
from tokengroups.postprocess.bundle_adjustment.gauss_newton import ViewMatches
from tokengroups.postprocess.bundle_adjustment.patch_matching import PixelMatches, inside_by
from tokengroups.postprocess.mutual_matches import mutual_shares
from tokengroups.segmentation import segment_photos
from tokengroups.systems import load_model


@pytest.fixture(scope="module")
def padded() -> tuple[Tensor, Tensor]:
    """Two photos of 80 rows in images of 96, the first with a strip to the left that is ignored."""
    photos = to_views(generate_room(5, 1, "test", num_views=3, size=96), [0, 2]).images
    mask = torch.ones(2, 96, 96, dtype=torch.bool)
    mask[:, :8], mask[:, -8:], mask[0, :, :20] = False, False, False
    return torch.where(mask[:, None], photos, 1.0), mask


@pytest.mark.parametrize("weights", ["token_groups_tiny", "iggt_tiny", "segvggt_tiny", "vggt_tiny"])
def test_nothing_comes_from_pixels_that_do_not_count(padded, weights) -> None:
    photos, mask = padded
    model = load_model(weights)
    made = model.predict(photos, mask=mask)
    assert bool(mask[made.anchor_pixels.unbind(-1)].all()) and made.scene.gaussians.means.isfinite().all()
    assert torch.equal(made.mask, mask)
    if made.photo_groups is not None:
        assert bool((made.photo_groups.labels[~mask] == -1).all())
    found = segment_photos(model, photos, steps=(), mask=mask)
    assert bool((found.labels[~mask] == -1).all()) and bool((found.labels[mask] >= 0).any())
    whole = model.predict(photos)  # without it, padding is taken for a wall
    assert not bool(mask[whole.anchor_pixels.unbind(-1)].all())


def test_a_mask_of_ones_changes_nothing(padded) -> None:
    photos, mask = padded
    model = load_model()
    made = [model.reconstruct(photos, mask=each, postprocess="none") for each in (None, torch.ones_like(mask))]
    assert torch.equal(made[0].gaussians.means, made[1].gaussians.means)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 96, 96), "boolean"),
        (torch.ones(1, 96, 96, dtype=torch.bool), r"\[2, 96, 96\]"),
        (torch.zeros(2, 96, 96, dtype=torch.bool), "nothing of photo 0"),
    ],
)
def test_wrong_masks_are_refused(padded, mask, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_model().predict(padded[0], mask=mask)


def test_photos_with_more_pixels_must_be_the_same_photos(padded) -> None:
    photos, _ = padded
    for wrong in (photos[:1], photos[..., :48, :48], photos[..., :48].repeat(1, 1, 1, 1)):
        with pytest.raises(ValueError, match="full_photos"):
            load_model().predict(photos, full_photos=wrong)


def test_matches_count_where_both_ends_do() -> None:
    mask = torch.ones(2, 8, 8, dtype=torch.bool)
    mask[0, :, :4], mask[1, :4] = False, False
    grid = pixel_centres((8, 8), torch.zeros(1)).flatten(0, 1)
    kept = ViewMatches(0, 1, PixelMatches(grid, grid, torch.ones(64))).within(mask)
    assert len(kept.pixels.weight) == 16 and float(kept.pixels.source.min()) > 4
    assert ViewMatches(0, 1, PixelMatches(grid, grid, torch.ones(64))).within(None).pixels.weight.sum() == 64


def test_inside_by_a_margin_agrees_with_a_loop() -> None:
    mask = torch.rand(2, 13, 17, generator=torch.Generator().manual_seed(0)) > 0.02
    for view, row, column in [(0, 0, 0), (0, 6, 8), (1, 12, 16), (1, 3, 14), (0, 9, 2)]:
        around = mask[view, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        assert bool(inside_by(mask, 2)[view, row, column]) == bool(around.all())


def test_shares_of_matched_cells_leave_out_what_does_not_count() -> None:
    """Two views with the same descriptors, of which half of the cells count: all of those match."""
    descriptors = torch.nn.functional.normalize(
        torch.randn(1, 32, 16, generator=torch.Generator().manual_seed(1)), dim=2
    )
    counts = torch.ones(2, 32, dtype=torch.bool)
    counts[0, :16] = False
    shares = mutual_shares(descriptors.expand(2, -1, -1) * 5, counts)
    assert float(shares[0, 1]) == pytest.approx(1.0) and float(shares[0, 0]) == -1
