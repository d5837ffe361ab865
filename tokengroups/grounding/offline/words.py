"""Words of sentences about things in a room."""

from __future__ import annotations

import re
from typing import Literal

Relation = Literal["on", "inside", "next to", "near", "left of", "right of", "in front of", "behind", "above", "below"]
Measure = Literal["size", "height", "top", "length", "width", "brightness", "bearing", "distance"]

# What orders things, and whether its largest value comes first.
SUPERLATIVES: dict[str, tuple[Measure, bool]] = {
    **dict.fromkeys(("largest", "biggest", "greatest"), ("size", True)),
    **dict.fromkeys(("smallest", "littlest", "tiniest"), ("size", False)),
    "tallest": ("height", True),
    "shortest": ("height", False),
    **dict.fromkeys(("highest", "topmost"), ("top", True)),
    "lowest": ("top", False),
    "longest": ("length", True),
    **dict.fromkeys(("widest", "broadest"), ("width", True)),
    "narrowest": ("width", False),
    **dict.fromkeys(("brightest", "lightest"), ("brightness", True)),
    "darkest": ("brightness", False),
    "leftmost": ("bearing", False),
    "rightmost": ("bearing", True),
    **dict.fromkeys(("nearest", "closest"), ("distance", False)),
    **dict.fromkeys(("farthest", "furthest"), ("distance", True)),
}
POSITIVES = {  # "the big box" of several is the biggest one
    **dict.fromkeys(("big", "large", "huge"), "largest"),
    **dict.fromkeys(("small", "little", "tiny"), "smallest"),
    "tall": "tallest",
    "left": "leftmost",
    "right": "rightmost",
}
RELATIONS: dict[str, Relation] = {
    **dict.fromkeys(("on", "on top of", "upon"), "on"),
    **dict.fromkeys(("in", "inside", "inside of", "within"), "inside"),
    **dict.fromkeys(("next to", "beside", "by", "alongside", "adjacent to"), "next to"),
    **dict.fromkeys(("near", "near to", "close to"), "near"),
    **dict.fromkeys(("left of", "to the left of", "on the left of", "on the left side of"), "left of"),
    **dict.fromkeys(("right of", "to the right of", "on the right of", "on the right side of"), "right of"),
    "in front of": "in front of",
    "behind": "behind",
    **dict.fromkeys(("above", "over"), "above"),
    **dict.fromkeys(("under", "underneath", "below", "beneath"), "below"),
}
SIDES = {  # "the second chair from the left"
    **dict.fromkeys(("from the left", "on the left", "to the left"), "leftmost"),
    **dict.fromkeys(("from the right", "on the right", "to the right"), "rightmost"),
}
MARKERS = sorted((tuple(marker.split()) for marker in [*RELATIONS, *SIDES]), key=len, reverse=True)
DETERMINERS = frozenset("the a an all any some every each both this these those my our".split())
_PLACES_IN_ORDER = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
ORDINALS = {word: place for place, word in enumerate(_PLACES_IN_ORDER, start=1)}
NUMBERS = {word: value for value, word in enumerate("two three four five six seven eight nine ten".split(), start=2)}
GENERIC = frozenset("everything anything something thing object item stuff one".split())  # singular, any group
PLACES = frozenset("room scene house flat apartment picture photo image view".split())  # "in the room" says nothing
OPENINGS = frozenset("which what where find show select pick choose get give list me please can you see".split())
FILLERS = frozenset(
    "is are was were that which there standing lying located placed hanging sitting resting situated positioned".split()
)
# Words that change what the rest means: whoever ignores them is wrong.
UNSUPPORTED = frozenset(
    "not no without except but other than and or nor if neither between more less most least with of from to who whose "
    "until only never dont doesnt isnt arent".split()
)
COLORS = frozenset(
    "red orange yellow green cyan turquoise blue purple violet pink magenta brown beige black white grey gray".split()
)
_NUMBERED = re.compile(r"(\d{1,4})(?:st|nd|rd|th)")
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


def words_of(text: str) -> tuple[str, ...]:
    """Words in lower case, without punctuation."""
    return tuple(word.replace("'", "") for word in _WORD.findall(text.replace("\u2019", "'").casefold()))


def singular(word: str) -> str:
    """A noun's singular, roughly; the same for what is compared with it."""
    for ending, replacement in (("ies", "y"), ("ves", "f")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + replacement
    if word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


def ordinal(word: str) -> int | None:
    """Place that an ordinal such as "second" or "2nd" names."""
    numbered = _NUMBERED.fullmatch(word)
    return ORDINALS.get(word) if numbered is None else int(numbered[1])
