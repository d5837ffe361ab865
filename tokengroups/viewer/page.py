"""One HTML file that shows a packed scene without server or network. Standard library only."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from pathlib import Path
from string import Template

_ASSETS = Path(__file__).parent / "assets"
_MODULES = (
    "maths", "packed", "sort", "pick", "view", "parts", "edits", "gizmo", "objects", "dom", "renderer", "controls",
    "panel", "link", "editor", "overlay", "commands", "app", "start",
)  # fmt: skip  # each after those that it imports
_QUICK = 1  # of gzip's levels: a server is near
_SHADERS = ("splat.vert", "splat.frag", "copy.vert", "copy.frag")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:\{[^}]*\};\n|(?=\w))", re.MULTILINE)


def page_html(packed: bytes, title: str, version: int | None = None) -> str:
    """Write the page of a packed scene, complete: style, scripts and data.

    Args:
        packed: As `tokengroups.viewer.pack_scene` makes it.
        title: Any text.
        version: Of the scene, on the page that a server sends, which may ask it for more; None = offline.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.viewer import pack_scene, page_html
        >>> page = page_html(pack_scene(tg.example_scene()).data, "a <small> scene")
        >>> page[:15], "<title>a &lt;small&gt; scene</title>" in page
        ('<!doctype html>', True)
    """
    script, style = bundle(), _asset("style.css")
    asking = "" if version is None else "; connect-src 'self'"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; worker-src blob:; "
        f"img-src data: blob:{asking}"
    )
    shaders = "".join(f'<script type="x-shader" id="{name}">{_asset(name)}</script>' for name in _SHADERS)
    level = 9 if version is None else _QUICK
    zipped = gzip.compress(packed, level, mtime=0)
    data = base64.b64encode(zipped).decode()  # letters that no HTML parser reads as a tag
    return Template(_asset("page.html")).substitute(
        title=html.escape(title), policy=policy, style=style, scene=data, shaders=shaders, script=script,
        version="" if version is None else version,
    )  # fmt: skip


def bundle() -> str:
    """All scripts as one module: without imports and exports of each other, each after those that it imports."""
    parts = []
    for name in _MODULES:
        parts.append(_EXPORT.sub("", _IMPORT.sub("", _asset(f"{name}.js"))))
    script = "\n".join(parts)
    assert "</script" not in script.lower() and "<!--" not in script  # would end the element, or hide its end
    return script


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Source expression of a policy that allows this inline text, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
