"""Rooms of `tokengroups demo`: write their photos, then run the commands that a user would type."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokengroups.cli import text
from tokengroups.cli.demo.workplace import later_name
from tokengroups.cli.main import main
from tokengroups.cli.output import note, save_pictures, say
from tokengroups.data.base import open_dataset
from tokengroups.errors import UserError
from tokengroups.evaluation.phrases import PHRASES
from tokengroups.scene import load_scene
from tokengroups.types import SceneFrames

# An object, unlike a wall or the floor, is visible in a part of the photos, and much smaller than the room.
MIN_SHARE, MAX_SHARE, MAX_RELATIVE_SIZE = 0.005, 0.3, 0.5
NUM_QUERIES = 3


@dataclass(frozen=True)
class Room:
    """A held-out room and its folder of the demo."""

    number: int
    folder: Path
    frames: SceneFrames
    context: tuple[int, ...]  # frames whose photos are given to the model
    targets: tuple[int, ...]  # frames that are rendered and compared

    @property
    def scene(self) -> Path:
        """Scene file that is made of the photos."""
        return self.folder / "scene.safetensors"


@dataclass(frozen=True)
class Reconstructed:
    """A room after `reconstruct` and `list`."""

    room: Room
    groups: list[dict[str, Any]]  # as `list --json` prints them, most visible first
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The first group that a query found."""

    text: str
    thing: str  # class of the object in the room that it describes
    group: int
    probability: float
    picture: Path
    command: str


def run_command(*words: object) -> str:
    """Print a command line and run it in this process, as if it had been typed; returns the line.

    Raises:
        SystemExit: The command failed, and has printed the reason.
    """
    line = shlex.join(["tokengroups", *map(later_name, words)])
    say(f"$ {line}")
    code = main([str(word) for word in words])
    if code:
        raise SystemExit(code)
    return line


def read_json(*words: object) -> Any:
    """Run a command with ``--json`` and parse its output."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = main([*map(str, words), "--json"])
    if code:
        raise SystemExit(code)
    return json.loads(output.getvalue())


def make_room(folder: Path, number: int, seed: int, num_views: int, size: int) -> Room:
    """Generate a held-out room and write its context photos, without cameras, and its target photos."""
    options = {"seeds": [seed], "num_rooms": number}
    rooms = open_dataset("procedural", num_frames=2 * num_views + 1, size=size, options=options)
    frames = rooms[rooms.splits["test"][number - 1]][:]
    count = len(frames.images)
    room = Room(number, folder, frames, tuple(range(1, count, 2)), tuple(range(0, count, 2)))
    images = torch.from_numpy(frames.images.copy()).float() / 255
    for name, chosen in (("photos", room.context), ("truth", room.targets)):
        save_pictures(folder / name, ((f"{index:03d}", images[frame]) for index, frame in enumerate(chosen)))
    return room


def reconstruct_room(room: Room, *options: str) -> Reconstructed:
    """Reconstruct the photos, all of one room, with further options of that command, and list the groups."""
    commands = (
        run_command("reconstruct", room.folder / "photos", "-o", room.scene, "--keep-all", *options),
        run_command("list", room.scene, "--thumbnails", room.folder / "groups"),
    )
    return Reconstructed(room, read_json("list", room.scene), commands)


def likely_objects(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose the groups that look like objects, compact and visible ones first; else all but the first."""
    longest = max(max(group["size"]) for group in groups)
    objects = [
        group
        for group in groups
        if MIN_SHARE <= group["visible_share"] <= MAX_SHARE and max(group["size"]) <= MAX_RELATIVE_SIZE * longest
    ]
    objects.sort(key=lambda group: -group["visible_share"] / max(group["size"]))
    return objects or list(groups[1:] or groups)


def query_room(room: Room) -> tuple[Answer, ...]:
    """Query descriptions of the most visible objects; none without semantics or without their text encoder."""
    semantics = load_scene(room.scene).semantics
    if semantics is None:
        return ()
    try:
        text.load_encoder_for(semantics.encoder)
    except UserError as error:
        note(f"nothing is queried: {error}")
        return ()
    answers = []
    for number, (thing, phrase) in enumerate(_descriptions(room.frames, room.context), 1):
        words = ("query", room.scene, phrase, "--top", 1, "--render", room.folder / f"query_{number}")
        command = run_command(*words)
        (best,) = read_json(*words)["matches"]
        answers.append(Answer(phrase, thing, best["id"], best["probability"], Path(best["picture"]), command))
    return tuple(answers)


def _descriptions(frames: SceneFrames, photos: Sequence[int]) -> list[tuple[str, str]]:
    """Find the classes of objects that fill most of the photos; each with a description that no training used."""
    counts: Counter[str] = Counter()
    for instance, pixels in zip(*np.unique(frames.group_ids[list(photos)], return_counts=True), strict=True):
        name = frames.instance_classes.get(int(instance), "")
        if any(name in classes for classes in PHRASES.values()):
            counts[name] += int(pixels)
    things = [name for name, _ in counts.most_common(NUM_QUERIES)]
    return [(name, next(phrase for phrase, classes in PHRASES.items() if name in classes)) for name in things]
