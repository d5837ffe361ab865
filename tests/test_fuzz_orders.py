"""Random orders to the server's room: each is obeyed as the command line would, or refused in one line."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from fuzzing import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import tokengroups as tg
from tokengroups.cli.main import main
from tokengroups.editing import EDITS
from tokengroups.viewer import open_session
from tokengroups.viewer.room import Room

TEXTS = ["", "1", "2", "03", " 3", "99", "-1", "1_0", "ball", "BOX", "a lamp", "red\nlamp", "'; rm -rf x", "$HOME `x`"]
TEXTS += ["0.5", "-0.2", "1e-30", "1e30", "1e400", "nan", "-inf", "0x10", "٣", "²", "\0", "\ud800", "x" * 3000]
TEXTS += ["--at", "--axis", "x", "--degrees", "--degrees=3", "--all", "-o", "--", "a:B", "os:System", "<script>"]
TEXTS += ["scene.safetensors:2", "./scene.safetensors:ball", "none:2", "/dev/zero:1", ".:1", ":", "\0:1", "-o=a:1"]
NAMES = ["new.safetensors", "new.ply", "new.spz", "new.glb", "parts", "", ".", "..", "../a.ply"]
NAMES += [
    "/tmp/a.ply",
    ".a.ply",
    "a\0.ply",
    "\ud800.ply",
    "a\nb.ply",
    "-o.ply",
    "x" * 300 + ".ply",
    "a.txt",
    "a\\b.ply",
]
ODD: list[Any] = [None, True, 0, -1, 1.5, 10**400, float("nan"), "0", [], {}, [[]], [1], {"a": 1}]

number = st.sampled_from(["0", "-0.3", "0.5", "0.9", "2", "3.2", "7", "1e-3", "٣", "1e-30", "1e9", "nan", "0x10"])
group = st.sampled_from(["1", "2", "03", "1", "2", "3", "4", "5", "ball", " Box ", "floor", "red lamp"])
numbers = [st.tuples(*[number] * n) for n in (1, 3, 6)]
plausible = st.one_of(
    st.tuples(st.sampled_from(["remove", "keep", "merge"]), group, group),
    st.tuples(st.sampled_from(["remove", "split", "duplicate"]), group),
    st.builds(lambda name, of, by: (name, of, *by), st.sampled_from(["move", "duplicate"]), group, numbers[1]),
    st.builds(lambda of, by: ("scale", of, *by), group, numbers[0]),
    st.builds(lambda of, box: ("split", of, *box), group, numbers[2]),
    st.builds(lambda of, by: ("rotate", "--axis", "y", of, "--degrees", *by), group, numbers[0]),
    st.builds(lambda of, at: ("insert", f"scene.safetensors:{of}", "--at", *at), group, numbers[1]),
    st.sampled_from([("merge", "2", "3"), ("split", "1", *"-9 -9 3.2 9 9 9".split())]),
    st.tuples(st.just("rename"), group, st.sampled_from(TEXTS)),
    st.builds(lambda by: ("rescale", *by), numbers[0]),
).map(list)
words = st.one_of(
    plausible,
    st.tuples(st.sampled_from(list(EDITS)), st.lists(st.sampled_from(TEXTS), max_size=7)).map(lambda w: [w[0], *w[1]]),
    st.lists(st.one_of(st.sampled_from(TEXTS), st.text(max_size=5)), max_size=4),
    st.sampled_from(ODD),
)
step = st.sampled_from([1] * 8 + [2, 3, 0]).flatmap(lambda n: st.lists(words, min_size=n, max_size=n))
edits = st.one_of(*[step] * 9, st.sampled_from(ODD))
names = st.one_of(st.sampled_from(NAMES[:5]), st.sampled_from(NAMES), st.sampled_from(ODD))
settings_of_save = {"replace": st.sampled_from([True, True, False, "yes"]), "groups": st.sampled_from([True, False, 1])}
edit = st.tuples(st.just("/edit"), st.fixed_dictionaries({"edits": edits}))
save = st.tuples(st.just("/save"), st.fixed_dictionaries({"name": names}, optional=settings_of_save))
plain = st.sampled_from(["/undo"] * 4 + ["/redo"] * 4 + ["/reload"]).map(lambda path: (path, {}))
order = st.sampled_from([edit] * 6 + [save] + [plain] * 2).flatmap(lambda kind: kind)
version = st.sampled_from(["right"] * 40 + [None, 0, True, "0", 1.0, 10**30, -1])
path = st.sampled_from(["/edit", "/undo", "/save", "/reload"])
body = st.one_of(
    st.binary(max_size=20), st.recursive(st.sampled_from(ODD), st.lists).map(lambda v: json.dumps(v).encode())
)
derandomize = os.environ.get("FUZZ_FACTOR", "1") == "1"


def sizes() -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in Path().rglob("*")}


def obey(room: Room, path: str, body: bytes) -> bool:
    """Send an order; what is refused changes nothing."""
    before, files = room.session, sizes()
    answer = room.post(path, body)
    content = json.loads(answer.body)
    if answer.status == 200:
        assert room.version == before.version + (path != "/save")
        assert path == "/save" or (content["version"] == room.version and sizes() == files)
        assert all(Path(file).resolve().is_relative_to(Path().resolve()) for file in content.get("files", []))
        return True
    assert answer.status in (400, 409) and content["error"].isprintable() and content["error"]
    assert room.session is before and sizes() == files
    return False


@settings(max_examples=examples(15), deadline=None, derandomize=derandomize, database=None)
@given(orders=st.lists(st.tuples(order, version), max_size=12), odd=st.lists(st.tuples(path, body), max_size=3))
def test_random_orders_end_where_their_command_line_ends(
    orders: list[tuple[tuple[str, dict[str, Any]], Any]], odd: list[tuple[str, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in ("room", "scene"):
            tg.save_scene(f"{name}.safetensors", tg.example_scene())
        room = Room(open_session("room.safetensors"))
        for (path, content), version in orders:
            right = {"version": room.version} if version == "right" else {} if version is None else {"version": version}
            obey(room, path, json.dumps(content | right).encode())
        for path, content in odd:
            obey(room, path, content)
        room.get("/scene")
        command = room.session.command("typed.safetensors")
        if command:
            room.session.save("saved.safetensors", replace_file=True)
            assert main(shlex.split(command)[1:]) == 0
            assert Path("typed.safetensors").read_bytes() == Path("saved.safetensors").read_bytes()
