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
    "maths", "packed", "sort", "pick", "view", "edits", "gizmo", "objects", "dom", "shaders", "renderer", "controls",
    "panel", "editor", "overlay", "commands", "app", "start",
)  # fmt: skip  # each after those that it imports
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:\{[^}]*\};\n|(?=\w))", re.MULTILINE)


def page_html(packed: bytes, title: str) -> str:
    """Write the page of a packed scene, complete: style, scripts and data.

    Args:
        packed: As `tokengroups.viewer.pack_scene` makes it.
        title: Any text.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.viewer import pack_scene, page_html
        >>> page = page_html(pack_scene(tg.example_scene()).data, "a <small> scene")
        >>> page[:15], "<title>a &lt;small&gt; scene</title>" in page
        ('<!doctype html>', True)
    """
    script, style = bundle(), (_ASSETS / "style.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; worker-src blob:; "
        "img-src data: blob:"
    )
    data = base64.b64encode(gzip.compress(packed, 9, mtime=0)).decode()  # letters that no HTML parser reads as a tag
    template = Template((_ASSETS / "page.html").read_text(encoding="utf-8"))
    return template.substitute(title=html.escape(title), policy=policy, style=style, scene=data, script=script)


def bundle() -> str:
    """All scripts as one module: without imports and exports of each other, each after those that it imports."""
    parts = []
    for name in _MODULES:
        source = (_ASSETS / f"{name}.js").read_text(encoding="utf-8")
        parts.append(_EXPORT.sub("", _IMPORT.sub("", source)))
    script = "\n".join(parts)
    assert "</script" not in script.lower() and "<!--" not in script  # would end the element, or hide its end
    return script


def _digest(text: str) -> str:
    """Source expression of a policy that allows this inline text, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
