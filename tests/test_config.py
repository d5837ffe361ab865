"""Strict configuration: what it accepts, and the one line it says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengroups.config import apply_overrides, build_config, config_to_dict, read_yaml
from tokengroups.errors import UserError

WIDTHS, FINITE = st.integers(1, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)


@dataclass(frozen=True)
class Inner:
    width: int = 3
    rates: tuple[float, ...] = (0.5,)
    pair: tuple[int, int] = (1, 2)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be >= 1, got {self.width}")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    rate: float = 1.0
    limit: float | None = None
    other: Inner | None = None
    mode: Literal["fast", "exact"] = "fast"
    shown: bool = False


def load(path: Path, overrides: Sequence[str] = ()) -> Outer:
    return build_config(Outer, apply_overrides(read_yaml(path), overrides), str(path))


def written(folder: Path, text: str) -> Path:
    path = folder / "a.yaml"
    path.write_text(text)
    return path


def test_file_and_overrides_fill_the_dataclass(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\nrate: 1e-3\nlimit: 2\ninner:\n  rates: [1, 2e-1]\n  pair: [4, 5]\n")
    config = load(path, ["inner.width=7", "mode=exact", "other.width=2", "shown=true"])
    assert config == Outer("x", Inner(7, (1.0, 0.2), (4, 5)), 1e-3, 2.0, Inner(2), "exact", True)
    assert isinstance(config.limit, float) and isinstance(config.inner.rates, tuple)


def test_defaults_live_in_the_dataclass(tmp_path: Path) -> None:
    assert load(written(tmp_path, "name: x")) == Outer("x")


@given(
    st.builds(
        Outer,
        name=st.text(),
        inner=st.builds(Inner, width=WIDTHS, rates=st.lists(FINITE).map(tuple)),
        limit=st.none() | FINITE,
        other=st.none() | st.builds(Inner, width=WIDTHS),
        mode=st.sampled_from(["fast", "exact"]),
        shown=st.booleans(),
    )
)
def test_to_dict_is_the_inverse_of_build(config: Outer) -> None:
    assert build_config(Outer, config_to_dict(config), "test") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nane: x", r"a\.yaml: unknown key 'nane'; did you mean 'name'\?"),
        ("name: x\ninner: {widht: 3}", r"unknown key 'inner.widht'; did you mean 'width'\?"),
        ("name: x\nother: {zzz: 3}", r"unknown key 'other.zzz'; known keys here: pair, rates, width"),
        ("rate: 1", "the key 'name' is missing"),
        ("name: x\nrate: high", "the key 'rate' must be a finite number, got 'high'"),
        ("name: x\nrate: true", "the key 'rate' must be a finite number, got True"),
        ("name: x\ninner: {width: 1.5}", "the key 'inner.width' must be a whole number, got 1.5"),
        ("name: x\ninner: {width: true}", "the key 'inner.width' must be a whole number, got True"),
        ("name: x\ninner: {width: 0}", "width must be >= 1, got 0"),
        ("name: x\ninner: {rates: abc}", "the key 'inner.rates' must be a list, got 'abc'"),
        ("name: x\ninner: {pair: [1, 2, 3]}", "the key 'inner.pair' must be"),
        ("name: x\ninner: 3", "the key 'inner' must be a mapping"),
        ("name: x\nmode: slow", "the key 'mode' must be .*fast.*exact"),
        ("name: x\nname: y", "line 2: not valid YAML .*key 'name' is repeated"),
        ("name: [x", "line 1: not valid YAML"),
        ("- a\n- b", "a configuration is a mapping"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["rate", "=3", "a..b=1", "name.first=x"])
def test_bad_overrides_are_one_line(override: str) -> None:
    with pytest.raises(UserError, match="override"):
        apply_overrides({"name": "x"}, [override])


def test_overrides_leave_their_input_alone() -> None:
    values = {"inner": {"width": 1}}
    assert apply_overrides(values, ["inner.width=2"]) == {"inner": {"width": 2}}
    assert values == {"inner": {"width": 1}}


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*no such file.*YAML"):
        read_yaml(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not a text file"):
        read_yaml(tmp_path / "binary.yaml")
    (tmp_path / "tab.yaml").write_text("name:\n\t- x")
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(tmp_path / "tab.yaml")


# --- include --------------------------------------------------------------------------------------------------------


def files(folder: Path, **texts: str) -> Path:
    """Write ``NAME.yaml`` files; return ``a.yaml``."""
    (folder / "sub").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name.replace('__', '/')}.yaml").write_text(text)
    return folder / "a.yaml"


def test_included_files_are_merged_and_later_values_win(tmp_path: Path) -> None:
    path = files(
        tmp_path,
        a="include: [sub/b.yaml, c.yaml]\nname: a\ninner: {rates: [9]}",
        sub__b="include: ../d.yaml\ninner: {width: 5}\nrate: 2",  # relative to its own folder
        c="rate: 3\nmode: exact",
        d="name: d\ninner: {width: 4, rates: [1, 2], pair: [7, 8]}\nlimit: 1",
    )
    assert load(path) == Outer("a", Inner(5, (9.0,), (7, 8)), 3.0, 1.0, None, "exact")
    changed = load(path, ["rate=4", "inner.width=6"])
    assert changed == Outer("a", Inner(6, (9.0,), (7, 8)), 4.0, 1.0, None, "exact")


def test_a_file_may_be_included_twice_but_not_by_itself(tmp_path: Path) -> None:
    path = files(
        tmp_path, a="include: [b.yaml, c.yaml]", b="include: d.yaml", c="include: d.yaml\nrate: 2", d="name: d"
    )
    assert load(path) == Outer("d", rate=2.0)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "include: a.yaml"}, r"a.yaml includes .*a.yaml; remove one of these includes"),
        (
            {"a": "include: b.yaml", "b": "include: sub/../a.yaml"},
            r"a.yaml includes .*b.yaml includes .*a.yaml; remove",
        ),
        ({"a": "include: no.yaml"}, r"no.yaml: there is no such file; .*a.yaml includes it"),
        ({"a": "include: 3"}, r"a.yaml: 'include' must be the name of a file or a list of them, got 3"),
        ({"a": "include: [b.yaml, {c: d}]"}, r"'include' must be the name"),
        ({"a": "include: b.yaml", "b": "- name"}, r"b.yaml: a configuration is a mapping"),
        ({"a": "include: b.yaml", "b": "name: [", "c": ""}, r"b.yaml, line 1: not valid YAML"),
        ({"a": "include: b.yaml\nname: x", "b": "inner: {widht: 3}"}, r"unknown key 'inner.widht'; did you mean"),
        ({"a": "name: x\ninner: {include: b.yaml}", "b": ""}, r"unknown key 'inner.include'"),
    ],
)
def test_wrong_includes_are_refused_in_one_line(texts: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(files(tmp_path, **texts))
    assert "\n" not in str(caught.value)


def test_includes_cannot_multiply(tmp_path: Path) -> None:
    """Forty files that include the next one twice would be read 2^40 times."""
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"include: [{number + 1}.yaml, {number + 1}.yaml]")
    (tmp_path / "40.yaml").write_text("name: x")
    with pytest.raises(UserError, match=r"0\.yaml: includes more than 100 files; include fewer"):
        read_yaml(tmp_path / "0.yaml")


def test_a_file_of_another_kind_or_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("#" * (2**20 + 1))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        read_yaml(tmp_path / "large.yaml")
    with pytest.raises(UserError, match="it is a folder"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="device, pipe or socket"):
        read_yaml("/dev/null")
    (tmp_path / "a.yaml").write_text("include: b.yaml")
    (tmp_path / "b.yaml").symlink_to("b.yaml")
    with pytest.raises(UserError, match="no file can have this name"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("override", [".".join("a" * 60) + "=1", "a\x1b[31m.b=1", "a.\0=1", "a=\ud800"])
def test_odd_overrides_are_one_printable_line(override: str) -> None:
    with pytest.raises(UserError, match="override") as caught:
        apply_overrides({"name": "x"}, [override])
    assert str(caught.value).isprintable()


def test_values_of_any_depth_and_kind_are_one_line() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    for value in (deep, {"a": deep}, {"rates": deep}, [{}], float("nan"), 10**400, b"x", {1: 2}):
        for key in ("name", "inner", "rate", "limit", "other", "mode", "shown", "x" * 100_000):
            with pytest.raises(UserError) as caught:
                build_config(Outer, {"name": "x", key: value}, "test")
            assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
