"""Merged attention: exact where merged tokens are alike, and a plan that a loop makes too."""

from __future__ import annotations

import pytest
import torch
from tiny_encoder import TINY
from tolerances import tolerance

from tokengroups.encoders.vggt.merging import MIN_VIEWS, SHARE, merge_plan, merged_attention, staying_tokens
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.nn.blocks import attend

GRID, SPECIAL = (4, 6), 2
VIEW = SPECIAL + GRID[0] * GRID[1]


def test_the_first_view_special_tokens_and_a_grid_stay():
    stays = staying_tokens(3 * VIEW, GRID, SPECIAL, torch.device("cpu")).view(3, VIEW)
    assert stays[0].all() and stays[:, :SPECIAL].all()
    assert torch.equal(stays[1], stays[2])
    patches = stays[1, SPECIAL:].view(GRID).nonzero().tolist()
    assert patches == [[1, 1], [1, 4]]


def test_merging_equal_tokens_changes_nothing():
    """A mean of n equal tokens is such a token, and counts n times."""
    generator = torch.Generator().manual_seed(0)
    length = 3 * VIEW
    stays = staying_tokens(length, GRID, SPECIAL, torch.device("cpu"))
    targets = stays.nonzero()[:, 0]
    source = torch.where(stays, torch.arange(length), targets[torch.randint(len(targets), (length,))])
    q, k, v = (torch.randn(2, 4, length, 8, generator=generator)[:, :, source] for _ in range(3))
    merged = merged_attention(q, k, v, GRID, SPECIAL)
    torch.testing.assert_close(merged, attend(q, k, v), **tolerance("float32"))


def test_the_most_similar_tokens_join_their_nearest():
    keys = torch.randn(2, 3 * VIEW, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stays = staying_tokens(3 * VIEW, GRID, SPECIAL, torch.device("cpu"))
    place, count = merge_plan(keys, stays)
    targets, others = stays.nonzero()[:, 0].tolist(), (~stays).nonzero()[:, 0].tolist()
    tokens = keys.movedim(0, 1).flatten(1)
    cosine = [[float(torch.cosine_similarity(tokens[i], tokens[j], dim=0)) for j in targets] for i in others]
    ranked = sorted(range(len(others)), key=lambda row: -max(cosine[row]))
    merged = ranked[: round(SHARE * len(others))]
    for row in merged:
        assert place[others[row]] == max(range(len(targets)), key=lambda column: cosine[row][column])
    alone = sorted(int(place[others[row]]) for row in ranked[len(merged) :])
    assert alone == list(range(len(targets), count))
    assert place[targets].tolist() == list(range(len(targets)))


@pytest.mark.parametrize("views", [MIN_VIEWS - 1, MIN_VIEWS])
def test_few_views_stay_exact(views: int):
    model = VGGTTiny(TINY).freeze()
    images = torch.rand(1, views, 3, 32, 32)
    exact = model.encode(images)
    model.fast = True
    found = model.encode(images)
    assert torch.equal(found.features, exact.features) == (views < MIN_VIEWS)
    torch.testing.assert_close(found.depth, exact.depth, rtol=0.2, atol=0)
