"""What browsers ask of a scene that they share, and the answers: no network here. docs/view.md has the protocol."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from tokengroups.editing import EmbedText, names_only
from tokengroups.errors import UserError
from tokengroups.io.files import make_folder
from tokengroups.reading import shown
from tokengroups.scene import WRITERS
from tokengroups.types import TokenScene
from tokengroups.viewer.looks import Looks, look
from tokengroups.viewer.pack import pack_scene
from tokengroups.viewer.page import page_html
from tokengroups.viewer.queries import can_ask, find
from tokengroups.viewer.session import FileExists, Session, StaleVersion, open_session

EDITED = "edited.safetensors"  # the file in the command line that is shown
_SCENE = ".safetensors"
_QUICK = 1  # of gzip's levels: the network is near


@dataclass(frozen=True)
class Answer:
    """Answer to one request."""

    body: bytes
    status: int = 200  # of HTTP
    kind: str = "application/json"
    zipped: bool = False
    version: int | None = None  # of the scene that was looked at


class Paths(NamedTuple):
    """Paths of requests. Only orders change the scene; of each kind one request at a time may be answered."""

    reads: list[str]
    questions: list[str]  # slow ones, to which an order is sent
    orders: list[str]


class Room:
    """A scene that several browsers look at and edit.

    Sessions are immutable: what is being read stays as it was while an order makes the next one.

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

    def __init__(
        self,
        session: Session,
        max_gaussians: int | None = None,
        embed: EmbedText | None = None,
        looks: Looks | None = None,
    ) -> None:
        self.session = session
        self.title = Path(session.source).stem
        self.max_gaussians = max_gaussians
        self.embed = embed  # None: texts are names
        self._encoding = threading.Lock()
        self._first, self._looks = session.first, looks or look(session.scene)  # changed by readers only
        self._packed: tuple[int, bytes] = (-1, b"")  # version, and the scene of it
        self._gets = {"/": self._page, "/scene": self._scene, "/state": self._state, "/script": self._script}
        self._posts: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "/edit": self._edit, "/undo": self._undo, "/redo": self._redo, "/save": self._save, "/reload": self._reload,
            "/query": self._query,
        }  # fmt: skip
        self._pack(session)  # so that the first answer is quick, and what cannot be shown is refused at once

    @property
    def version(self) -> int:
        """Version of the scene; grows with every change."""
        return self.session.version

    @property
    def paths(self) -> Paths:
        """Paths that can be read, and those to which something can be sent."""
        questions = ["/query"]
        return Paths(list(self._gets), questions, [path for path in self._posts if path not in questions])

    def get(self, path: str) -> Answer:
        """Show the scene or what was done to it."""
        session = self.session  # an order may set the next one meanwhile
        return replace(self._gets[path](session), version=session.version)

    def post(self, path: str, body: bytes) -> Answer:
        """Carry out an order, in JSON. Whatever is wrong with it changes nothing, and the answer says what it is."""
        try:
            return self._posts[path](_read(body))
        except StaleVersion as error:
            return refused(error, 409, version=self.version, choices=["reload", "repeat"])
        except FileExists as error:
            return refused(error, 409, version=self.version, choices=["rename", "replace"])
        except UserError as error:
            return refused(error, 400)

    def _page(self, session: Session) -> Answer:
        return Answer(page_html(self._pack(session), self.title, session.version).encode(), kind="text/html")

    def _scene(self, session: Session) -> Answer:
        zipped = gzip.compress(self._pack(session), _QUICK, mtime=0)
        return Answer(zipped, kind="application/octet-stream", zipped=True)

    def _script(self, session: Session) -> Answer:
        return _json(session.script())

    def _state(self, session: Session) -> Answer:
        return _json({
            "version": session.version,
            "source": session.source_key,
            "steps": [{"edits": step.words, "done": step.done} for step in session.steps],
            "undone": [{"edits": step.words, "done": step.done} for step in session.undone],
            "command": session.command(EDITED),
            "file_changed": session.file_changed(),
            "query": can_ask(session.scene, self.embed),
        })  # fmt: skip

    def _edit(self, order: dict[str, Any]) -> Answer:
        edits = order.get("edits")
        if not isinstance(edits, list):
            raise UserError('send "edits", a list of edits, each a list of words')
        embed = self._embed if self.embed else names_only
        return self._become(self.session.edit(*edits, version=order["version"], embed=embed))

    def _undo(self, order: dict[str, Any]) -> Answer:
        return self._become(self.session.undo(order["version"]))

    def _redo(self, order: dict[str, Any]) -> Answer:
        return self._become(self.session.redo(order["version"]))

    def _reload(self, order: dict[str, Any]) -> Answer:
        """Read the scene's file again; the edits are gone."""
        self.session.check(order["version"])
        return self._become(replace(open_session(self.session.source), version=self.version + 1))

    def _save(self, order: dict[str, Any]) -> Answer:
        """Write into the scene's folder, nowhere else."""
        name, groups = order.get("name"), order.get("groups") is True
        if not isinstance(name, str) or not 1 <= len(parts := name.split("/")) <= 2 or not all(map(_is_plain, parts)):
            raise UserError(f"give a name in the scene's folder, or FOLDER/NAME there, got {shown(repr(name))}")
        if not groups and Path(name).suffix.lower() not in (_SCENE, *WRITERS):
            raise UserError(f"{shown(name)}: give a name that ends in {_SCENE}, {', '.join(WRITERS)}")
        path, replace_file = Path(self.session.source).parent / name, order.get("replace") is True
        self.session.check(order["version"])
        make_folder(path.parent)
        files = self.session.save(path, order["version"], replace_file=replace_file, groups=groups)
        return _json({"files": [str(file) for file in files]})

    def _query(self, order: dict[str, Any]) -> Answer:
        """Find groups by text; it changes nothing."""
        session = self.session
        session.check(order["version"])
        found = find(session.scene, order.get("text"), self._embed if self.embed else None)
        matches = [{"id": group, "probability": probability} for group, probability in found.matches]
        answer = _json({"text": found.text, "encoder": found.encoder, "matches": matches})
        return replace(answer, version=session.version)

    def _embed(self, scene: TokenScene, text: str) -> Float[Tensor, " D"]:
        """Embed a text; the first one loads the encoder, which nobody else may start meanwhile."""
        assert self.embed is not None
        with self._encoding:
            return self.embed(scene, text)

    def _become(self, session: Session) -> Answer:
        self.session = session
        return self._state(session)

    def _pack(self, session: Session) -> bytes:
        if self._packed[0] != session.version:
            if session.first is not self._first:  # the file was read again
                self._first, self._looks = session.first, self._looks.anew(self._first, session.first)
            self._looks = self._looks.after(session.scene)
            packed = pack_scene(session.scene, self.title, self.max_gaussians, self._looks)
            self._packed = session.version, packed.data
        return self._packed[1]


def refused(error: object, status: int, **more: Any) -> Answer:
    """Answer with what is wrong."""
    return _json({"error": str(error), **more}, status)


def _read(body: bytes) -> dict[str, Any]:
    try:
        order = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {shown(error)}") from error
    if not isinstance(order, dict) or type(order.get("version")) is not int:
        raise UserError('send a JSON object with the "version" of the scene that it is for')
    return order


def _is_plain(name: str) -> bool:
    """Whether it names a file in a folder, which is neither hidden nor elsewhere."""
    plain = name.isprintable() and "\\" not in name
    return plain and name != "" and name.strip() == name and name[0] != "." and name[-1] != "."


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(content).encode(), status)
