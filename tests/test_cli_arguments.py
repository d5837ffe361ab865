"""Numbers on command lines: every option that takes one has bounds, and says them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokengroups.cli.arguments import add_number, check_room_size
from tokengroups.cli.main import Parser, build_parser, main
from tokengroups.errors import UserError

ODD = ("nan", "inf", "-inf", "1e999", "-" + "9" * 40, "9" * 40, "9" * 5000, "²", "\x00", "")


def numeric_options() -> Iterator[tuple[str, argparse.Action]]:
    """All options of all commands that turn a word into a number."""
    parsers: list[argparse.ArgumentParser] = [build_parser()]
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif action.type is not None and action.type is not Path:
                yield f"{parser.prog} {action.option_strings[0]}", action


OPTIONS = dict(numeric_options())


def test_the_options_are_found() -> None:
    assert len(OPTIONS) > 25
    assert {"tokengroups render --size", "tokengroups data procedural --seed", "tokengroups fit --seed"} <= set(OPTIONS)


# A focal length is judged with its photo.
@pytest.mark.parametrize("name", sorted(name for name in OPTIONS if not name.endswith("--focal")))
def test_every_number_has_bounds(name: str) -> None:
    action = OPTIONS[name]
    assert callable(action.type)
    if action.choices is not None:
        assert action.type is int
        return
    for word in ODD:
        with pytest.raises((UserError, ValueError)) as caught:
            action.type(word)
        if isinstance(caught.value, UserError):
            assert str(caught.value).startswith(f"{action.option_strings[0]} ") and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("render s -o o --size 0", "error: --size 0: choose 1 to 4096\n"),
        ("data procedural --out o --seed -1", "error: --seed -1: must be at least 0\n"),
        (f"data procedural --out o --seed {2**63}", f"error: --seed {2**63}: must fit into 64 bits\n"),
        ("data procedural --out o --num-views 1000000", "rooms of 1,000,000 frames of 128x128 are too large"),
        ("evaluate --data procedural --size 2048 --views 9", "rooms of 19 frames of 2048x2048 are too large"),
        ("evaluate --data procedural --frame-step 99999", "are too large; at most 4,096 frames fit"),
        ("list s --thumbnail-size 1e3", "error: argument --thumbnail-size: invalid int value: '1e3'; see tokengroups"),
        ("import s -o o --fov nan", "error: --fov nan: choose 1 to 170\n"),
    ],
)
def test_numbers_out_of_bounds_are_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert main(words.split()) == 2
    complaint = capsys.readouterr().err
    assert message in complaint and complaint.count("\n") == 1


def test_the_bounds_themselves_are_allowed() -> None:
    parser = Parser()
    add_number(parser, "--share", 0, 1, kind=float)
    add_number(parser, "--count", 1)
    parsed = parser.parse_args(["--share", "1", "--count", str(2**63 - 1)])
    assert (parsed.share, parsed.count) == (1.0, 2**63 - 1)
    check_room_size(4096, 128)
    with pytest.raises(UserError, match="at most 4,096 frames fit"):
        check_room_size(4097, 128)
