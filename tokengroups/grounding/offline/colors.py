"""Names for a group's mean colour, generous at their borders: photos have shades and casts."""

from __future__ import annotations

import colorsys

_BLACK, _WHITE = 0.25, 0.7  # of the largest channel
_GREY, _VIVID = 0.2, 0.12  # saturation: below the first a colour may be grey, above the second it has a hue
_HUES = (  # degrees, first and last
    ("red", 340, 378), ("orange", 12, 48), ("yellow", 40, 75), ("green", 65, 170), ("cyan", 160, 200),
    ("turquoise", 160, 200), ("blue", 190, 262), ("purple", 250, 300), ("violet", 250, 300), ("pink", 290, 348),
    ("magenta", 285, 330),
)  # fmt: skip


def color_names(color: tuple[int, int, int]) -> frozenset[str]:
    """Words that fit a colour of 8 bits a channel.

    Example:
        >>> from tokengroups.grounding.offline.colors import color_names
        >>> sorted(color_names((200, 40, 30))), sorted(color_names((90, 60, 30)))
        (['red'], ['brown', 'orange'])
    """
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    degrees, names = 360 * hue, set()
    if value < _BLACK:
        names.add("black")
    if saturation < _GREY:
        names |= {"grey", "gray"} if value < 0.9 else set()
        names |= {"white"} if value > _WHITE else set()
    if saturation > _VIVID and value > _BLACK / 2:
        names |= {name for name, low, high in _HUES if low <= degrees <= high or low <= degrees + 360 <= high}
        names |= {"brown"} if 5 <= degrees <= 48 and value < 0.7 else set()
        names |= {"beige"} if 20 <= degrees <= 65 and saturation < 0.45 and value > 0.55 else set()
        names |= {"pink"} if (degrees <= 20 or degrees >= 320) and saturation < 0.6 and value > 0.65 else set()
    return frozenset(names)
