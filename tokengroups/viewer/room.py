"""What browsers ask of a scene that they share, and the answers: no network here. docs/view.md has the protocol."""

from __future__ import annotations

import gzip
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.viewer.looks import Looks, look
from tokengroups.viewer.pack import pack_scene
from tokengroups.viewer.page import page_html
from tokengroups.viewer.session import FileExists, Session, StaleVersion, open_session

EDITED = "edited.safetensors"  # the file in the command line that is shown
_QUICK = 1  # of gzip's levels: the network is near


@dataclass(frozen=True)
class Answer:
    """Answer to one request."""

    body: bytes
    status: int = 200  # of HTTP
    kind: str = "application/json"
    zipped: bool = False


class Room:
    """A scene that several browsers look at and edit. One request at a time.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.viewer import Session
        >>> from tokengroups.viewer.room import Room
        >>> room = Room(Session(tg.example_scene(), "room.safetensors"))
        >>> room.post("/edit", b'{"edits": [["remove", "box"]], "version": 0}').status
        200
        >>> room.version, room.post("/edit", b'{"edits": [["remove", "ball"]], "version": 0}').status
        (1, 409)
    """

    def __init__(self, session: Session, max_gaussians: int | None = None, looks: Looks | None = None) -> None:
        self.session = session
        self.looks = looks or look(session.scene)
        self.title = Path(session.source).stem
        self.max_gaussians = max_gaussians
        self.source = _mark()  # of what was read from the file: another one after each time
        self._packed: tuple[int, bytes] = (-1, b"")  # version, and the scene of it
        self._gets = {"/": self._page, "/scene": self._scene, "/state": self._state, "/script": self._script}
        self._posts: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "/edit": self._edit, "/undo": self._undo, "/redo": self._redo, "/save": self._save, "/reload": self._reload,
        }  # fmt: skip
        self._pack()  # so that the first answer is quick, and what cannot be shown is refused at once

    @property
    def version(self) -> int:
        """Version of the scene; grows with every change."""
        return self.session.version

    @property
    def paths(self) -> tuple[list[str], list[str]]:
        """Paths that can be read, and those to which something can be sent."""
        return list(self._gets), list(self._posts)

    def get(self, path: str) -> Answer:
        """Answer a question; it changes nothing."""
        return self._gets[path]()

    def post(self, path: str, body: bytes) -> Answer:
        """Carry out an order, in JSON. Whatever is wrong with it changes nothing, and the answer says what it is."""
        try:
            order = json.loads(body)
            if not isinstance(order, dict) or type(order.get("version")) is not int:
                raise UserError('send a JSON object with the "version" of the scene that it is for')
            return self._posts[path](order)
        except StaleVersion as error:
            return refused(error, 409, version=self.version, choices=["reload", "repeat"])
        except FileExists as error:
            return refused(error, 409, version=self.version, choices=["rename", "replace"])
        except UserError as error:
            return refused(error, 400)
        except (ValueError, RecursionError) as error:
            return refused(f"not JSON: {shown(error)}", 400)

    def _page(self) -> Answer:
        return Answer(page_html(self._pack(), self.title, self.version).encode(), kind="text/html")

    def _scene(self) -> Answer:
        zipped = gzip.compress(self._pack(), _QUICK, mtime=0)
        return Answer(zipped, kind="application/octet-stream", zipped=True)

    def _script(self) -> Answer:
        return _json(self.session.script())

    def _state(self) -> Answer:
        session = self.session
        return _json({
            "version": session.version,
            "source": self.source,
            "steps": [{"edits": step.words, "done": step.done} for step in session.steps],
            "undone": [{"edits": step.words, "done": step.done} for step in session.undone],
            "command": session.command(EDITED),
            "file_changed": session.file_changed(),
        })  # fmt: skip

    def _edit(self, order: dict[str, Any]) -> Answer:
        edits = order.get("edits")
        if not isinstance(edits, list):
            raise UserError('send "edits", a list of edits, each a list of words')
        self.session = self.session.edit(*edits, version=order["version"])
        return self._state()

    def _undo(self, order: dict[str, Any]) -> Answer:
        self.session = self.session.undo(order["version"])
        return self._state()

    def _redo(self, order: dict[str, Any]) -> Answer:
        self.session = self.session.redo(order["version"])
        return self._state()

    def _reload(self, order: dict[str, Any]) -> Answer:
        """Read the scene's file again; the edits are gone."""
        self.session.check(order["version"])
        before = self.session.first
        self.session = replace(open_session(self.session.source), version=self.version + 1)
        self.looks = self.looks.anew(before, self.session.scene)
        self.source = _mark()
        return self._state()

    def _save(self, order: dict[str, Any]) -> Answer:
        """Write into the scene's folder, nowhere else."""
        name = order.get("name")
        if not isinstance(name, str) or not name or name != Path(name).name or name[0] == "." or "\\" in name:
            raise UserError(f"give the name of a file in the scene's folder, without a path, got {shown(repr(name))}")
        path = Path(self.session.source).parent / name
        replace_file, groups = order.get("replace") is True, order.get("groups") is True
        files = self.session.save(path, order["version"], replace_file=replace_file, groups=groups)
        return _json({"files": [str(file) for file in files]})

    def _pack(self) -> bytes:
        if self._packed[0] != self.version:
            scene = self.session.scene
            self.looks = self.looks.after(scene)
            self._packed = self.version, pack_scene(scene, self.title, self.max_gaussians, self.looks).data
        return self._packed[1]


def refused(error: object, status: int, **more: Any) -> Answer:
    """Answer with what is wrong."""
    return _json({"error": str(error), **more}, status)


def _mark() -> str:
    return secrets.token_hex(8)


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(content).encode(), status)
