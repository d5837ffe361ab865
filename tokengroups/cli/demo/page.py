"""The page that `tokengroups demo` writes: typed content in, one HTML string out; no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader


@dataclass(frozen=True)
class Picture:
    """An image file beside the page."""

    source: str  # path relative to the page
    title: str
    caption: str = ""
    colour: str = ""  # CSS colour of a chip before the title; "" = no chip


@dataclass(frozen=True)
class Gallery:
    """A heading, what to see, the commands that made it and the pictures."""

    title: str
    text: str
    pictures: Sequence[Picture] = ()
    commands: Sequence[str] = ()
    size_px: int = 220  # smallest width of a picture
    columns: int | None = None  # None = as many as fit


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()  # columns that are set as numbers


@dataclass(frozen=True)
class Section:
    """One card of the page, reachable from the bar at the top."""

    anchor: str
    link: str
    title: str
    text: str
    galleries: Sequence[Gallery] = ()
    tables: Sequence[Table] = ()


def build_page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """Fill the template. All texts are plain text; the template escapes them."""
    loader = PackageLoader("tokengroups.cli.demo", "")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("page.html")
    return template.render(title=title, lead=lead, sections=sections, footer=footer)
