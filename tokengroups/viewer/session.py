"""Editing sessions: a scene, its edits with undo and redo, and their equal command line. No server."""

from __future__ import annotations

import os
import shlex
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokengroups.editing import Edit, EmbedText, describe, names_only, parse_words, script_content
from tokengroups.errors import UserError
from tokengroups.io.files import check_scene_name
from tokengroups.reading import path_kind, shown
from tokengroups.scene import WRITERS, export_groups, export_scene, load_scene, save_scene
from tokengroups.types import TokenScene

_KEPT = 16  # scenes before the last edits; earlier ones are made anew, because a large scene takes 100 MB

FileMark = tuple[int, int, int] | None  # when a file was changed, its size and its place on the disk; None = no file


class StaleVersion(UserError):
    """An edit or a save of a scene that has changed meanwhile; `version` is the present one, to choose again with."""

    def __init__(self, given: int, version: int) -> None:
        super().__init__(
            f"the scene has changed: this was for version {given}, and it is now version {version}; look at it anew, "
            f"or do the same with version {version}"
        )
        self.version = version


class FileExists(UserError):
    """A file that would be replaced, though nobody has said that it may be."""


@dataclass(frozen=True)
class Step:
    """What is done and undone at once: one edit, or several."""

    words: tuple[tuple[str, ...], ...]  # of the command line, edit by edit
    edits: tuple[Edit, ...]  # with ids instead of texts, and with the scene that a group comes from
    done: str  # what they did

    def apply(self, scene: TokenScene) -> TokenScene:
        """Apply the edits, which must fit."""
        for edit in self.edits:
            scene = edit.apply(scene)
        return scene


@dataclass(frozen=True)
class Session:
    """A scene that is being edited; immutable: edit, undo and redo return the session after it.

    Undo and redo have no limit. The same edits give the same scene, whatever was undone in between.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.viewer import Session
        >>> session = Session(tg.example_scene(), "room.safetensors").edit(["remove", "box"]).edit(["scale", "3", "2"])
        >>> session.version, session.command("new.safetensors")
        (2, 'tokengroups edit room.safetensors remove box scale 3 2 -o new.safetensors')
        >>> session.undo().undo().scene.group_names
        ('floor', 'box', 'ball')
    """

    first: TokenScene  # before all edits
    source: str  # its file, for the command line
    steps: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()  # what redo does, the next one last
    version: int = 0  # grows with every change, undo and redo included
    mark: FileMark = None  # of the file when it was read
    recent: tuple[TokenScene, ...] = field(default=(), repr=False)  # after each of the last steps

    @property
    def scene(self) -> TokenScene:
        """The scene after all edits."""
        return self.recent[-1] if self.recent else self.first

    def edit(self, *edits: Any, version: int | None = None, embed: EmbedText = names_only) -> Session:
        """Apply edits, as one step for undo; what was undone cannot be redone any more.

        Args:
            edits: Each the words of a command line, as in ``["move", "3", "0.4", "0", "0"]``; another program may have
                sent them.
            version: That the edit was made for; None = the present one.
            embed: Text encoder for groups that are described by other texts than their names.

        Raises:
            StaleVersion: The session has another version.
            UserError: The command line would refuse one of the edits, or there is none.
        """
        self.check(version)
        if not edits:
            raise UserError("no edit in this step")
        scene, resolved, done = self.scene, [], []
        for words in edits:
            edit = parse_words(words).resolve(scene, embed)
            edited = edit.apply(scene)
            done.append(describe(edit, scene, edited))
            resolved.append(edit)
            scene = edited
        step = Step(tuple(map(tuple, edits)), tuple(resolved), "; ".join(done))
        return self._with((*self.steps, step), (), (*self.recent, scene))

    def undo(self, version: int | None = None) -> Session:
        """Take the last edit back; `UserError` if there is none, `StaleVersion` as in `edit`."""
        self.check(version)
        if not self.steps:
            raise UserError("nothing to undo")
        steps, recent = self.steps[:-1], self.recent[:-1]
        if steps and not recent:
            recent = _apply(self.first, steps)
        return self._with(steps, (*self.undone, self.steps[-1]), recent)

    def redo(self, version: int | None = None) -> Session:
        """Apply the edit that was undone last; `UserError` if there is none, `StaleVersion` as in `edit`."""
        self.check(version)
        if not self.undone:
            raise UserError("nothing to redo")
        step = self.undone[-1]
        return self._with((*self.steps, step), self.undone[:-1], (*self.recent, step.apply(self.scene)))

    def command(self, output: str) -> str:
        """The command line that makes the scene of this session from its file; "" without edits."""
        words = [word for step in self.steps for edit in step.words for word in edit]
        source = f"./{self.source}" if self.source.startswith("-") else self.source  # no option
        return shlex.join(["tokengroups", "edit", source, *words, "-o", output]) if words else ""

    def script(self) -> dict[str, Any]:
        """The edits as content of a file for ``tokengroups edit --script``."""
        return script_content([words for step in self.steps for words in step.words])

    def file_changed(self) -> bool:
        """Tell whether somebody has replaced or removed the scene's file since it was read."""
        return self.mark is not None and _mark(self.source) != self.mark

    def save(
        self,
        path: str | os.PathLike[str],
        version: int | None = None,
        *,
        replace_file: bool = False,
        groups: bool = False,
    ) -> list[Path]:
        """Write the scene, as a scene file, or as .ply, .spz or .glb with what belongs beside it; returns the files.

        Args:
            path: The file, or with `groups` the folder of one PLY file per group.
            version: As in `edit`.
            replace_file: An existing file may be replaced.
            groups: Write the groups' files.

        Raises:
            FileExists: There is such a file, and nobody has said that it may be replaced.
            StaleVersion: The session has another version.
            UserError: It cannot be written.
        """
        self.check(version)
        path = Path(path)
        if path_kind(path) == ("folder" if groups else "file") and not replace_file:
            raise FileExists(f"{shown(path)} exists; give another name, or say that it may be replaced")
        if groups:
            return export_groups(self.scene, path)
        if path.suffix.lower() in WRITERS:
            return export_scene(self.scene, path)
        save_scene(check_scene_name(path), self.scene)
        return [path]

    def check(self, version: int | None) -> None:
        """Refuse what was meant for another version, by `StaleVersion`; None = the present one."""
        if version is not None and version != self.version:
            raise StaleVersion(version, self.version)

    def _with(self, steps: tuple[Step, ...], undone: tuple[Step, ...], recent: tuple[TokenScene, ...]) -> Session:
        return replace(self, steps=steps, undone=undone, recent=recent[-_KEPT:], version=self.version + 1)


def open_session(path: str | os.PathLike[str]) -> Session:
    """Read a scene to edit it; errors as in `tokengroups.load_scene`."""
    mark = _mark(path)
    return Session(load_scene(path), os.fspath(path), mark=mark)


def _apply(scene: TokenScene, steps: Sequence[Step]) -> tuple[TokenScene, ...]:
    """Scenes after the last of some steps."""
    scenes = deque([scene], maxlen=_KEPT)
    for step in steps:
        scenes.append(step.apply(scenes[-1]))
    return tuple(scenes)[-len(steps) :]


def _mark(path: str | os.PathLike[str]) -> FileMark:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
