"""Colours as people write them, against the tables of CSS."""

from __future__ import annotations

import pytest

from tokengroups.errors import UserError
from tokengroups.io.colors import parse_color


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("black", (0, 0, 0)),
        ("White", (255, 255, 255)),
        ("light grey", (211, 211, 211)),
        ("LightGray", (211, 211, 211)),
        ("rebeccapurple", (102, 51, 153)),
        ("#f80", (255, 136, 0)),
        ("#FF8800", (255, 136, 0)),
        ("ff8800", (255, 136, 0)),
        (" 1, 20 ,255", (1, 20, 255)),
    ],
)
def test_colours_have_many_spellings(text: str, color: tuple[int, int, int]) -> None:
    assert parse_color(text, "--background") == color


@pytest.mark.parametrize(
    "text",
    ["", "blueish", "#12345g", "#1234", "#11223344", "256,0,0", "1,2", "1,2,3,4", "-1,0,0", "0.5,0,0", "rgb(300,0,0)",
     "٣,٣,٣", "#٣٣٣", "\udc80", "x" * 10_000],
)  # fmt: skip
def test_what_is_no_colour_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(
        UserError, match="^--background .*: give a name such as white, #rrggbb, #rgb, or red,green,blue"
    ):
        parse_color(text, "--background")
