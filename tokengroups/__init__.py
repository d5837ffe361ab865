"""Unposed photos of a room in, an editable 3D scene of token groups out.

The public names below are loaded at first use, so that `import tokengroups` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Cameras": "tokengroups.types",
    "Gaussians": "tokengroups.types",
    "TokenScene": "tokengroups.types",
    "UserError": "tokengroups.errors",
    "load_model": "tokengroups.systems",
    "load_photos": "tokengroups.io.images",
    "load_scene": "tokengroups.scene",
    "save_scene": "tokengroups.scene",
    "render_views": "tokengroups.scene",
    "remove": "tokengroups.editing",
    "keep": "tokengroups.editing",
    "move": "tokengroups.editing",
    "rotate": "tokengroups.editing",
    "scale": "tokengroups.editing",
    "duplicate": "tokengroups.editing",
    "insert": "tokengroups.editing",
}

__all__ = [
    "Cameras",
    "Gaussians",
    "TokenScene",
    "UserError",
    "__version__",
    "duplicate",
    "insert",
    "keep",
    "load_model",
    "load_photos",
    "load_scene",
    "move",
    "remove",
    "render_views",
    "rotate",
    "save_scene",
    "scale",
]

if TYPE_CHECKING:
    from tokengroups.editing import duplicate, insert, keep, move, remove, rotate, scale
    from tokengroups.errors import UserError
    from tokengroups.io.images import load_photos
    from tokengroups.scene import load_scene, render_views, save_scene
    from tokengroups.systems import load_model
    from tokengroups.types import Cameras, Gaussians, TokenScene


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tokengroups' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
