"""The demo: a page that stands alone, and the whole way with an untrained model."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tokengroups.cli.demo.page import Gallery, Picture, Section, Table, build_page
from tokengroups.cli.demo.rooms import likely_objects, make_room, query_room, reconstruct_room
from tokengroups.cli.demo.sections import room_section
from tokengroups.cli.main import main
from tokengroups.errors import UserError
from tokengroups.evaluation.phrases import PHRASES

VOID_ELEMENTS = {"meta", "img", "br", "link"}


class Checker(HTMLParser):
    """Collects links and checks that elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for name in ("src", "href") if (value := values.get(name))]
        if values.get("id"):
            self.ids.add(str(values["id"]))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_page_is_well_formed_escaped_and_needs_no_network() -> None:
    gallery = Gallery("a < b", "text & more", [Picture("x/1.png", "<one>", colour="#ff0000")], ["cmd 'x' > y"])
    table = Table(("name", "value"), [("PSNR", "1.0")], numbers=(1,))
    page = build_page([Section("s1", "S", "", [gallery], [table])])
    checker = check(page)
    assert "&lt;one&gt;" in page and "a &lt; b" in page and "<one>" not in page
    assert checker.links == ["#s1", "x/1.png"] and "s1" in checker.ids
    assert not re.search(r"https?://|<script|@import|url\(", page)


def test_objects_are_distinguished_from_walls() -> None:
    wall = {"id": 0, "visible_share": 0.4, "size": [3.0, 2.0, 0.1]}
    floor = {"id": 1, "visible_share": 0.2, "size": [3.0, 0.1, 3.0]}
    chair = {"id": 2, "visible_share": 0.1, "size": [0.5, 0.9, 0.5]}
    speck = {"id": 3, "visible_share": 0.001, "size": [0.1, 0.1, 0.1]}
    assert [group["id"] for group in likely_objects([wall, floor, chair, speck])] == [2]
    assert [group["id"] for group in likely_objects([wall, floor])] == [1]
    assert [group["id"] for group in likely_objects([wall])] == [0]


def test_the_whole_way(tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--scenes", "2", "--weights", str(random_weights)]) == 0
    shown = capsys.readouterr().out
    for command in ("reconstruct", "list", "render", "edit", "export", "evaluate"):
        assert f"$ tokengroups {command} " in shown
    checker = check((out / "index.html").read_text())
    files = [link for link in checker.links if not link.startswith("#")]
    assert len(files) > 20
    for link in files:
        assert (out / link).is_file(), link
    assert {link[1:] for link in checker.links if link.startswith("#")} == checker.ids
    assert not list((out / "room_1" / "photos").glob("*.json")), "the photos come without cameras"
    assert json.loads((out / "metrics.json").read_text())["protocol"]["num_scenes"] == 2
    assert "query" not in shown  # these weights have no semantics


def test_weights_with_semantics_are_queried(
    tmp_path: Path, random_weights_with_semantics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, weights = tmp_path / "room_1", str(random_weights_with_semantics)
    made = reconstruct_room(make_room(folder, 1, seed=0, num_views=2, size=64), "--weights", weights)
    answers = query_room(made.room)
    assert 1 <= len(answers) <= 3
    there = set(made.room.frames.instance_classes.values())
    assert all(a.thing in there and a.thing in PHRASES[a.text] for a in answers)
    ids = [group["id"] for group in made.groups]
    for answer in answers:
        assert answer.picture.is_file() and answer.group in ids and 0 <= answer.probability <= 1
        assert answer.command.startswith("tokengroups query ")
    galleries = {gallery.title: gallery for gallery in room_section(made, made, scale=1.0).galleries}
    shown = galleries["Asked in words"]
    assert list(shown.commands) == [answer.command for answer in answers]
    assert [tmp_path / picture.source for picture in shown.pictures] == [answer.picture for answer in answers]


def test_bad_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value, limits in (("--scenes", "0", "choose 1 to 1000"), ("--seed", "-1", "must be at least 0")):
        assert main(["demo", "--out", str(tmp_path), option, value]) == 2
        assert capsys.readouterr().err == f"error: {option} {value}: {limits}\n"


def test_without_the_text_encoder_nothing_is_queried(
    tmp_path: Path,
    random_weights_with_semantics: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(_: str) -> None:
        raise UserError("text needs the package transformers")

    monkeypatch.setattr("tokengroups.cli.text.load_encoder_for", missing)
    room = make_room(tmp_path / "room_1", 1, seed=0, num_views=2, size=64)
    reconstruct_room(room, "--weights", str(random_weights_with_semantics))
    assert query_room(room) == ()
    assert "note: nothing is queried: text needs the package" in capsys.readouterr().err
