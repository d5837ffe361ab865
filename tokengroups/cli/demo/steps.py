"""Steps of `tokengroups demo` in each room: write photos, then run the commands that a user would type."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokengroups.cli import text
from tokengroups.cli.main import main
from tokengroups.data.base import open_dataset
from tokengroups.errors import UserError
from tokengroups.evaluation.phrases import PHRASES
from tokengroups.geometry import relative_cameras
from tokengroups.io.cameras import save_cameras
from tokengroups.io.files import make_folder
from tokengroups.io.pictures import save_color
from tokengroups.scene import load_scene
from tokengroups.types import Cameras, SceneFrames

# An object, as opposed to a wall or the floor: seen, but not everywhere, and much smaller than the room.
MIN_SHARE, MAX_SHARE, MAX_RELATIVE_SIZE = 0.005, 0.3, 0.5
NUM_QUERIES = 3
STEP = 0.6  # how far the demo moves an object, in its own widths


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
        """The scene file that the photos become."""
        return self.folder / "scene.safetensors"


@dataclass(frozen=True)
class Reconstructed:
    """A room after `reconstruct` and `list`."""

    room: Room
    groups: list[dict[str, Any]]  # as `list --json` prints them, most visible first
    objects: list[dict[str, Any]]  # those that look like objects
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Edit:
    """One edited copy of a scene."""

    title: str
    caption: str
    picture: Path
    command: str


@dataclass(frozen=True)
class Answer:
    """The group that a text found first."""

    text: str
    thing: str  # class of the object in the room that it describes
    group: int
    probability: float
    picture: Path
    command: str


@dataclass(frozen=True)
class Finished:
    """A room after all commands."""

    made: Reconstructed
    render_commands: tuple[str, ...]
    answers: tuple[Answer, ...]  # empty for weights without semantics
    edits: tuple[Edit, ...]
    export_command: str


def run_command(*words: object) -> str:
    """Show a command line and run it in this process, exactly as if it had been typed; returns the line.

    Raises:
        SystemExit: It failed, and has said why.
    """
    arguments = [str(word) for word in words]
    line = shlex.join(["tokengroups", *arguments])
    print(f"$ {line}", flush=True)
    code = main(arguments)
    if code:
        raise SystemExit(code)
    return line


def read_json(*words: object) -> Any:
    """What a command with ``--json`` prints."""
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        code = main([*map(str, words), "--json"])
    if code:
        raise SystemExit(code)
    return json.loads(answer.getvalue())


def make_room(folder: Path, number: int, seed: int, num_views: int, size: int) -> Room:
    """Generate a held-out room and write its context photos, without cameras, and its target photos."""
    if (folder / "truth").is_dir():  # of an earlier demo: nothing of it may show up in this one
        shutil.rmtree(folder)
    options = {"seeds": [seed], "num_rooms": number}
    rooms = open_dataset("procedural", num_frames=2 * num_views + 1, size=size, options=options)
    frames = rooms[rooms.splits["test"][number - 1]][:]
    count = len(frames.images)
    room = Room(number, folder, frames, tuple(range(1, count, 2)), tuple(range(0, count, 2)))
    for name, chosen in (("photos", room.context), ("truth", room.targets)):
        pictures = make_folder(folder / name)
        for index, frame in enumerate(chosen):
            image = torch.from_numpy(frames.images[frame].copy()).float() / 255
            save_color(pictures / f"{index:03d}.png", image)
    return room


def reconstruct_room(room: Room, weights: str | None) -> Reconstructed:
    """Photos to a scene, and the list of its groups."""
    options = ("--weights", weights) if weights else ()
    commands = (
        run_command("reconstruct", room.folder / "photos", "-o", room.scene, *options),
        run_command("list", room.scene, "--thumbnails", room.folder / "groups"),
    )
    groups = read_json("list", room.scene)  # most visible first
    return Reconstructed(room, groups, likely_objects(groups), commands)


def likely_objects(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups that look like objects, compact and visible ones first; all but the most visible one if none does."""
    longest = max(max(group["size"]) for group in groups)
    objects = [
        group
        for group in groups
        if MIN_SHARE <= group["visible_share"] <= MAX_SHARE and max(group["size"]) <= MAX_RELATIVE_SIZE * longest
    ]
    objects.sort(key=lambda group: -group["visible_share"] / max(group["size"]))
    return objects or list(groups[1:] or groups)


def finish_room(made: Reconstructed, donor: Reconstructed, scale: float) -> Finished:
    """Render, edit and export.

    Args:
        made: The room.
        donor: Another room, whose first object is inserted.
        scale: Scene units per metre, from the evaluation: it places the true target cameras in the scene.
    """
    room = made.room
    cameras = save_target_cameras(room, scale)
    what = ("--what", "color,groups")
    renders = (
        run_command("render", room.scene, "--camera", "context:0", "-o", room.folder / "context", *what),
        run_command("render", room.scene, "--camera", cameras, "-o", room.folder / "novel", *what),
    )
    ply = room.folder / "scene.ply"
    answers = query_room(room)
    edits = edit_room(made, donor)
    export = run_command("export", room.scene, "-o", ply, "--groups", room.folder / "ply")
    return Finished(made, renders, answers, edits, export)


def query_room(room: Room) -> tuple[Answer, ...]:
    """Ask for the most visible kinds of objects, if the weights know meanings and their text encoder is there."""
    semantics = load_scene(room.scene).semantics
    if semantics is None:
        return ()
    try:
        text.load_encoder_for(semantics.encoder)
    except UserError as error:
        print(f"note: nothing is asked in words: {error}", file=sys.stderr)
        return ()
    answers = []
    for number, (thing, phrase) in enumerate(descriptions(room.frames, room.context), 1):
        pictures = room.folder / f"query_{number}"
        words = "query", room.scene, phrase, "--top", 1, "--render", pictures
        command = run_command(*words)
        (best,) = read_json(*words)["matches"]
        answers.append(Answer(phrase, thing, best["id"], best["probability"], Path(best["picture"]), command))
    return tuple(answers)


def descriptions(frames: SceneFrames, photos: Sequence[int]) -> list[tuple[str, str]]:
    """The kinds of objects that fill most of the photos, with a description of each that training never saw."""
    counts: Counter[str] = Counter()
    for instance, pixels in zip(*np.unique(frames.group_ids[list(photos)], return_counts=True), strict=True):
        name = frames.instance_classes.get(int(instance), "")
        if any(name in classes for classes in PHRASES.values()):
            counts[name] += int(pixels)
    things = [name for name, _ in counts.most_common(NUM_QUERIES)]
    return [(name, next(phrase for phrase, classes in PHRASES.items() if name in classes)) for name in things]


def save_target_cameras(room: Room, scale: float) -> Path:
    """The true target cameras in the world of the scene: that of the first photo, times one scale."""
    poses = torch.from_numpy(room.frames.cam_from_world)
    targets = list(room.targets)
    relative = relative_cameras(poses[targets], poses[room.context[0]], poses.new_tensor(scale))
    intrinsics = torch.from_numpy(room.frames.intrinsics)[targets]
    height, width = room.frames.images.shape[1:3]
    path = room.folder / "targets.json"
    save_cameras(path, Cameras(relative, intrinsics, (height, width)))
    return path


def edit_room(made: Reconstructed, donor: Reconstructed) -> tuple[Edit, ...]:
    """Remove one object, move another, and put one of another room into the place of the removed one."""
    room = made.room
    removed, moved = made.objects[0], made.objects[min(1, len(made.objects) - 1)]
    guest = donor.objects[0]
    shift = STEP * moved["size"][0] * (-1 if moved["centre"][0] > 0 else 1)
    insertion = ("insert", f"{donor.room.scene}:{guest['id']}", "--at", *(f"{x:.3f}" for x in removed["centre"]))
    return (
        _edit(room, "removed", f"group {removed['id']} is gone", "remove", removed["id"]),
        _edit(room, "moved", f"group {moved['id']} shifted sideways", "move", moved["id"], f"{shift:.3f}", 0, 0),
        _edit(
            room,
            "inserted",
            f"group {guest['id']} of room {donor.room.number} in the place of group {removed['id']}",
            *("remove", removed["id"], *insertion),
        ),
    )


def _edit(room: Room, name: str, caption: str, *operations: object) -> Edit:
    pictures = room.folder / name
    output = room.folder / f"{name}.safetensors"
    command = run_command("edit", room.scene, *operations, "-o", output, "--render", pictures)
    return Edit(name.capitalize(), caption, pictures / "after_000.png", command)
