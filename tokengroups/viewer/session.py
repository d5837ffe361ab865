"""Editing sessions: a scene, its edits with undo and redo, and their equal command line. No server."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokengroups.editing import Edit, EmbedText, describe, names_only, parse_words, script_content
from tokengroups.errors import UserError
from tokengroups.io.files import check_scene_name
from tokengroups.reading import path_kind, shown
from tokengroups.scene import WRITERS, export_groups, export_scene, load_scene, save_scene
from tokengroups.scene.exporting import export_places
from tokengroups.types import TokenScene

_RECENT = 16  # all scenes after so many last edits are kept; of older ones fewer, because a large scene takes 100 MB

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
    source_key: str = field(default_factory=lambda: secrets.token_hex(8))  # another one whenever the file is read
    scenes: Mapping[int, TokenScene] = field(default_factory=dict, repr=False)  # some, by the number of steps before

    @property
    def scene(self) -> TokenScene:
        """The scene after all edits."""
        return self.scenes[len(self.steps)] if self.steps else self.first

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
        return self._with((*self.steps, step), (), scene)

    def undo(self, version: int | None = None) -> Session:
        """Take the last edit back; `UserError` if there is none, `StaleVersion` as in `edit`."""
        self.check(version)
        if not self.steps:
            raise UserError("nothing to undo")
        return self._with(self.steps[:-1], (*self.undone, self.steps[-1]))

    def redo(self, version: int | None = None) -> Session:
        """Apply the edit that was undone last; `UserError` if there is none, `StaleVersion` as in `edit`."""
        self.check(version)
        if not self.undone:
            raise UserError("nothing to redo")
        step = self.undone[-1]
        return self._with((*self.steps, step), self.undone[:-1])

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
            UserError: It cannot be written, or it would replace the scene's own file.
        """
        self.check(version)
        path = Path(path)
        exported = groups or path.suffix.lower() in WRITERS
        for place in export_places(self.scene, path, groups=groups) if exported else [path]:
            if _same_file(place, self.source):  # whoever applies the edits to it would apply them twice
                raise UserError(f"{shown(place)} is the open scene, to which the edits apply; give another name")
        if path_kind(path) == ("folder" if groups else "file") and not replace_file:
            raise FileExists(f"{shown(path)} exists; give another name, or say that it may be replaced")
        if exported:
            return export_groups(self.scene, path) if groups else export_scene(self.scene, path)
        save_scene(check_scene_name(path), self.scene)
        return [path]

    def check(self, version: int | None) -> None:
        """Refuse what was meant for another version, by `StaleVersion`; None = the present one."""
        if version is not None and version != self.version:
            raise StaleVersion(version, self.version)

    def _with(self, steps: tuple[Step, ...], undone: tuple[Step, ...], edited: TokenScene | None = None) -> Session:
        """The session of other steps; the scene after them is made from the last one that is kept, unless given."""
        scenes = {number: scene for number, scene in self.scenes.items() if number <= len(steps)}
        if edited is not None:
            scenes[len(steps)] = edited
        last = max(scenes, default=0)
        scene = scenes.get(last, self.first)
        for number, step in enumerate(steps[last:], start=last + 1):
            scenes[number] = scene = step.apply(scene)
        kept = {number: scenes[number] for number in scenes if number % _spacing(len(steps) - number) == 0}
        return replace(self, steps=steps, undone=undone, scenes=kept, version=self.version + 1)


def open_session(path: str | os.PathLike[str]) -> Session:
    """Read a scene to edit it; errors as in `tokengroups.load_scene`."""
    mark = _mark(path)
    return Session(load_scene(path), os.fspath(path), mark=mark)


def _spacing(age: int) -> int:
    """Distance between kept scenes so many steps ago: 1 for the last ones, then 2, 4, ..., doubled as the age is."""
    return 1 << (age // _RECENT).bit_length()


def _same_file(path: Path, source: str) -> bool:
    """Tell whether both name one file, links followed; it may be missing."""
    try:
        return os.path.samefile(path, source)
    except (OSError, ValueError):
        return path_kind(path) == "missing" and os.path.realpath(path) == os.path.realpath(source)


def _mark(path: str | os.PathLike[str]) -> FileMark:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
