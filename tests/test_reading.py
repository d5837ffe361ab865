"""Reading of user files: regular files only, bounded, one line for whatever is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokengroups.errors import UserError
from tokengroups.reading import malformed, path_kind, read_bytes, read_json, read_text, shown


def test_kinds_of_paths(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    kinds = {name: path_kind(tmp_path / name) for name in ("file", "link", ".", "pipe", "none", "file/x", "loop")}
    assert kinds == {
        "file": "file", "link": "file", ".": "folder", "pipe": "other", "none": "missing", "file/x": "missing",
        "loop": "impossible",
    }  # fmt: skip
    assert path_kind("x" * 300) == path_kind("a\0b") == "impossible"


@pytest.mark.parametrize(
    ("name", "words"), [("pipe", "device, pipe or socket"), ("none", "no such file"), (".", "folder")]
)
def test_only_regular_files_are_read(tmp_path: Path, name: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    with pytest.raises(UserError, match=f"^cannot read .*{words}.*; do this$"):
        read_bytes(tmp_path / name, "do this")


def test_files_beyond_the_limit_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(UserError, match="larger than 64 MiB"):
        read_text(path)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", "") == [1]


@pytest.mark.parametrize("content", [b"[" * 100_000, b"1" * 5000, b"{", b"\xff\xfe", b"", b'{"a": \x00}'])
def test_what_is_no_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match="; do this$") as caught:
        read_json(tmp_path / "a.json", "do this")
    assert "a.json" in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: {}["k\n"], lambda: int(float("inf")), lambda: int("x"), lambda: None.x, lambda: [][0], lambda: {[]: 1},
        lambda: 1 / 0, lambda: (_ for _ in ()).throw(RecursionError()), lambda: 10**400 * 1.0,
    ],
)  # fmt: skip
def test_errors_about_values_are_one_line(wrong: object) -> None:
    with pytest.raises(UserError, match="^a file: .*; do this$") as caught, malformed("a file", "do this"):
        wrong()  # type: ignore[operator]
    assert str(caught.value).isprintable()


def test_other_errors_and_user_errors_pass() -> None:
    for error in (UserError("mine"), OSError("disk"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, malformed("a file", "do this"):
            raise error
        assert caught.value is error


def test_shown_text_is_one_printable_line() -> None:
    assert shown("a\tb\nc \x1b[31mred\udcff é") == r"a b c \x1b[31mred\udcff é"
    assert len(shown("x" * 5000)) == 200
