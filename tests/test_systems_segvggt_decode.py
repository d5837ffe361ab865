"""Decoding against literal loops over pairs, cells and pixels, as section 4.2 of the published evaluation words it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.largest_tensor import LargestTensor
from tests.tolerances import tolerance
from tokengroups.bounds import faults
from tokengroups.systems.segvggt import decode
from tokengroups.systems.segvggt.decode import (
    DecodeConfig,
    exclusive_instances,
    exclusive_labels,
    find_instances,
    photo_groups,
    photo_masks,
)

SIZE = (13, 17)  # of the photos
CONFIG = DecodeConfig(max_pairs=20, score_threshold=0.05, min_pixels=22)


def some_answer(queries: int = 7, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, features of three photos of 5 x 6 cells, class logits."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(3, 8, 2, 3, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (5, 6), mode="bilinear", align_corners=True)
    features = smooth.permute(0, 2, 3, 1).contiguous()
    return torch.randn(queries, 8, generator=rng), features, 2 * torch.randn(queries, classes + 1, generator=rng)


def find_by_loop(answer: tuple[Tensor, Tensor, Tensor], config: DecodeConfig) -> list[tuple[int, int, float, int]]:
    """Query, class, score and cells of every pair that is kept, by descending score."""
    queries, features, logits = (tensor.double() for tensor in answer)
    pairs = []
    for query, row in enumerate(logits.tolist()):
        chances = [math.exp(value) / sum(map(math.exp, row)) for value in row]
        if config.class_agnostic:
            pairs.append((1 - chances[-1], query, chances[:-1].index(max(chances[:-1]))))
        else:
            pairs += [(chance, query, label) for label, chance in enumerate(chances[:-1])]
    kept = []
    for chance, query, label in sorted(pairs, reverse=True)[: config.max_pairs]:
        total, sure, cells = 0.0, 0, 0
        for cell in features.flatten(0, 2):
            logit = float(queries[query] @ cell)
            p = 1 / (1 + math.exp(-logit))
            total, sure, cells = total + p * (logit > 0), sure + (logit > 0), cells + (p > config.mask_threshold)
        score = chance * total / (sure + 1e-6)
        if score > config.score_threshold and cells > config.min_pixels:
            kept.append((query, label, score, cells))
    return sorted(kept, key=lambda pair: -pair[2])


def logits_by_loop(answer: tuple[Tensor, Tensor, Tensor], query: int) -> Tensor:
    """Mask logits at the photos' resolution, with the corner cells on the corner pixels, in float64."""
    queries, features, _ = (tensor.double() for tensor in answer)
    maps = features @ queries[query]
    full = torch.zeros(len(maps), *SIZE, dtype=torch.float64)
    for view in range(len(maps)):
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                y, x = row * (maps.shape[1] - 1) / (SIZE[0] - 1), column * (maps.shape[2] - 1) / (SIZE[1] - 1)
                top, left = min(int(y), maps.shape[1] - 2), min(int(x), maps.shape[2] - 2)
                upper, lower = ((1 - x + left) * r[left] + (x - left) * r[left + 1] for r in maps[view, top : top + 2])
                full[view, row, column] = (1 - y + top) * upper + (y - top) * lower
    return full


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        DecodeConfig(),
        replace(CONFIG, mask_threshold=0.7, min_pixels=5),
        replace(CONFIG, class_agnostic=True, max_pairs=6),
    ],
)
def test_pairs_equal_a_loop(config: DecodeConfig, monkeypatch) -> None:
    monkeypatch.setattr(decode, "_AT_ONCE", 7 * 11)  # 11 of 90 cells at a time
    answer = some_answer()
    expected = find_by_loop(answer, config)
    found = find_instances(*answer, config)
    rows = list(zip(found.queries.tolist(), found.classes.tolist(), found.cells.tolist(), strict=True))
    assert rows == [(query, label, cells) for query, label, _, cells in expected]
    torch.testing.assert_close(found.scores, torch.tensor([row[2] for row in expected]), **tolerance("float32"))
    if config == DecodeConfig():
        assert not rows  # 90 cells are fewer than 200
        return
    assert 0 < len(rows) <= config.max_pairs
    assert len({query for query, _, _ in rows}) < len(rows) or config.class_agnostic  # a query in several pairs


def test_thresholds_are_strict() -> None:
    """Scores and numbers of cells must be above the thresholds, not at them."""
    features, queries, logits = torch.ones(1, 4, 5, 1), torch.full((1, 1), 40.0), torch.tensor([[0.0, -200.0]])
    found = find_instances(queries, features, logits, DecodeConfig(min_pixels=19))
    assert found.cells.tolist() == [20] and found.scores.item() == pytest.approx(1)
    assert len(find_instances(queries, features, logits, DecodeConfig(min_pixels=20)).scores) == 0
    strict = DecodeConfig(min_pixels=0, score_threshold=found.scores.item())
    assert len(find_instances(queries, features, logits, strict).scores) == 0


def test_the_score_s_pixels_are_not_the_mask_s() -> None:
    """A cell of probability 0.45 is in the mask, but does not count for the score."""
    features = torch.tensor([math.log(0.45 / 0.55), math.log(0.8 / 0.2), -9.0]).reshape(1, 1, 3, 1)
    found = find_instances(torch.ones(1, 1), features, torch.tensor([[9.0, -90.0]]), DecodeConfig(min_pixels=0))
    assert found.cells.tolist() == [2] and found.scores.item() == pytest.approx(0.8, rel=1e-5)


def test_masks_are_resized_logits_above_the_threshold(monkeypatch) -> None:
    monkeypatch.setattr(decode, "_AT_ONCE", 2 * SIZE[0] * SIZE[1])  # two masks at a time
    answer = some_answer()
    masks = torch.stack(list(photo_masks(answer[0], answer[1], SIZE, 0.4)), dim=1)
    assert masks.shape == (7, 3, *SIZE)
    for query in range(7):
        probabilities = logits_by_loop(answer, query).sigmoid()
        clear = (probabilities - 0.4).abs() > 1e-5
        assert torch.equal(masks[query][clear], (probabilities > 0.4)[clear]) and clear.float().mean() > 0.99
    assert (masks.sum(dim=0) > 1).any()  # they overlap
    assert next(photo_masks(answer[0][:0], answer[1], SIZE, 0.4)).shape == (0, *SIZE)


def test_exclusive_labels_equal_a_loop_over_pixels(monkeypatch) -> None:
    monkeypatch.setattr(decode, "_AT_ONCE", 2 * SIZE[0] * SIZE[1])
    answer = some_answer()
    scores = torch.linspace(0.9, 0.3, 7)
    labels = exclusive_labels(answer[0], scores, answer[1], SIZE, 0.8)
    probabilities = torch.stack([logits_by_loop(answer, query).sigmoid() for query in range(7)])
    seen = set()
    for view in range(3):
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                here = probabilities[:, view, row, column].tolist()
                inside = [index for index in range(7) if here[index] > 0.8]
                best = max(inside, key=lambda index: scores[index].item() * here[index], default=-1)  # noqa: B023
                assert labels[view, row, column] == best
                seen.add(best)
    assert len(seen) > 5 and -1 in seen


def test_the_first_of_equal_masks_gets_the_pixels(monkeypatch) -> None:
    monkeypatch.setattr(decode, "_AT_ONCE", SIZE[0] * SIZE[1])
    queries, features, _ = some_answer()
    twice = queries[[2, 2, 5, 5]]
    labels = exclusive_labels(twice, torch.full((4,), 0.5), features, SIZE, 0.8)
    assert set(labels.unique().tolist()) == {-1, 0, 2}


def test_every_query_has_one_class_and_unseen_instances_are_dropped() -> None:
    queries, features, logits = some_answer()
    config = DecodeConfig(max_pairs=20, mask_threshold=0.8, min_pixels=0)
    hidden = torch.cat([queries, queries[:1]])  # the copy of the first query is surer of its class
    logits = torch.cat([logits, 3 * logits[:1]])
    labels, found = exclusive_instances(hidden, features, logits, SIZE, config)
    ranked = find_instances(hidden, features, logits, config)
    ranks = {query: rank for rank, query in reversed(list(enumerate(ranked.queries.tolist())))}
    assert {0, 7} <= set(ranks)
    first, second = sorted((0, 7), key=lambda query: ranks[query])
    assert first in found.queries.tolist() and second not in found.queries.tolist()
    assert len(set(found.queries.tolist())) == len(found.queries) > 2
    for query, label, score in zip(found.queries.tolist(), found.classes.tolist(), found.scores.tolist(), strict=True):
        assert (label, score) == (ranked.classes[ranks[query]].item(), ranked.scores[ranks[query]].item())
    assert labels.unique().tolist() == [-1, *range(len(found.scores))]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    again = exclusive_labels(hidden[found.queries], found.scores, features, SIZE, config.mask_threshold)
    assert torch.equal(labels, again)


def test_instances_of_which_others_leave_little_are_dropped() -> None:
    """Not more pixels than the least number of cells has; nobody else gets them."""
    queries, features, logits = some_answer()
    config = DecodeConfig(max_pairs=20, mask_threshold=0.8, min_pixels=5)
    labels, found = exclusive_instances(queries, features, logits, SIZE, config)
    least = 5 * SIZE[0] * SIZE[1] / (features.shape[1] * features.shape[2])
    sizes = torch.bincount(labels[labels >= 0], minlength=len(found.scores))
    assert bool((sizes > least).all())
    whole = find_instances(queries, features, logits, config)
    whole = whole.select(
        torch.tensor([whole.queries.tolist().index(q) == i for i, q in enumerate(whole.queries.tolist())])
    )
    before = exclusive_labels(queries[whole.queries], whole.scores, features, SIZE, config.mask_threshold)
    numbers = {query: number for number, query in enumerate(found.queries.tolist())}
    kept = torch.tensor([numbers.get(query, -1) for query in [*whole.queries.tolist(), None]])
    assert torch.equal(labels, kept[before]) and len(found.queries) < len(before[before >= 0].unique())


def test_groups_of_photos_have_the_names_of_their_classes() -> None:
    labels, found = exclusive_instances(*some_answer(), SIZE, CONFIG)
    names = ("chair", "table", "lamp", "door")
    groups = photo_groups(labels, found, names)
    assert groups.names == tuple(names[index] for index in found.classes.tolist()) and len(set(groups.names)) > 1
    assert torch.equal(groups.labels, labels) and torch.equal(groups.scores, found.scores) and groups.field is None


def test_nothing_found_is_no_label() -> None:
    queries, features, logits = some_answer()
    labels, found = exclusive_instances(queries, features, logits, SIZE, DecodeConfig())
    assert bool((labels == -1).all()) and labels.shape == (3, *SIZE) and len(found.scores) == 0
    assert photo_groups(labels, found, ("a", "b", "c", "d")).names == ()


def test_memory_does_not_grow_with_all_masks_of_all_photos(monkeypatch) -> None:
    """No tensor of a decoding is larger than the block or the labels."""
    monkeypatch.setattr(decode, "_AT_ONCE", 2 * SIZE[0] * SIZE[1])
    queries, features, logits = some_answer(queries=30)
    with LargestTensor() as largest:
        exclusive_instances(queries, features, logits, SIZE, DecodeConfig(min_pixels=0))
    assert largest.numel == max(3 * SIZE[0] * SIZE[1], features.numel())


def test_numbers_that_are_not_finite_are_refused() -> None:
    answer = list(some_answer())
    for place in range(3):
        broken = [*answer]
        broken[place] = answer[place].clone()
        broken[place].flatten()[3] = math.nan
        with pytest.raises(ValueError, match="must be finite"):
            find_instances(*broken, CONFIG)


def test_official_settings_and_their_bounds() -> None:
    own = DecodeConfig()
    assert (own.max_pairs, own.mask_threshold, own.score_threshold, own.min_pixels) == (600, 0.4, 0, 200)
    wrong = {"max_pairs": 0, "mask_threshold": 1.0, "score_threshold": -0.1, "min_pixels": -1}
    assert {name for name, _ in faults(DecodeConfig, wrong)} == set(wrong)
