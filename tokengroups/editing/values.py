"""Numbers, vectors and groups that edits are given, of Python, NumPy or torch, and what edits record of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.types import TokenScene

Selector = Any  # a group: its id, a whole number of Python, NumPy or torch; or its name
Number = Any  # of Python, NumPy or torch
Vector = Any  # three such numbers in a sequence, an array or a tensor

_EXACT_INTEGERS = 2**53  # a float holds all up to here


def check_number(value: Number, what: str, *, positive: bool = False) -> int | float:
    """A finite number of Python; if asked for, one above 0.

    Raises:
        UserError: NaN, infinity, 0 or less, a truth value, a text, or no number at all.
    """
    plain = _scalar(value)
    if not isinstance(plain, (bool, str, bytes)):
        try:
            number = plain if type(plain) is int and abs(plain) < _EXACT_INTEGERS else float(plain)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            number = math.nan
        if math.isfinite(number) and (number > 0 or not positive):
            return number
    wanted = "positive and finite" if positive else "a finite number"
    raise UserError(f"{what} must be {wanted}, got {shown(repr(value))}")


def check_numbers(values: Vector, what: str) -> list[float]:
    """Three finite numbers of Python; errors as in `check_vector`."""
    try:
        numbers = [float(check_number(value, what)) for value in islice(values, 4)]
    except (TypeError, UserError):
        numbers = []
    if len(numbers) != 3:
        raise UserError(f"the {what} must be three finite numbers, got {shown(repr(values))}")
    return numbers


def check_vector(scene: TokenScene, values: Vector, what: str) -> Tensor:
    """Check a vector of the scene's world and make it a tensor of the scene's type.

    Raises:
        UserError: It is not three numbers that are finite in that type.
    """
    vector = scene.anchors.new_tensor(check_numbers(values, what))
    if not bool(vector.isfinite().all()):
        raise UserError(f"the {what} must be three finite numbers, got {shown(repr(values))}")
    return vector


def read_group(value: Selector) -> int | str:
    """An id or a text of Python.

    Raises:
        UserError: Neither.
    """
    if isinstance(value, str):
        try:
            return parse_group(value)
        except ValueError as error:
            raise UserError(str(error)) from None
    plain = _scalar(value)
    if not isinstance(plain, bool):
        try:
            return operator.index(plain)
        except TypeError:
            pass
    raise UserError(f"a group is given by its id, a whole number, or by its name, got {shown(repr(value))}")


def read_groups(values: Selector | Iterable[Selector]) -> list[int | str]:
    """One group or several, in their order; errors as in `read_group`."""
    several = not isinstance(values, (str, bytes, Mapping)) and isinstance(values, Iterable)
    if several and getattr(values, "ndim", 1) > 0:
        return [read_group(value) for value in values]
    return [read_group(values)]


def parse_group(word: str) -> int | str:
    """Read a group: an id, or a text, which is whatever is no number and no option; else ValueError.

    Python's further numbers, such as ``1_0`` and digits of other scripts, are texts: groups may have such names.
    """
    numbers = (int, float) if word.isascii() and "_" not in word else ()
    for number in numbers:
        try:
            value = number(word)
        except ValueError:
            continue
        if isinstance(value, int):
            return value
        break
    else:
        text = " ".join(word.split())
        if text and not text.startswith("-"):
            return text
    raise ValueError(f"'{shown(word)}' is neither a group id nor a text")


def to_json(value: Any) -> Any:
    """The same content in types that JSON has."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_json(content) for key, content in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(content) for content in value]
    return str(value) if isinstance(value, Path) else value


def _scalar(value: Any) -> Any:
    """A NumPy or torch number as one of Python; other values as they are."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0:
        return value.item()
    return value
