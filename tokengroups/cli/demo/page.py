"""The page that `tokengroups demo` writes: typed content to one HTML text, without network or scripts."""

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
    """A heading, an explanation, pictures, and the commands that made them."""

    title: str
    text: str
    pictures: Sequence[Picture] = ()
    commands: Sequence[str] = ()
    size_px: int = 220  # smallest width of a picture
    columns: int | None = None  # None = as many as fit
    link: str = ""  # path of a file to open, relative to the page; "" = none
    link_text: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()  # columns that are set as numbers


@dataclass(frozen=True)
class Section:
    """One card of the page, with a link in the bar at the top."""

    anchor: str
    title: str
    text: str
    galleries: Sequence[Gallery] = ()
    tables: Sequence[Table] = ()


def build_page(sections: Sequence[Section]) -> str:
    """Fill the template, which escapes all texts."""
    loader = PackageLoader("tokengroups.cli.demo", "")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html").render(sections=sections)
