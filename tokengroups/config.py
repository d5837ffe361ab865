"""Strict configuration: frozen dataclasses filled from YAML files and ``a.b=value`` overrides.

The dataclass beside the class that it configures is the only source of defaults. A file lists the differences and may
include other files. A key that no dataclass has is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import dacite

from tokengroups.bounds import dataclass_in, faults, field_hints
from tokengroups.errors import UserError
from tokengroups.plain_yaml import check_plain, parse_yaml
from tokengroups.reading import malformed, read_text, shown

_LARGEST_FILE = 2**20  # bytes
_MOST_FILES = 100  # that one file includes, directly and indirectly
C = TypeVar("C")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping, and merge it into the files that it includes.

    The key ``include`` names one file or a list of files, relative to the file that names them. Mappings are merged key
    by key. Of several values for one key, a later file's replaces an earlier one's, and the file's own replaces both.

    Raises:
        UserError: A file is missing, unreadable, too large, no mapping of plain YAML values, or includes itself.
    """
    return _read_merged(Path(path), (), [])


def _read_merged(path: Path, including: tuple[Path, ...], read: list[Path]) -> dict[str, Any]:
    """Read a file to which the includes of `including` led; `read` are all files so far."""
    chain, where = (*including, path), shown(path)
    values = _read_mapping(path, including)  # refuses names that no file can have
    if os.path.realpath(path) in map(os.path.realpath, including):
        raise UserError(f"{shown(including[0])}: {' includes '.join(map(shown, chain))}; remove one of these includes")
    read.append(path)
    if len(read) > _MOST_FILES:
        raise UserError(f"{shown(including[0])}: includes more than {_MOST_FILES} files; include fewer")
    names = values.pop("include", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: 'include' must be the name of a file or a list of them, got {shown(repr(names))}")
    merged: dict[str, Any] = {}
    for name in names:
        merged = _merge(merged, _read_merged(path.parent / name, chain, read))
    return _merge(merged, values)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; `changes` wins."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _read_mapping(path: Path, including: Sequence[Path]) -> dict[str, Any]:
    advice = f"{shown(including[-1])} includes it" if including else "give a YAML file, e.g. one of configs/"
    values = parse_yaml(read_text(path, advice, _LARGEST_FILE), str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(
            f"{shown(path)}: a configuration is a mapping of names to values, not a {type(values).__name__}"
        )
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of nested `values` with each ``a.b=value`` applied; the values are parsed as YAML.

    Raises:
        UserError: An override has no ``=``, goes through something that is not a mapping, or has no plain value.
    """
    result = dict(values)
    for override in overrides:
        name, equals, text = override.partition("=")
        keys, where = name.strip().split("."), f"override '{shown(override)}'"
        if not equals or not all(keys):
            raise UserError(f"{where} is not of the form key=value (nested: a.b=value)")
        node = result
        for depth, key in enumerate(keys[:-1]):
            child = node.get(key, {})
            if not isinstance(child, Mapping):
                raise UserError(f"{where}: '{shown('.'.join(keys[: depth + 1]))}' has no keys below it")
            node[key] = dict(child)
            node = node[key]
        node[keys[-1]] = parse_yaml(text, where)
        check_plain(result, where)
    return result


def build_config(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Build the dataclass `cls` from nested plain values.

    Fields may be dataclasses, tuples, Literal, optional or plain scalars; messages name the source `where`.

    Raises:
        UserError: Unknown key (with the nearest known one), missing key, wrong type, a value outside its bounds (see
            `tokengroups.bounds`), or one that the dataclass itself refuses with ValueError.

    Example:
        >>> from dataclasses import dataclass
        >>> from tokengroups.config import build_config
        >>> @dataclass(frozen=True)
        ... class Settings:
        ...     steps: int = 10
        >>> build_config(Settings, {"steps": 3}, "an example").steps
        3
        >>> build_config(Settings, {"step": 3}, "an example")
        Traceback (most recent call last):
        tokengroups.errors.UserError: ...
    """
    where = shown(where)
    with malformed(where, "correct it"):
        _check_names(cls, values, where, "")
        for name, fault in faults(cls, values):
            raise UserError(f"{where}: the key '{name}' {fault}")
        return _build(cls, values, where)


def _build(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    try:
        return dacite.from_dict(cls, dict(values), dacite.Config(strict=True, cast=[tuple], type_hooks=_HOOKS))
    except dacite.MissingValueError as error:
        raise UserError(f"{where}: the key '{error.field_path}' is missing; give it a value") from None
    except dacite.WrongTypeError as error:
        wanted = str(getattr(error.field_type, "__name__", error.field_type)).replace("typing.", "")
        wanted = str(error.field_type).replace("typing.", "") if get_args(error.field_type) else wanted
        if get_origin(error.field_type) is Literal:
            wanted = f"one of {', '.join(map(str, get_args(error.field_type)))}"
        found = f"{shown(repr(error.value))} ({type(error.value).__name__})"
        raise UserError(f"{where}: the key '{error.field_path}' must be {wanted}, got {found}") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def config_to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values (tuples become lists) of a dataclass instance: the inverse of `build_config`."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value

    return plain(dataclasses.asdict(config))


def _as_float(value: Any) -> Any:
    # bool is an int to Python; as text it fails dacite's check.
    return str(value) if isinstance(value, bool) else float(value) if isinstance(value, int) else value


_HOOKS = {float: _as_float}


def _check_names(cls: type, values: Mapping[str, Any], where: str, prefix: str) -> None:
    """Refuse unknown keys, and scalars where a mapping or a list belongs, anywhere in `values`."""
    hints = field_hints(cls)
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise UserError(f"{where}: unknown key '{shown(name)}'; {_nearest(str(key)[:50], list(hints))}")
        child = dataclass_in(hints[key])
        if child is not None and isinstance(value, Mapping):
            _check_names(child, value, where, f"{name}.")
        elif child is not None and value is not None:
            raise UserError(f"{where}: the key '{name}' must be a mapping of names to values, got {shown(repr(value))}")
        if _is_tuple(hints[key]) and not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: the key '{name}' must be a list, got {shown(repr(value))}")


def _is_tuple(hint: Any) -> bool:
    return tuple in (get_origin(hint), *map(get_origin, get_args(hint)[:1]))


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known keys here: {', '.join(sorted(known))}"
