"""Scenes in notebooks: the page of a scene in a frame of its own."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.io.files import check_writable, write_text
from tokengroups.reading import shown
from tokengroups.scene import load_scene
from tokengroups.types import TokenScene
from tokengroups.viewer.pack import pack_scene
from tokengroups.viewer.page import page_html

# The page runs its scripts, saves files and copies its command line; the notebook around it is out of its reach.
_ALLOWED = 'sandbox="allow-scripts allow-downloads" allow="clipboard-write"'


@dataclass(frozen=True)
class View:
    """The page of a scene, which notebooks show in their output."""

    page: str = field(repr=False)  # HTML, complete
    height: int = 480  # CSS pixels; the width is that of the output

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, as ``tokengroups view --html`` does; returns the file.

        Raises:
            UserError: The name does not end in .html, or the file cannot be written.
        """
        path = check_page_name(path)
        write_text(path, self.page)
        return path

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 0; display: block"
        return f'<iframe srcdoc="{html.escape(self.page)}" {_ALLOWED} style="{style}"></iframe>'


def view(
    scene: TokenScene | str | os.PathLike[str],
    height: int = 480,
    *,
    title: str | None = None,
    max_gaussians: int | None = None,
) -> View:
    """Show a scene in a notebook: turn around, click its groups, move them.

    The output holds the page of ``tokengroups view --html``, complete, so that it works without a kernel. It makes the
    notebook larger by about 25 bytes for each Gaussian.

    Args:
        scene: A scene, or the path of a scene file.
        height: CSS pixels.
        title: Text that the page shows; None: the name of the file.
        max_gaussians: Leave out the faintest and smallest beyond this number, by opacity times area; None keeps all.

    Raises:
        TypeError: Neither a scene nor a path.
        UserError: The file cannot be read, or there are more groups than the page shows.
        ValueError: The scene is inconsistent, empty, or holds NaN; a height or number below 1.

    Example:
        >>> import tokengroups as tg
        >>> shown = tg.view(tg.example_scene(), height=300)
        >>> shown
        View(height=300)
        >>> shown._repr_html_()[:37]
        '<iframe srcdoc="&lt;!doctype html&gt;'
    """
    if not isinstance(scene, TokenScene | str | os.PathLike):
        raise TypeError(f"give a scene, or the path of a scene file, got {type(scene).__name__}")
    if height < 1 or (max_gaussians is not None and max_gaussians < 1):
        raise ValueError("height and max_gaussians must be at least 1")
    if not isinstance(scene, TokenScene):
        title = Path(scene).stem if title is None else title
        scene = load_scene(scene)
    title = title or "scene"
    return View(page_html(pack_scene(scene.to("cpu"), title, max_gaussians).data, title), height)


def check_page_name(path: str | os.PathLike[str]) -> Path:
    """Refuse a file that no page can be written to."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{shown(path)}: give a file name that ends in .html")
    return check_writable(path)
