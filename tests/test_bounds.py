"""Bounds of settings: what holds, what is said otherwise, and that no number of any configuration lacks bounds."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin

import numpy as np
import pytest

from tokengroups.bounds import Between, Count, Settings, field_hints
from tokengroups.config import build_config
from tokengroups.data.procedural.cache import ProceduralRooms
from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTinyConfig
from tokengroups.errors import UserError
from tokengroups.fitting import FitConfig
from tokengroups.postprocess import STEPS
from tokengroups.registry import resolve
from tokengroups.systems import SYSTEMS
from tokengroups.training.experiments import TASKS, read_experiment


@dataclass(frozen=True)
class Inner(Settings):
    width: Annotated[int, Between(1, 9)] = 3
    pair: tuple[Annotated[float, Between(0, 1, open_high=True)], float] = (0.5, 2.0)


@dataclass(frozen=True)
class Outer(Settings):
    rate: Annotated[float, Between(0, 5, open_low=True)] = 1.0
    limit: Count | None = None
    free: int = 0
    sides: Annotated[tuple[int, ...], Between(1, 3)] = (1,)
    inner: Inner = field(default_factory=Inner)
    shown: bool = False
    name: str | dict[str, Any] = ""


REFUSED = [
    ({"rate": math.nan}, "rate", "must be a finite number above 0 and at most 5, got nan"),
    ({"rate": math.inf}, "rate", "must be a finite number above 0 and at most 5, got inf"),
    ({"rate": 0}, "rate", "must be a finite number above 0 and at most 5, got 0"),
    ({"rate": 5.5}, "rate", "must be a finite number above 0 and at most 5, got 5.5"),
    ({"rate": 10**400}, "rate", "must be a finite number above 0 and at most 5, got 1000"),
    ({"rate": "high"}, "rate", "must be a finite number above 0 and at most 5, got 'high'"),
    ({"rate": True}, "rate", "must be a finite number above 0 and at most 5, got True"),
    ({"limit": 0}, "limit", "must be a whole number from 1 to 1,000,000,000, got 0"),
    ({"limit": 1.0}, "limit", "must be a whole number from 1 to 1,000,000,000, got 1.0"),
    ({"free": 2**63}, "free", "must be a whole number, got 9223372036854775808"),
    ({"free": math.inf}, "free", "must be a whole number, got inf"),
    ({"sides": []}, "sides", "must have from 1 to 3 entries, got 0"),
    ({"sides": [1, 2, 3, 4]}, "sides", "must have from 1 to 3 entries, got 4"),
    ({"sides": [1, math.nan]}, "sides", "entries must be a whole number, got nan"),
    ({"inner": {"width": 10}}, "inner.width", "must be a whole number from 1 to 9, got 10"),
    ({"inner": {"pair": [1, 2]}}, "inner.pair", "entries must be a finite number at least 0 and below 1, got 1"),
    ({"inner": {"pair": [0, math.inf]}}, "inner.pair", "entries must be a finite number, got inf"),
]


@pytest.mark.parametrize(("values", "name", "fault"), REFUSED)
def test_values_outside_are_named_with_their_place_and_bounds(values: dict, name: str, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        build_config(Outer, values, "a.yaml")
    assert str(caught.value).startswith(f"a.yaml: the key '{name}' {fault}")
    assert "\n" not in str(caught.value)


def test_values_at_the_ends_are_taken() -> None:
    values = {
        "rate": 5,
        "limit": 1,
        "free": -(2**63) + 1,
        "sides": [1, 2, 3],
        "inner": {"width": 9, "pair": [0, -1e300]},
    }
    taken = build_config(Outer, values, "a.yaml")
    assert taken == Outer(5.0, 1, -(2**63) + 1, (1, 2, 3), Inner(9, (0.0, -1e300)))
    assert isinstance(taken.rate, float)


def test_python_refuses_the_same_and_takes_numbers_of_numpy() -> None:
    with pytest.raises(ValueError, match="^width must be a whole number from 1 to 9, got 0$"):
        Inner(0)
    with pytest.raises(ValueError, match="^pair entries must be a finite number, got nan$"):
        Inner(pair=(0.5, math.nan))
    assert Inner(np.int64(7), (np.float32(0.5), 1.0)).width == 7
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to"):
        FitConfig(seed=-1)


def configurations() -> dict[str, type]:
    """All configuration classes: those of tasks, steps, encoders, systems, data sets and fits, and what they hold."""
    found: list[Any] = [VGGTConfig, VGGTTinyConfig, FitConfig, ProceduralRooms]
    found += [resolve(name, STEPS, "step") for name in STEPS]
    found += [resolve(name, TASKS, "task").settings_class for name in TASKS]
    for name in SYSTEMS:
        system = resolve(name, SYSTEMS, "system")
        found += [system.settings_class, getattr(system, "config_class", VGGTConfig)]
    example = read_experiment("configs/token_groups_tiny.yaml").config
    found += [type(example.training), type(example.data)]
    for cls in found:
        found += [hint for hint in field_hints(cls).values() if is_dataclass(hint) and hint not in found]
    return {cls.__name__: cls for cls in found}


def numbers(hint: Any, bounded: bool = False) -> Iterator[tuple[type, bool]]:
    """The numbers that a hint holds, each with whether it has bounds."""
    if get_origin(hint) is Annotated:
        inner, *extras = get_args(hint)
        is_tuple = get_origin(inner) is tuple
        yield from numbers(inner, not is_tuple and any(isinstance(extra, Between) for extra in extras))
    elif get_origin(hint) in (Union, types.UnionType, tuple):
        for part in get_args(hint):
            yield from numbers(part)
    elif hint in (int, float):
        yield hint, bounded


CONFIGURATIONS = configurations()


def test_all_configurations_are_found() -> None:
    some = {"TrainingConfig", "ExampleConfig", "MaskLossWeights", "SemanticsConfig", "BoundaryCRF"}
    assert some <= set(CONFIGURATIONS)
    assert len(CONFIGURATIONS) > 25


@pytest.mark.parametrize("cls", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_number_of_every_configuration_has_bounds(cls: type) -> None:
    """But whole numbers in `dpt_layers`, whose bound is another field; and no number takes NaN, infinity or 2^63."""
    hints = field_hints(cls)
    assert all(bounded for name in hints if name != "dpt_layers" for _, bounded in numbers(hints[name])), hints
    for each in fields(cls):
        for kind, _ in numbers(hints[each.name]):
            wrong = [math.nan, math.inf, -math.inf, 10**400] + ([2**63, -(2**63), 0.5] if kind is int else [])
            for value in wrong:
                given = [value] if get_origin(hints[each.name]) is tuple else value
                with pytest.raises(UserError, match=f"the key '{each.name}' .*must (be|have)"):
                    build_config(cls, {each.name: given}, "x")
