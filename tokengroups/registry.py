"""Names of interchangeable parts: a short built-in name, or the import path ``package.module:Class``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tokengroups.errors import UserError
from tokengroups.reading import shown


def resolve(name: str, builtin: Mapping[str, str], kind: str, *, typed: bool = True) -> Any:
    """Import the class that a name stands for.

    Args:
        name: A key of `builtin`, or ``package.module:Class``. Modules in the working folder are found too.
        builtin: Import path of every built-in class, by its short name.
        kind: "step", "data set", ...; for messages.
        typed: The user typed the name. A name from a file never makes this process import a module of somebody
            else's choice: its module must be imported already.

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
        raise UserError(f"no {kind} '{shown(name)}'; {choice}give package.module:Class")
    module, _, attribute = path.partition(":")
    if name not in builtin and not typed and module not in sys.modules:
        cure = f"import {shown(module)} first, on the command line with: tokengroups --plugin {shown(module)} COMMAND"
        raise UserError(f"a file asks for the {kind} '{shown(name)}'; if you trust it, {cure}")
    if name not in builtin:
        _search_working_folder()
    imported = _import(module, f"no {kind} '{shown(name)}': there is no module {shown(module)}")
    if not hasattr(imported, attribute):
        raise UserError(f"no {kind} '{shown(name)}': {module} has no {shown(attribute)}")
    return getattr(imported, attribute)


def import_plugin(module: str) -> None:
    """Import a module of the user's, so that weight folders may name its classes.

    Raises:
        UserError: There is no such module.
    """
    _search_working_folder()
    _import(module, f"--plugin {shown(module)}: there is no such module here or in the environment")


def _search_working_folder() -> None:
    """Let modules in the working folder be found; an installed command does not look there by itself."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _import(module: str, message: str) -> ModuleType:
    """Import a module; if it is missing itself, not one that it imports, raise a UserError with the message."""
    if not all(part.isidentifier() for part in module.split(".")):
        raise UserError(message)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise UserError(message) from error
