"""A length that is known: the distance between the surface points behind two pixels of the photos."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.io.images import Photo, Photos
    from tokengroups.postprocess import Reconstruction

_FORM = "U,V U,V METRES, or PHOTO:U,V in place of U,V"
CLOSEST_PX = 2.0  # pixels of the model's image: depth of neighbours says nothing about their distance
Pixel = tuple[str | None, float, float]  # photo's name (None: the first), x and y in the upright photo
Place = tuple[int, float, float]  # view, and x and y in the model's image


@dataclass(frozen=True)
class KnownLength:
    """A distance between the surface points behind two pixels."""

    first: Pixel
    second: Pixel
    metres: float


def add_length_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--scale-between``."""
    scale_help = """scale the scene so that the points behind two pixels of the first photo, or of photos named, are so
        far apart"""
    parser.add_argument("--scale-between", nargs=3, action=_Length, metavar=("U,V", "U,V", "METRES"), help=scale_help)


class _Length(argparse.Action):
    """Parses two pixels and a length."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:  # noqa: ARG002
        """Set the `KnownLength`."""
        setattr(namespace, self.dest, parse_length(values))


def parse_length(words: Sequence[str]) -> KnownLength:
    """Read ``--scale-between``.

    Raises:
        UserError: Other words than two pixels and a length.
    """
    first, second, metres = _pixel(words[0]), _pixel(words[1]), _number(words[2])
    if first is None or second is None or metres is None or not 0 < metres < 1e6 or first == second:
        raise UserError(f"--scale-between {shown(' '.join(words))}: give {_FORM}, such as 120,340 410,338 2.05")
    return KnownLength(first, second, metres)


def _pixel(word: str) -> Pixel | None:
    name, _, place = word.rpartition(":")
    numbers = [_number(part) for part in place.split(",")]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return None
    return name or None, numbers[0], numbers[1]


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def find_places(photos: Photos, known: KnownLength | None) -> list[Place]:
    """Places of a length's two pixels among the photos; none without a length.

    Raises:
        UserError: No photo of that name, no such pixel, or two that are nearly the same.
    """
    if known is None:
        return []
    places = [_place(photos, known.first), _place(photos, known.second)]
    if places[0][0] == places[1][0] and math.dist(places[0][1:], places[1][1:]) < CLOSEST_PX:
        raise UserError(f"--scale-between: the scene has less than {CLOSEST_PX:g} pixels between them; choose others")
    return places


def apply_length(
    made: Reconstruction, kept: Sequence[int], known: KnownLength | None, places: list[Place]
) -> Reconstruction:
    """Scale a reconstruction so that the length is right; the unit becomes the metre. None = no length is known.

    Args:
        made: The reconstruction.
        kept: Indices of its photos among those that the places are in.
        known: The length.
        places: Of its two pixels.

    Raises:
        UserError: One of the photos was left out, depth is unknown there, or both pixels are one point.
    """
    from tokengroups.systems import distance_between, scaled

    if known is None:
        return made
    if any(view not in kept for view, _, _ in places):
        raise UserError("--scale-between: its photo does not fit the others and is left out; choose pixels of another")
    first, second = ((kept.index(view), x, y) for view, x, y in places)
    distance = distance_between(made, first, second)
    if not 0 < distance < math.inf:
        raise UserError("--scale-between: depth is unknown at one of the pixels, or both are one point; choose others")
    factor = known.metres / distance
    made = scaled(made, factor, "metre")
    fact = {"pixels": [known.first, known.second], "metres": known.metres, "factor": float(f"{factor:.6g}")}
    provenance = {**made.scene.provenance, "scale_between": fact}
    return replace(made, scene=replace(made.scene, provenance=provenance))


def _place(photos: Photos, pixel: Pixel) -> Place:
    """View and pixel of the model's image for a pixel of a photo."""
    import numpy as np

    name, x, y = pixel
    views = [view for view, photo in enumerate(photos.photos) if name in (None, *_names(photo))]
    if not views or (name is not None and len(views) > 1):
        what = "is no photo of the scene" if not views else "are several photos"
        raise UserError(f"--scale-between {shown(name)}: {what}; give the name of one")
    photo = photos.photos[views[0]]
    height, width = photo.size_hw
    column, row, _ = np.linalg.solve(photo.photo_from_model, [x, y, 1.0]).tolist()
    tall, wide = photos.images.shape[-2:]
    if not (0 <= x < width and 0 <= y < height and 0 <= column < wide and 0 <= row < tall):
        size = f"{photo.path.name} has {width}x{height} pixels"
        raise UserError(f"--scale-between {x:g},{y:g}: the scene shows no such pixel; {shown(size)}")
    return views[0], column, row


def _names(photo: Photo) -> tuple[str, str]:
    return photo.path.name, photo.path.stem
