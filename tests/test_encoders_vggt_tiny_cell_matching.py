"""Matching of cells: displacements against a loop, descriptors against their laws."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_encoder import TINY
from tokengroups.encoders.vggt_tiny.cell_matching import MAX_SCALE, CellMatching, displacements


def test_displacements_match_a_loop_over_cells():
    logits = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    found = displacements(logits, (2, 3))
    centres = [((column + 0.5) / 3, (row + 0.5) / 2) for row in range(2) for column in range(3)]
    for view in range(2):
        for cell in range(6):
            weights = logits[0, view, cell].exp() / logits[0, view, cell].exp().sum()
            for axis in range(2):
                expected = sum(w * c[axis] for w, c in zip(weights.tolist(), centres, strict=True))
                expected -= centres[cell][axis]
                assert found[0, view, cell, axis].item() == pytest.approx(expected, abs=1e-6)
            assert found[0, view, cell, 2].item() == pytest.approx(weights.max().item(), abs=1e-9)


def test_descriptors_have_one_length_and_logits_stay_bounded():
    matching = CellMatching(TINY)
    patches, stem_map = torch.randn(2, 3, 12, TINY.embed_dim), torch.randn(6, 8, 6, 8)
    descriptors = matching(patches, stem_map, (3, 4)).descriptors
    assert descriptors.shape == (2, 3, 48, TINY.matching_dim)
    torch.testing.assert_close(descriptors.square().sum(dim=-1), torch.full((2, 3, 48), 10.0))
    with torch.no_grad():
        matching.log_scale.fill_(20.0)
    lengths = matching(patches, stem_map, (3, 4)).descriptors.square().sum(dim=-1)
    torch.testing.assert_close(lengths, torch.full((2, 3, 48), MAX_SCALE))


def test_patches_take_in_the_displacements_of_their_own_four_cells():
    """Against the same computation for one patch: its cells in row-major order, through the feedback network."""
    matching = CellMatching(TINY)
    patches, stem_map = torch.randn(1, 2, 12, TINY.embed_dim), torch.randn(2, 8, 6, 8)
    descriptors, fed = matching(patches, stem_map, (3, 4))
    moved = displacements(descriptors @ descriptors[:, :1].mT, (6, 8))
    row, column = 1, 2
    cells = [(2 * row + i) * 8 + 2 * column + j for i in range(2) for j in range(2)]
    expected = patches[:, :, row * 4 + column] + matching.feedback(moved[:, :, cells].flatten(2))
    torch.testing.assert_close(fed[:, :, row * 4 + column], expected)
