"""Where the cache lies: with and without a home, and never where somebody else could have put files."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from tokengroups.io.cache import cache_folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's cache among the temporary files; there is no home."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", "/no/such/home")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / "temporary" / f"tokengroups-{os.getuid()}"


@pytest.mark.usefixtures("temporary")
def test_the_cache_lies_where_the_user_says_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tokengroups"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its specification
    assert cache_folder() == tmp_path / ".cache" / "tokengroups"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    assert cache_folder() == tmp_path / "new" / "cache" / "tokengroups"
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]  # nothing is made before it is needed


@pytest.mark.parametrize("home", ["/no/such/home", "relative", "{tmp_path}/file"])
def test_without_a_usable_home_the_cache_is_temporary_and_the_users_own(
    home: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", home.format(tmp_path=tmp_path))
    assert cache_folder() == temporary == cache_folder()
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700


def test_an_unknown_user_without_a_home_has_a_temporary_cache(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()
    assert cache_folder() == temporary


@pytest.mark.parametrize("kind", ["open to all", "a link", "a file"])
def test_no_cache_is_used_that_somebody_else_may_have_made(kind: str, temporary: Path, tmp_path: Path) -> None:
    """Compiled code is loaded from there."""
    if kind == "open to all":
        temporary.mkdir()
        temporary.chmod(0o777)
    elif kind == "a link":
        temporary.symlink_to(tmp_path)
    else:
        temporary.touch()
    assert cache_folder() is None
