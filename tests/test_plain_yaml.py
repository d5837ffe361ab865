"""YAML as plain values: what is read, and one line for whatever could hang, overflow or be no setting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tokengroups.config import apply_overrides, read_yaml
from tokengroups.errors import UserError
from tokengroups.plain_yaml import check_plain, parse_yaml

MERGED = {"b": 1, "c": 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E+4", -20000.0),
        ("[.5e1, 0x10, 010, true, ~]", [5.0, 16, 8, True, None]),
        ("a: &x {b: 1}\nc: *x\nd: *x", {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("a: &x {b: 1}\ne: &y {b: 2, c: 3}\nd: {<<: [*x, *y]}", {"a": {"b": 1}, "e": {"b": 2, "c": 3}, "d": MERGED}),
        ("größe: Tür", {"größe": "Tür"}),
        ("'2024-01-01'", "2024-01-01"),
        ("a: |\n  x\n  \ty\n", {"a": "x\n\ty\n"}),
        ("", None),
    ],
)  # fmt: skip
def test_plain_values_are_read(text: str, value: Any) -> None:
    read = parse_yaml(text, "a.yaml")
    assert read == value and repr(read) == repr(value)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 120))

HOSTILE = {
    "aliases of aliases": (LAUGHS, r"line \d+: not valid YAML \(more than 10,000 values\)"),
    "merges of merges": (MERGES, r"line \d+: not valid YAML \(more than 10,000 values\)"),
    "deep by aliases": (CHAIN, "nested more than 50 deep"),
    "an alias of itself": ("a: &a [*a]", "an alias inside of what it stands for"),
    "an alias of itself as a mapping": ("a: &a {b: *a}", "an alias inside of what it stands for"),
    "deep lists": ("[" * 100_000, "nested too deeply"),
    "deep mappings": ("{a: " * 60 + "1" + "}" * 60, "nested more than 50 deep"),
    "many values": ("[" + "1," * 10_001 + "]", r"more than 10,000 values"),
    "a list as a key": ("{[1]: 2}", r"key '\[1\]' is no text"),
    "a mapping as a key": ("? {a: b}\n: 1", "key '{'a': 'b'}' is no text"),
    "a number as a key": ("1: a", "key '1' is no text"),
    "nothing as a key": ("? \n: a", "key 'None' is no text"),
    "a repeated key": ("a: 1\na: 2", "line 2: .*key 'a' is repeated"),
    "a date": ("output: 2024-01-01", "2024-01-01 is a date to YAML, which no setting is; quote texts"),
    "no date": ("output: 2024-13-45", "wrong form"),
    "bytes": ("a: !!binary aGFsbG8=", "is a bytes to YAML"),
    "broken bytes": ("a: !!binary '@'", "a.yaml"),
    "a set": ("a: !!set {b, c}", "is a set to YAML"),
    "pairs": ("a: !!pairs [b: 1]", "is a tuple to YAML"),
    "a tag of Python": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "a tag without its value": ("a: !!int ''", "wrong form|not valid"),
    "a word as a number": ("a: !!int word", "wrong form"),
    "a word as a truth value": ("a: !!bool word", "lacks|wrong form"),
    "a huge number": ("a: " + "9" * 5000, "wrong form"),
    "a NUL": ('a: "b\\0c"', r"the text 'b\\x00c' holds the character 0x0; remove it"),
    "an escape": ('a: "\\e[31m"', "holds the character 0x1b"),
    "a surrogate": ('a: "\\uD800"', "holds the character 0xd800"),
    "a raw NUL": ("a: b\0", "not valid YAML .unacceptable character #x0000"),
    "a control character in a key": ('"a\\ab": 1', "holds the character 0x7"),
    "a tab": ("a:\n\t- b", "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", "found another document"),
    "an unknown alias": ("a: *b", "undefined alias"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_one_line_at_once(text: str, message: str, tmp_path: Path) -> None:
    began = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        parse_yaml(text, "a.yaml")
    assert str(caught.value).startswith("a.yaml") and str(caught.value).isprintable()
    (tmp_path / "a.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=message):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(UserError) as caught:
        apply_overrides({}, [f"a.b={text}"])
    assert str(caught.value).startswith("override 'a.b=") and str(caught.value).isprintable()
    assert time.process_time() - began < 10


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 1}


def test_depth_is_counted_from_the_root() -> None:
    value: Any = 1
    for _ in range(50):
        value = [value]
    check_plain(value, "x")
    with pytest.raises(UserError, match="x: nested more than 50 deep"):
        check_plain({"a": value}, "x")
