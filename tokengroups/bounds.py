"""Bounds of settings, declared beside the fields of a dataclass and checked in one place.

A field's type carries its bounds, as in ``steps: Annotated[int, Between(1, 1000)] = 10``. NaN, infinity and whole
numbers beyond 64 bits are refused even without any.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from tokengroups.reading import shown

_MOST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Between:
    """Range of a number, or of the length of a tuple; both ends belong to it unless they are open."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, number: Any) -> bool:
        """True for numbers inside."""
        above = number > self.low if self.open_low else number >= self.low
        return bool(above and (number < self.high if self.open_high else number <= self.high))

    def __str__(self) -> str:
        low, high = f"{self.low:,}", f"{self.high:,}"
        if not (self.open_low or self.open_high):
            return f"from {low} to {high}"
        return f"{'above' if self.open_low else 'at least'} {low} and {'below' if self.open_high else 'at most'} {high}"


Count = Annotated[int, Between(1, 10**9)]
CountOrZero = Annotated[int, Between(0, 10**9)]
NumFrames = Annotated[int, Between(1, 1000)]
Small = Annotated[int, Between(1, 256)]
Layers = Annotated[int, Between(0, 256)]
Channels = Annotated[int, Between(1, 16_384)]
ChannelsOrNone = Annotated[int, Between(0, 16_384)]
Seed = Annotated[int, Between(0, _MOST_INTEGER)]
Share = Annotated[float, Between(0, 1)]
Weight = Annotated[float, Between(0, 10**6)]  # of a loss or a term
Positive = Annotated[float, Between(0, 10**6, open_low=True)]
ShDegree = Annotated[int, Between(0, 3)]
Std = Annotated[float, Between(1e-6, 10**6)]


class Settings:
    """Base of dataclasses of settings: one made with a value outside its bounds raises `ValueError`.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import Annotated
        >>> from tokengroups.bounds import Between, Settings
        >>> @dataclass(frozen=True)
        ... class Blur(Settings):
        ...     radius_px: Annotated[float, Between(0, 9)] = 1.0
        >>> Blur(radius_px=float("nan"))
        Traceback (most recent call last):
        ValueError: radius_px must be a finite number from 0 to 9, got nan
    """

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # pyright: ignore
        for name, fault in faults(type(self), values):
            raise ValueError(f"{name} {fault}")


def faults(cls: type, values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names of values outside the bounds of a dataclass, each with what it must be.

    Unknown names are passed over. Values of nested dataclasses are mappings; finished ones were checked when made.
    """
    hints = field_hints(cls)
    for name, value in values.items():
        if name not in hints:
            continue
        child = dataclass_in(hints[name])
        if child is not None and isinstance(value, Mapping):
            yield from faults(child, value, f"{prefix}{name}.")
        elif (fault := _fault(hints[name], value)) is not None:
            yield f"{prefix}{name}", fault


@cache
def field_hints(cls: type) -> dict[str, Any]:
    """Types of the fields that a dataclass is made with, bounds included."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def dataclass_in(hint: Any) -> type | None:
    """The dataclass that a field holds, or may hold beside None."""
    options = [hint, *get_args(hint)] if get_origin(hint) is not tuple else []
    return next((option for option in options if isinstance(option, type) and is_dataclass(option)), None)


def _fault(hint: Any, value: Any, bounds: Between | None = None) -> str | None:
    """What a value must be, and is not; None for types that have no bounds."""
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        bounds = next((extra for extra in extras if isinstance(extra, Between)), bounds)
    if get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return _fault(options[0], value) if value is not None and len(options) == 1 else None
    if get_origin(hint) is tuple:
        return _tuple_fault(get_args(hint), value, bounds)
    if hint not in (int, float):
        return None
    possible = _is_whole(value) if hint is int else _is_finite(value)
    if possible and (bounds is None or bounds.holds(value)):
        return None
    wanted = "a whole number" if hint is int else "a finite number"
    return f"must be {wanted}{'' if bounds is None else f' {bounds}'}, got {shown(repr(value))}"


def _tuple_fault(items: tuple[Any, ...], value: Any, bounds: Between | None) -> str | None:
    if not isinstance(value, (list, tuple)):
        return None
    if bounds is not None and not bounds.holds(len(value)):
        return f"must have {bounds} entries, got {len(value)}"
    hints = items[:1] * len(value) if items[1:] == (...,) else items
    found = (_fault(hint, entry) for hint, entry in zip(hints, value, strict=False))
    return next((f"entries {fault}" for fault in found if fault is not None), None)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) <= _MOST_INTEGER


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False
