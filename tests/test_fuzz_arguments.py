"""Random command lines: a result, or one line on stderr, exit code 2 and a folder in which nothing has changed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fuzzing import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import tokengroups as tg
from tokengroups.cli.main import COMMANDS, main
from tokengroups.text import load_text_encoder
from tokengroups.types import Semantics

Words = list[str]
TEMPORARY = re.compile(r"(^|/)\.[^/]*\.[0-9a-f]{8}\.")  # names of files and folders in the making

NUMBERS = (
    "0", "1", "2", "16", "33", "-1", "1.5", "nan", "inf", "-inf", "1e999", "1e-320", "٣", "²", "1_0", "0x10", "", " 7 ",
    "9" * 20, "9" * 5000, "\x00", "\udc80", "one",
)  # fmt: skip
PATHS = (
    "scene.safetensors", "photo.png", "words.txt", "folder", "pipe", "loop", "missing", "missing/deep", "photo.png/x",
    "", ".", "..", "a\x00b", "\udcff.ply", "new\x1b[31m\n.safetensors", "x" * 300, "x/" * 3000,
)  # fmt: skip
OUTPUTS = ("out", "out.ply", "folder/out.PLY", "folder/in/out.safetensors", *PATHS)
TEXTS = (
    "ball",
    "Floor",
    "",
    " ",
    "a lamp",
    "\x1b[2J",
    "\udc80",
    "椅子",
    "x" * 3000,
    "-1",
    "ball,box,ball",
    ",",
    "\x00",
)
CAMERAS = (
    "context:0",
    "context:",
    "orbit:1",
    "orbit:2:45",
    "orbit",
    "orbit:1e999",
    "orbit:²",
    "orbit:-1",
    "::",
    "path.json",
)
KINDS = ("color", "Colours, depth", "groups,groups", "GROUP depths", "", ",", "alpha", "\x00")
COLORS = ("white", "Light Grey", "#12f", "ff8800", "1,2,3", "300,0,0", "#12345g", "rgb(1,2,3)", "", "\udc80")
EDITS = (
    "remove 2", "keep 1 ball", "move 3 0.1 0 -.5", "rotate box --axis Y --degrees 30", "scale 2 0.5", "duplicate 1",
    "insert scene.safetensors:3 --at 0 0 1", "rename 2 lamp", "merge 1 ball", "split 2 -9 -9 -9 -0.6 9 9", "split 1",
)  # fmt: skip
OPERATIONS = (
    "remove",
    "keep",
    "move",
    "rotate",
    "scale",
    "duplicate",
    "insert",
    "rename",
    "merge",
    "split",
    "paint",
    "pathlib:Path",
    "no_such:Edit",
)
SETTINGS = ("training.steps=1", "training", "=", "a.b=1e999", "training.output=out", "model=[", "\udc80=\x00")


def word(*pools: tuple[str, ...], right: str | None = None) -> st.SearchStrategy[str]:
    """A word of some pools, seldom any text; as often one that is right."""
    odd = st.one_of(*(st.sampled_from(pool) for pool in pools), st.text(max_size=6))
    return odd if right is None else st.one_of(st.just(right), odd)


def named(name: str, values: st.SearchStrategy[str], *, joined: bool = False) -> st.SearchStrategy[Words]:
    """An option with its value, in two words or in one."""
    option = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
    return values.map(lambda value: [f"{option}={value}"] if joined else [option, value])


def options(*flags: str, **values: st.SearchStrategy[str]) -> st.SearchStrategy[Words]:
    """Some options in any order, and some flags."""
    written = [named(name, value, joined=joined) for name, value in values.items() for joined in (False, True)]
    return st.lists(st.one_of(*written, *(st.just([f"--{flag}"]) for flag in flags)), max_size=3).map(joined_up)


def joined_up(parts: Iterable[Words]) -> Words:
    return [single for part in parts for single in part]


def line(command: str, *parts: st.SearchStrategy[str] | st.SearchStrategy[Words]) -> st.SearchStrategy[Words]:
    """A command with its arguments, each a word or a list of them."""
    lists = st.tuples(*parts).map(lambda all_: joined_up([part] if isinstance(part, str) else part for part in all_))
    return lists.map(lambda words: [command, *words])


number, path, output, text = word(NUMBERS), word(PATHS), word(OUTPUTS), word(TEXTS)
scene = word(PATHS, right="scene.safetensors")
out = named("o", word(OUTPUTS, right="new.safetensors"))
# None that can be used: commands with a network have tests of their own, which take longer.
weights = named("weights", st.sampled_from(("missing", "folder", "pipe", "", "\x00", "no_such:Weights", "x" * 300)))
odd_edit = st.tuples(
    st.sampled_from(OPERATIONS).map(lambda name: [name]), st.lists(st.one_of(number, text), max_size=5)
)
edits = st.lists(st.one_of(st.sampled_from(EDITS).map(str.split), odd_edit.map(joined_up)), max_size=2).map(joined_up)
room = (st.just("procedural"), named("out", output), st.just(["--num-views", "1", "--size", "16"]))
LINES = {
    "reconstruct": line(
        "reconstruct", path, out, weights,
        options("json", size=number, max_views=number, seed=number, focal=number, postprocess=text, device=text),
        options(max_gaussians=number, embed=path),
    ),
    "segment": line(
        "segment", path, named("o", output), weights,
        options("json", "video", size=number, max_views=number, focal=number, granularity=number, device=text),
        options(score=number),
    ),
    "fit": line(
        "fit", path, out,
        options(cameras=path, masks=path, steps=number, size=number, num_gaussians=number, sh_degree=number),
        options(points=path, unlabelled=number, max_views=number, hold_out=number, seed=number),
    ),
    "embed": line(
        "embed", scene, word(PATHS, right="photo.png"), word(PATHS, right="photo.png"), out,
        named("encoder", word(PATHS, right="toy_teachers:Colours")), options("json"),
    ),
    "list": line(
        "list", scene, options("json", thumbnails=output, thumbnail_size=number, vocabulary=text, text_encoder=path)
    ),
    "query": line("query", scene, word(TEXTS, right="ball"), options("json", top=number, render=output)),
    "ask": line(
        "ask", scene, word(TEXTS, right="the ball on the floor"),
        options("json", model=path, photos=path, combine=text, save_views=output, picture_size=number, device=text),
        options(key_env=text, key_file=path, timeout=number, time_limit=number, max_questions=number),
        options(endpoint=word(("http://127.0.0.1:1/v1", "", "http://", "x")), requests_per_minute=number),
    ),
    "render": line(
        "render", scene, st.one_of(out, named("video", word(PATHS, right="film.gif"))),
        options(video=word(OUTPUTS, right="film.gif"), fps=number, seconds=number),
        options("json", camera=word(CAMERAS, PATHS), what=word(KINDS), size=number, background=word(COLORS)),
    ),
    "edit": line("edit", scene, edits, out, options("json", "all", render=output, text_encoder=path, script=path)),
    "export": line(
        "export", scene, named("o", word(OUTPUTS, right="new.ply")),
        options("json", groups=output, vocabulary=text, writer=text),
    ),
    "import": line("import", path, out, options("json", "drop-invalid", fov=number, size=number)),
    "evaluate": line(
        "evaluate", weights,
        options("given-intrinsics", data=path, root=path, split=text, seed=number, views=number, num_scenes=number),
        options(frame_step=number, size=number, vocabulary=text, metric=text, json=output, embed=path),
    ),
    "data": line("data", *room, options("json", num_scenes=word(("1", "0", "nan")), seed=number, split=text)),
    "train": line("train", path, st.lists(word(SETTINGS), max_size=2)),
    "demo": line("demo", named("out", output), weights, options(scenes=word(("0", "-1", "nan", "1")), seed=number)),
    "info": line("info", options("json"), st.lists(scene, max_size=1)),
    "view": line("view", scene, named("html", word(OUTPUTS, right="page.html")), options(max_gaussians=number)),
}  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the working folder of every command line holds: a scene, a photo and what is neither."""
    folder = tmp_path_factory.mktemp("template")
    encoder, plain = load_text_encoder("minilm"), tg.example_scene()
    semantics = Semantics(
        encoder.encode_text(["floor", "box", "ball"]),
        torch.zeros(len(plain.anchors), 0),
        torch.zeros(encoder.dim, 0),
        torch.tensor([15.0, 0.55]),
        encoder.name,
    )
    tg.save_scene(folder / "scene.safetensors", replace(plain, semantics=semantics))
    Image.new("RGB", (40, 30), "gray").save(folder / "photo.png")
    viewpoint = {"width": 40, "height": 30, "fx": 40, "fy": 40, "cam_from_world": torch.eye(4).tolist()}
    path = {"format": "tokengroups.path", "version": 1, "seconds": 0.1, "closed": True, "viewpoints": [viewpoint]}
    (folder / "path.json").write_text(json.dumps(path))
    (folder / "words.txt").write_text("a: [1, 2\n")
    (folder / "folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield folder


@contextlib.contextmanager
def working_folder(template: Path) -> Iterator[Path]:
    """A fresh copy of the template in a folder of its own, so that ".." is ours too."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "inner"
        shutil.copytree(template, inner)
        os.mkfifo(inner / "pipe")
        (inner / "loop").symlink_to("loop")
        os.chdir(inner)
        try:
            yield Path(outer)
        finally:
            os.chdir(before)


def content(folder: Path) -> dict[str, str]:
    """All that lies in a folder, with kinds, permissions and digests."""
    found = {}
    for place in sorted(folder.rglob("*")):
        mode = place.lstat().st_mode
        digest = hashlib.sha256(place.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
        found[str(place.relative_to(folder))] = f"{mode:o} {digest}"
    return found


def run(words: Words) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    written, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(complaints):
        try:
            code = main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, written.getvalue(), complaints.getvalue()


def test_every_command_is_tried() -> None:
    assert set(LINES) == set(COMMANDS)


@settings(
    max_examples=examples(120),
    deadline=None,
    derandomize=examples(1) == 1,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(words=st.one_of(*LINES.values()))
@example(words=["render", "scene.safetensors", "-o", "out", "--camera", "orbit:²"])
@example(words=["edit", "scene.safetensors", "scale", "1", "1e300", "-o", "out.safetensors"])
@example(words=["export", "scene.safetensors", "-o", "folder/out.ply", "--groups", "folder"])
@example(words=["data", "procedural", "--out", "new", "--size", "2048", "--num-views", "9999"])
@example(words=["demo", "--out", "out", "--scenes", "1", "--weights", "missing"])
@example(words=["reconstruct", "photo.png", "-o", "pipe"])
@example(words=["segment", "photo.png", "a\x00b", "pipe", "-o", "out"])
@example(words=["segment", "photo.png", "-o", ""])
@example(words=["segment", "photo.png", "-o", "."])
@example(words=["segment", "photo.png", "-o", "pipe/in"])
@example(words=["segment", "photo.png", "photo.png", "-o", "x/" * 3000])
@example(words=["segment", "photo.png", "-o", "out", "--weights", "pipe.pt"])
@example(words=["list", "x/" * 3000])
@example(words=["train", "\x00"])
@example(words=["embed", "scene.safetensors", "photo.png", "pipe", "-o", "new", "--encoder", "toy_teachers:Colours"])
def test_a_command_line_works_or_is_refused_without_a_trace(template: Path, words: Words) -> None:
    with working_folder(template) as folder:
        before = content(folder)
        code, shown, complaints = run(words)
        errors = [part for part in complaints.splitlines() if part.startswith("error: ")]
        assert code in (0, 2) and len(errors) == (code == 2), (code, complaints)
        assert "Traceback" not in complaints
        if code == 2:
            assert content(folder) == before
        assert not set(map(chr, range(32))) & set(shown + complaints) - {"\n"}, "control characters reach the terminal"
        assert not [name for name in content(folder) if TEMPORARY.search(name)]
