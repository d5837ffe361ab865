"""The page that `tokengroups demo` writes: typed content in, one HTML string out; no network, no script."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources


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
    """Fill the template. All texts are plain text and escaped here."""
    template = resources.files("tokengroups.cli").joinpath("demo_page.html").read_text(encoding="utf-8")
    return string.Template(template).substitute(
        title=escape(title),
        lead=escape(lead),
        links="".join(f'<a href="#{section.anchor}">{escape(section.link)}</a>' for section in sections),
        sections="\n".join(_section(section) for section in sections),
        footer=escape(footer),
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", _paragraph(section.text)]
    parts += [_gallery(gallery) for gallery in section.galleries]
    parts += [_table(table) for table in section.tables]
    return f'<section id="{section.anchor}">\n' + "\n".join(parts) + "\n</section>"


def _gallery(gallery: Gallery) -> str:
    parts = [f"<h3>{escape(gallery.title)}</h3>", _paragraph(gallery.text)]
    if gallery.commands:
        parts.append(f"<pre><code>{chr(10).join(map(_command, gallery.commands))}</code></pre>")
    if gallery.pictures:
        figures = "".join(_figure(picture) for picture in gallery.pictures)
        columns = f"; max-width: 760px; grid-template-columns: repeat({gallery.columns}, 1fr)" * bool(
            gallery.columns
        )
        parts.append(f'<div class="grid" style="--size: {gallery.size_px}px{columns}">{figures}</div>')
    return "\n".join(parts)


def _command(line: str) -> str:
    """Lines break between words only, never after the hyphens of an option."""
    return " ".join(f"<span>{escape(word)}</span>" for word in line.split(" "))


def _figure(picture: Picture) -> str:
    chip = f'<span class="chip" style="background: {escape(picture.colour)}"></span>' * bool(picture.colour)
    caption = f"<br>{escape(picture.caption)}" if picture.caption else ""
    return (
        f'<figure><img src="{escape(picture.source)}" alt="{escape(picture.title)}" loading="lazy">'
        f"<figcaption>{chip}<b>{escape(picture.title)}</b>{caption}</figcaption></figure>\n"
    )


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        marks = ['class="number"' if i in table.numbers else "" for i in range(len(cells))]
        columns = (f"<{tag} {mark}>{escape(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))
        return f"<tr>{''.join(columns)}</tr>"

    body = "\n".join(row(cells, "td") for cells in table.rows)
    return f'<div class="scroll"><table>{row(table.header, "th")}\n{body}</table></div>'


def _paragraph(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>' if text else ""
