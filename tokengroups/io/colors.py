"""Colours as people write them."""

from __future__ import annotations

import re

from PIL import ImageColor

from tokengroups.errors import UserError
from tokengroups.reading import shown

_DIGITS = re.compile(r"#?([0-9a-f]{3}|[0-9a-f]{6})", re.ASCII)
_TRIPLE = re.compile(r"(\d{1,3}),(\d{1,3}),(\d{1,3})", re.ASCII)


def parse_color(text: str, where: str) -> tuple[int, int, int]:
    """Read an opaque colour, 8 bits a channel.

    Args:
        text: A name of CSS, hexadecimal digits (``#rgb`` or ``#rrggbb``, the # may be left out: shells take it for a
            comment), or red, green and blue from 0 to 255 with commas between. Case and spaces do not matter.
        where: What the colour is for; the message begins with it.

    Raises:
        UserError: It is none of these.

    Example:
        >>> from tokengroups.io.colors import parse_color
        >>> parse_color("Light Grey", "--background"), parse_color("f80", "--background")
        ((211, 211, 211), (255, 136, 0))
    """
    word = "".join(text.casefold().split())
    if triple := _TRIPLE.fullmatch(word):
        values = [int(value) for value in triple.groups()]
    elif word in ImageColor.colormap:
        values = ImageColor.getrgb(word)
    elif digits := _DIGITS.fullmatch(word):
        values = ImageColor.getrgb(f"#{digits[1]}")
    else:
        values = ()
    if len(values) != 3 or max(values) > 255:
        raise UserError(
            f"{where} {shown(text)}: give a name such as white, #rrggbb, #rgb, or red,green,blue from 0 to 255"
        )
    red, green, blue = values
    return red, green, blue
