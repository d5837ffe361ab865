"""Camera paths as JSON, which the viewer's page writes. CONVENTIONS.md defines the format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tokengroups.errors import UserError
from tokengroups.io.cameras import parse_camera, same_size
from tokengroups.io.posed_cameras import CameraSet, number
from tokengroups.reading import malformed, read_json, shown
from tokengroups.types import Cameras

FORMAT, VERSION = "tokengroups.path", 1
MAX_VIEWPOINTS = 10_000
MIN_SECONDS, MAX_SECONDS = 0.01, 3600.0
_KEYS = {"format", "version", "seconds", "closed", "viewpoints"}
_ADVICE = f'give {{"format": "{FORMAT}", "version": {VERSION}, "seconds": 6, "closed": false, "viewpoints": [...]}}'


@dataclass(frozen=True)
class CameraPath:
    """Viewpoints of a film, in the scene's world."""

    viewpoints: Cameras  # batch axis V, float64
    seconds: float  # from the first viewpoint to the last one, or back to the first
    closed: bool  # it goes on to the first viewpoint


def is_camera_path(content: Any) -> bool:
    """Tell whether the content of a JSON file is meant as a camera path."""
    return isinstance(content, dict) and ("viewpoints" in content or content.get("format") == FORMAT)


def load_camera_path(path: str | os.PathLike[str]) -> CameraPath:
    """Read a camera path.

    Raises:
        UserError: Unreadable, another format or version, an unknown or missing key, no viewpoint or too many of them,
            one that is no camera (the line has its number, from 0), or viewpoints of different sizes.
    """
    content = read_json(path, _ADVICE)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{shown(path)}: not a camera path; {_ADVICE}")
    if content.get("version") != VERSION:
        version = shown(repr(content.get("version")))
        raise UserError(f"{shown(path)}: version {version} of {FORMAT}; this program reads version {VERSION}")
    odd = sorted(_KEYS ^ content.keys())
    if odd:
        state = "lacks" if odd[0] in _KEYS else "has an unknown key"
        raise UserError(f"{shown(path)}: {state} {shown(repr(odd[0]))}; {_ADVICE}")
    seconds, closed = _timing(path, content)
    entries = content["viewpoints"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_VIEWPOINTS:
        raise UserError(f"{shown(path)}: expected a list of 1 to {MAX_VIEWPOINTS:,} viewpoints; {_ADVICE}")
    found = [parse_camera(f"{shown(path)}: viewpoint {index}", entry) for index, entry in enumerate(entries)]
    return CameraPath(same_size(path, CameraSet(tuple(found))), seconds, closed)


def _timing(path: str | os.PathLike[str], content: dict[str, Any]) -> tuple[float, bool]:
    with malformed(path, _ADVICE):
        seconds, closed = number(content["seconds"]), content["closed"]
        if not isinstance(closed, bool):
            raise TypeError(f"closed {shown(repr(closed))} is neither true nor false")
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise UserError(f"{shown(path)}: seconds {seconds:g}; choose {MIN_SECONDS:g} to {MAX_SECONDS:g}")
    return seconds, closed
