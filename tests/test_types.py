"""Dataclasses of tensors: `map`, `to`, `detach` and `stack` against torch, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tokengroups.encoders import Geometry
from tokengroups.types import Cameras, TensorFields, Views, stack

MATCHES, MAPS, AFFINITY = "match_descriptors", "single_view_features", "pair_affinity"


@dataclass(frozen=True)
class Everything(TensorFields):
    """One field of every kind that a dataclass of the package has."""

    tensor: Tensor
    nested: Cameras
    maps: tuple[Tensor, ...]
    named: Mapping[str, Any] = field(default_factory=dict)
    missing: Tensor | None = None
    size_hw: tuple[int, int] = (4, 6)
    name: str = "room"
    empty: tuple[Tensor, ...] = ()


def geometry(seed: int, views: int = 2) -> Geometry:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return Geometry(
        features=random(views, 5, 2, 3),
        points=random(views, 4, 6, 3),
        depth=random(views, 4, 6),
        confidence=1 + random(views, 4, 6),
        cameras=Cameras(random(views, 4, 4), random(views, 3, 3), (4, 6)),
        evidence={
            MATCHES: random(views, 24, 8),
            MAPS: (random(views, 6, 4, 4), random(views, 3, 8, 8)),
            AFFINITY: random(views, 8, 8, 8),
        },
    )


def everything(seed: int) -> Everything:
    torch.manual_seed(seed)
    nested = Cameras(torch.rand(4, 4), torch.rand(3, 3), (4, 6))
    named = {"one": torch.rand(2), "two": (torch.rand(3), torch.rand(1)), "text": "as it is"}
    return Everything(torch.rand(2, 3), nested, (torch.rand(2), torch.rand(3)), named)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path, in a walk of its own: dataclasses, mappings and tuples are opened."""
    if isinstance(value, TensorFields):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}  # pyright: ignore[reportArgumentType]
    elif isinstance(value, dict):
        parts = value
    elif isinstance(value, tuple):
        parts = dict(enumerate(value))
    else:
        return {path: value}
    return {key: leaf for name, part in parts.items() for key, leaf in leaves(part, f"{path}/{name}").items()}


@pytest.mark.parametrize("make", [geometry, everything])
@pytest.mark.parametrize("count", [1, 3])
def test_stacking_is_torch_s_of_every_tensor(make, count: int) -> None:
    items = [make(seed) for seed in range(count)]
    each, stacked = [leaves(item) for item in items], leaves(stack(items))
    assert type(stack(items)) is type(items[0])
    assert stacked.keys() == each[0].keys() and any("/" in key[1:] for key in stacked)
    for key, value in stacked.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, torch.stack([leaf[key] for leaf in each])), key
        else:
            assert value == each[0][key] and not isinstance(each[0][key], Tensor), key


def test_stacked_evidence_has_its_batch_axis_first() -> None:
    whole = stack([geometry(seed) for seed in range(3)])
    assert whole.features.shape == (3, 2, 5, 2, 3)
    assert whole.evidence[MATCHES].shape == (3, 2, 24, 8)
    coarse, fine = whole.evidence[MAPS]
    assert coarse.shape == (3, 2, 6, 4, 4) and fine.shape == (3, 2, 3, 8, 8)
    assert whole.cameras.size_hw == (4, 6)


def test_a_scene_of_the_stack_is_the_one_that_was_put_in() -> None:
    items = [geometry(seed) for seed in range(3)]
    whole = stack(items)
    for index, item in enumerate(items):
        mine, theirs = leaves(whole.scene(index)), leaves(item)
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            same = torch.equal(mine[key], value) if isinstance(value, Tensor) else mine[key] == value
            assert same, key


def test_stacking_refuses_what_is_not_of_one_form() -> None:
    one, other = geometry(0), geometry(1)
    with pytest.raises(RuntimeError, match="equal size"):
        stack([one, geometry(1, views=3)])
    with pytest.raises(KeyError, match=MATCHES):
        stack([one, replace(other, evidence={})])
    with pytest.raises(ValueError, match="zip"):
        stack([one, replace(other, evidence=other.evidence | {MAPS: other.evidence[MAPS][:1]})])


@pytest.mark.parametrize("make", [geometry, everything])
def test_map_reaches_every_tensor_and_nothing_else(make) -> None:
    given = make(0)
    seen: list[int] = []

    def negative(tensor: Tensor) -> Tensor:
        seen.append(id(tensor))
        return -tensor

    before = {key: value.clone() if isinstance(value, Tensor) else value for key, value in leaves(given).items()}
    mapped = given.map(negative)
    after = leaves(mapped)
    assert after.keys() == before.keys()
    for key, value in before.items():
        if isinstance(value, Tensor):
            assert torch.equal(after[key], -value), key
            assert torch.equal(leaves(given)[key], value), key  # the given one stays
        else:
            assert after[key] is value, key
    tensors = [value for value in leaves(given).values() if isinstance(value, Tensor)]
    assert sorted(seen) == sorted(id(tensor) for tensor in tensors)


def test_map_gives_mappings_of_their_own() -> None:
    given = geometry(0)
    mapped = given.map(lambda tensor: tensor)
    assert mapped.evidence is not given.evidence and mapped.evidence.keys() == given.evidence.keys()
    assert isinstance(mapped.evidence[MAPS], tuple)


def test_to_and_detach_reach_evidence_and_cameras() -> None:
    given = geometry(0)
    assert all(
        value.dtype == torch.float64 for value in leaves(given.to(torch.float64)).values() if isinstance(value, Tensor)
    )
    learnt = given.map(lambda tensor: tensor.requires_grad_())
    tensors = [value for value in leaves(learnt.detach()).values() if isinstance(value, Tensor)]
    assert len(tensors) == 10 and not any(tensor.requires_grad for tensor in tensors)


@pytest.mark.parametrize("lead", [(), (2,)])
def test_selected_views_are_those_asked_for_in_their_order(lead: tuple[int, ...]) -> None:
    cameras = Cameras(torch.rand(*lead, 4, 4, 4), torch.rand(*lead, 4, 3, 3), (5, 6))
    ids = torch.randint(0, 9, (*lead, 4, 5, 6))
    views = Views(torch.rand(*lead, 4, 3, 5, 6), cameras, torch.rand(*lead, 4, 5, 6), ids)
    chosen, axis = views.select([3, 1]), len(lead)
    for key, value in leaves(views).items():
        if isinstance(value, Tensor):
            expected = torch.stack([value.select(axis, 3), value.select(axis, 1)], dim=axis)
            assert torch.equal(leaves(chosen)[key], expected), key
    assert chosen.cameras.size_hw == (5, 6)
