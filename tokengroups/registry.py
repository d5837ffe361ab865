"""Names for interchangeable parts: a short built-in name, or ``package.module:Class`` for one's own.

A part of one's own needs no entry anywhere: its import path is its name.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from tokengroups.errors import UserError


def resolve(name: str, builtin: Mapping[str, str], kind: str, *, typed: bool = True) -> Any:
    """Import the class that a name stands for.

    Args:
        name: A key of `builtin`, or ``package.module:Class``. Modules in the working folder are found too.
        builtin: Import path of every built-in class, by its short name.
        kind: What it is, for messages ("step", "data set", ...).
        typed: Whether the user typed the name. A name that a file brought along never makes this process import a
            module of somebody else's choice: its module must be imported already.

    Raises:
        UserError: There is no such class.

    Example:
        >>> from tokengroups.registry import resolve
        >>> resolve("steps", {"steps": "tokengroups.postprocess:STEPS"}, "table")["flip_ensemble"]
        'tokengroups.postprocess.flip_ensemble:FlipEnsemble'
        >>> resolve("datetime:date", {}, "class").__name__
        'date'
    """
    path = builtin.get(name, name)
    if ":" not in path:
        choice = f"choose from {', '.join(builtin)}, or " if builtin else ""
        raise UserError(f"no {kind} '{name}'; {choice}give package.module:Class")
    module, _, attribute = path.partition(":")
    if name not in builtin and not typed and module not in sys.modules:
        raise UserError(
            f"a file asks for the {kind} '{name}'; if you trust it, import {module} first, on the command line with: "
            f"tokengroups --plugin {module} COMMAND"
        )
    if name not in builtin:
        _search_working_folder()
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if not _is_missing(module, error):
            raise
        raise UserError(f"no {kind} '{name}': there is no module {module}") from error
    except AttributeError as error:
        raise UserError(f"no {kind} '{name}': {module} has no {attribute}") from error


def import_plugin(module: str) -> None:
    """Import a module of the user's, so that weight folders may name its classes.

    Raises:
        UserError: There is no such module.
    """
    _search_working_folder()
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not _is_missing(module, error):
            raise
        raise UserError(f"--plugin {module}: there is no such module here or in the environment") from error


def _search_working_folder() -> None:
    """An installed command does not look there by itself."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _is_missing(module: str, error: ModuleNotFoundError) -> bool:
    """Whether the module itself is missing, not one that it imports."""
    return error.name is not None and (module == error.name or module.startswith(f"{error.name}."))
