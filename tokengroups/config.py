"""Strict configuration: frozen dataclasses filled from YAML files and ``a.b=value`` overrides.

The dataclass beside the class that it configures is the only source of defaults. A file lists the differences and may
include other files. A key that no dataclass has is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import dacite
import yaml

from tokengroups.errors import UserError
from tokengroups.reading import read_text

C = TypeVar("C")


class _Loader(yaml.SafeLoader):
    """YAML in which ``1e-3`` is a number (YAML 1.1 wants ``1.0e-3``) and repeated keys are refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing repeated keys."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is repeated", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not valid YAML ({reason}); correct the file") from None


def read_yaml(path: str | Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file that holds one mapping, and merge it into the files that it includes.

    The key ``include`` names one file or a list of files, relative to the file that names them. Mappings are merged key
    by key. Of several values for one key, a later file's replaces an earlier one's, and the file's own replaces both.
    `including` are the files whose includes led to this one.

    Raises:
        UserError: A file is missing, unreadable, not YAML, not a mapping, or includes itself.
    """
    path = Path(path)
    chain = (*including, path)
    values = _read_mapping(path, including)  # a file, so that its path can be resolved
    if path.resolve() in [earlier.resolve() for earlier in including]:
        raise UserError(f"{including[0]}: {' includes '.join(map(str, chain))}; remove one of these includes")
    names = values.pop("include", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: 'include' must be the name of a file or a list of them, got {names!r}")
    merged: dict[str, Any] = {}
    for name in names:
        merged = _merge(merged, read_yaml(path.parent / name, chain))
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
    text = read_text(path, f"{including[-1]} includes it" if including else "give a YAML file, e.g. one of configs/")
    values = _parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a configuration is a mapping of names to values, not a {type(values).__name__}")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of nested `values` with each ``a.b=value`` applied; the values are parsed as YAML.

    Raises:
        UserError: An override has no ``=`` or goes through something that is not a mapping.
    """
    result = dict(values)
    for override in overrides:
        name, equals, text = override.partition("=")
        keys = name.strip().split(".")
        if not equals or not all(keys):
            raise UserError(f"override '{override}' is not of the form key=value (nested: a.b=value)")
        node = result
        for depth, key in enumerate(keys[:-1]):
            child = node.get(key, {})
            if not isinstance(child, Mapping):
                raise UserError(f"override '{override}': '{'.'.join(keys[: depth + 1])}' has no keys below it")
            node[key] = dict(child)
            node = node[key]
        node[keys[-1]] = _parse_yaml(text, f"override '{override}'")
    return result


def build_config(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Build the dataclass `cls` from nested plain values.

    Fields may be dataclasses, tuples, Literal, optional or plain scalars; messages name the source `where`.

    Raises:
        UserError: Unknown key (with the nearest known one), missing key, wrong type, or a value that the
            dataclass itself refuses with ValueError.

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
    _check_names(cls, values, where, ())
    hooks = {float: _as_float, int: _as_int}
    try:
        return dacite.from_dict(cls, dict(values), dacite.Config(strict=True, cast=[tuple], type_hooks=hooks))
    except dacite.MissingValueError as error:
        raise UserError(f"{where}: the key '{error.field_path}' is missing; give it a value") from None
    except dacite.WrongTypeError as error:
        wanted = str(getattr(error.field_type, "__name__", error.field_type)).replace("typing.", "")
        wanted = str(error.field_type).replace("typing.", "") if get_args(error.field_type) else wanted
        found = f"{error.value!r} ({type(error.value).__name__})"
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
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else _as_int(value)


def _as_int(value: Any) -> Any:
    # bool is an int to Python; as text it fails dacite's check.
    return str(value) if isinstance(value, bool) else value


def _dataclass_in(hint: Any) -> type | None:
    options = [hint, *get_args(hint)] if get_origin(hint) is not tuple else []
    return next((option for option in options if dataclasses.is_dataclass(option)), None)  # pyright: ignore


def _check_names(cls: type, values: Mapping[str, Any], where: str, prefix: tuple[str, ...]) -> None:
    """Refuse unknown keys, and scalars where a mapping or a list belongs, anywhere in `values`."""
    hints = {f.name: get_type_hints(cls)[f.name] for f in dataclasses.fields(cls) if f.init}
    for key, value in values.items():
        name = ".".join((*prefix, str(key)))
        if key not in hints:
            raise UserError(f"{where}: unknown key '{name}'; {_nearest(str(key), list(hints))}")
        child = _dataclass_in(hints[key])
        if child is not None and isinstance(value, Mapping):
            _check_names(child, value, where, (*prefix, key))
        elif child is not None and value is not None:
            raise UserError(f"{where}: the key '{name}' must be a mapping of names to values, got {value!r}")
        if get_origin(hints[key]) is tuple and not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: the key '{name}' must be a list, got {value!r}")


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known keys here: {', '.join(sorted(known))}"
