"""The hub's cache, a network that is not there, and downloads that fail; no test reaches the network."""

from __future__ import annotations

import socket

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tokengroups.errors import UserError
from tokengroups.io.hub import hub_folder, is_hub_id, not_typed


def not_cached(*_args, **_kwargs):
    raise LocalEntryNotFoundError("not there\nsecond line")


def test_ids_are_told_from_paths():
    assert is_hub_id("facebook/VGGT-1B")
    assert not any(map(is_hub_id, ["./a", "/a/b", "~/a", "a", "a/b/c", "../a"]))


def test_what_is_cached_needs_no_network(monkeypatch, tmp_path):
    (tmp_path / "config.json").touch()

    def cached(hub_id, allow_patterns, local_files_only):
        assert (hub_id, allow_patterns, local_files_only) == ("a/b", ["*.json"], True)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert hub_folder("a/b", ["*.json"]) == tmp_path


def test_a_cache_without_the_wanted_file_does_not_count(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise OSError("unreachable")

    (tmp_path / "config.json").touch()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_args, **_kwargs: str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(UserError, match="not in the hub's cache"):
        hub_folder("a/b", ["model.safetensors", "*.json"])


def test_without_a_network_it_says_so_at_once(monkeypatch):
    def refuse(_address, timeout):
        assert timeout <= 5
        raise OSError("unreachable")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_cached)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(UserError, match=r"'a/b' is not in the hub's cache and huggingface\.co cannot be reached"):
        hub_folder("a/b", ["*"])


def test_a_failed_download_is_one_line(monkeypatch):
    class Connection:
        def close(self) -> None: ...

    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_cached)
    monkeypatch.setattr(socket, "create_connection", lambda *_args, **_kwargs: Connection())
    with pytest.raises(UserError, match="cannot download 'a/b': not there; check the id") as caught:
        hub_folder("a/b", ["*"])
    assert "\n" not in str(caught.value)


def test_a_malformed_id_is_one_line():
    with pytest.raises(UserError, match="is no hub id"):
        hub_folder("a b/..c", ["*"])


def test_an_id_from_a_file_is_said_in_one_printable_line():
    line = str(not_typed("text encoder", "evil/\x1b[2Jmodel\n", "--text-encoder ID"))
    assert line.isprintable() and "'evil/\\x1b[2Jmodel' of the model hub" in line and "--text-encoder ID" in line
