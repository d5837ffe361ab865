"""Sharpening of a frame's projected ids by a segmenter's masks: AutoRefiner's six rules, by the authors of IGGT.

IoU and coverage (shared pixels over those of the id) are of a proposal and an id. Where the original leaves the order
open, ids come in ascending order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from tokengroups.data.curation.base import Mask
from tokengroups.data.curation.regions import boundary
from tokengroups.data.instance_masks import paint


@dataclass(frozen=True)
class MatchSettings:
    """Thresholds of the six rules."""

    min_iou: float = 0.3  # 1: one to one, best first
    weak_iou: float = 0.1  # 2: a free proposal of this IoU ...
    weak_coverage: float = 0.3  # ... and coverage, by .6 IoU + .4 coverage
    touch_iou: float = 0.05  # 3: a free proposal of this IoU and the highest coverage, ...
    min_coverage: float = 0.2  # ... which is at least this
    union_touch_iou: float = 0.01  # 4: the union of up to so many neighbours in the order of coverage, ...
    union_size: int = 4
    union_iou: float = 0.2  # ... of this IoU
    gain: float = 0.01  # 5: IoU that a further proposal must add
    points: int = 100  # of a boundary, which measure how near a proposal is
    nearness_px: float = 5.0
    seed: int = 0  # of these points
    faithful: bool = False  # paint in ascending order of ids, later ones on top, instead of by size


class Refined(NamedTuple):
    """Sharpened ids of a frame, and how many came from which rule."""

    ids: np.ndarray  # [H, W]; 0 = none
    rules: dict[str, int]


@dataclass(frozen=True)
class _Id:
    """One id's projected mask against all proposals."""

    mask: Mask
    proposals: Sequence[Mask]
    iou: np.ndarray  # [P]
    coverage: np.ndarray  # [P]

    def iou_of(self, mask: Mask) -> float:
        """IoU of any mask with the projected one."""
        return float(np.count_nonzero(mask & self.mask) / np.count_nonzero(mask | self.mask))

    def union(self, indices: Sequence[int]) -> Mask:
        """Union of some proposals."""
        return np.logical_or.reduce([self.proposals[index] for index in indices])


def refine_ids(
    projected: Integer[np.ndarray, "H W"], proposals: Sequence[Mask], settings: MatchSettings | None = None
) -> Refined:
    """Replace every projected id's mask by proposals that match it.

    Args:
        projected: Ids of objects, 0 = none.
        proposals: Masks of the same size.
        settings: None = the defaults.

    Returns:
        Ids, painted from large to small; ids that match nothing keep their projection.
    """
    settings = settings or MatchSettings()
    ids = _compare(projected, [mask for mask in proposals if mask.any()])
    chosen, rules = _match(ids, settings)
    taken = {index for indices in chosen.values() for index in indices}
    rng, result = np.random.default_rng(settings.seed), []
    for number, one in ids.items():
        mask = _absorb(one, chosen[number], taken, settings, rng) if number in chosen else one.mask
        result.append((number, mask))
    painted = np.zeros(projected.shape, np.int32)
    if settings.faithful:
        for number, mask in result:
            painted[mask] = number
    else:
        painted = paint(result, (projected.shape[0], projected.shape[1])).clip(min=0)
    return Refined(painted, rules | {"projected": len(ids) - len(chosen)})


def _compare(projected: np.ndarray, proposals: Sequence[Mask]) -> dict[int, _Id]:
    """IoU and coverage of all proposals, by id."""
    numbers, places = np.unique(projected, return_inverse=True)
    places = places.reshape(projected.shape)
    sizes = np.bincount(places.ravel(), minlength=len(numbers))
    areas = np.array([np.count_nonzero(mask) for mask in proposals], np.int64)
    shared = [np.bincount(places[mask], minlength=len(numbers)) for mask in proposals]
    table = np.array(shared, np.int64).reshape(-1, len(numbers))
    return {
        int(number): _Id(
            projected == number,
            proposals,
            table[:, column] / (areas + sizes[column] - table[:, column]),
            table[:, column] / sizes[column],
        )
        for column, number in enumerate(numbers)
        if number != 0
    }


def _match(ids: dict[int, _Id], settings: MatchSettings) -> tuple[dict[int, list[int]], dict[str, int]]:
    """Proposals of every id by rules 1 to 4, and the number of ids by rule."""
    chosen: dict[int, list[int]] = {}
    taken: set[int] = set()
    pairs = [(number, index) for number, one in ids.items() for index in np.flatnonzero(one.iou >= settings.min_iou)]
    for number, index in sorted(pairs, key=lambda pair: -ids[pair[0]].iou[pair[1]]):
        if number not in chosen and index not in taken:
            chosen[number] = [int(index)]
            taken.add(int(index))
    counts = {"one_to_one": len(chosen)}
    for name, rule in (("weak", _weak), ("covering", _covering), ("union", _union)):
        counts[name] = 0
        for number, one in ids.items():
            found = [] if number in chosen else rule(one, taken, settings)
            if found:
                chosen[number] = found
                taken.update(found)
                counts[name] += 1
    return chosen, counts


def _weak(one: _Id, taken: set[int], settings: MatchSettings) -> list[int]:
    """Rule 2."""
    good = (one.iou >= settings.weak_iou) & (one.coverage >= settings.weak_coverage)
    return _free(good, 0.6 * one.iou + 0.4 * one.coverage, taken)[:1]


def _covering(one: _Id, taken: set[int], settings: MatchSettings) -> list[int]:
    """Rule 3."""
    best = _free(one.iou > settings.touch_iou, one.coverage, taken)[:1]
    return [index for index in best if one.coverage[index] >= settings.min_coverage]


def _union(one: _Id, taken: set[int], settings: MatchSettings) -> list[int]:
    """Rule 4."""
    order = _free(one.iou > settings.union_touch_iou, one.coverage, taken)
    counts = range(2, settings.union_size + 1)
    runs = [order[start : start + count] for start in range(len(order)) for count in counts]
    best = max((run for run in runs if len(run) > 1), key=lambda run: one.iou_of(one.union(run)), default=[])
    return best if best and one.iou_of(one.union(best)) >= settings.union_iou else []


def _absorb(
    one: _Id, chosen: Sequence[int], taken: set[int], settings: MatchSettings, rng: np.random.Generator
) -> Mask:
    """Rule 5: add free proposals that overlap the id, the most promising first, while its IoU rises."""
    mask = one.union(chosen)
    free = _free(one.iou > settings.touch_iou, one.iou, taken)
    if not free:
        return mask
    border = boundary(mask)
    promise = {
        index: 0.7 * _inside(one, index) + 0.3 * _near(one.proposals[index], border, settings, rng) for index in free
    }
    for index in sorted(free, key=lambda index: -promise[index]):
        larger = mask | one.proposals[index]
        if one.iou_of(larger) > one.iou_of(mask) + settings.gain:
            mask = larger
            taken.add(index)
    return mask


def _inside(one: _Id, index: int) -> float:
    """Share of a proposal that lies on the id."""
    proposal = one.proposals[index]
    return float(np.count_nonzero(proposal & one.mask) / np.count_nonzero(proposal))


def _near(proposal: Mask, border: np.ndarray, settings: MatchSettings, rng: np.random.Generator) -> float:
    """Nearness of a proposal to a mask: 1 = their borders touch, 1/e at the given distance; by sampled points."""
    points = boundary(proposal)
    points = rng.permutation(points)[: settings.points].astype(np.float64)
    squares = ((points[:, None] - border) ** 2).sum(axis=2)
    return float(np.exp(-np.sqrt(squares.min(axis=1)).mean() / settings.nearness_px))


def _free(good: np.ndarray, values: np.ndarray, taken: set[int]) -> list[int]:
    """Indices of good proposals that no id has, by falling values."""
    free = [index for index in np.flatnonzero(good).tolist() if index not in taken]
    return sorted(free, key=lambda index: -values[index])
