"""Unposed photos of a room in, an editable 3D scene of token groups out.

The public names are those of ``__init__.pyi``. Each is loaded at first use: `import tokengroups` takes no time.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
