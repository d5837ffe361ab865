"""`tokengroups view`, as a user types it."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from scenes import random_scene

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.cli import view
from tokengroups.cli.main import main
from tokengroups.scene import save_scene
from tokengroups.viewer import server
from tokengroups.viewer.access import Access
from tokengroups.viewer.room import Room


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    save_scene(tmp_path / "my room.safetensors", random_scene())
    return tmp_path / "my room.safetensors"


def run(*words: object) -> int:
    return main(["view", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "tokengroups view scene.safetensors --html room.html" in capsys.readouterr().out


def test_it_writes_one_page(scene_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = scene_file.parent / "room.html"
    assert run(scene_file, "--html", page) == 0
    captured = capsys.readouterr()
    assert captured.out == f"wrote {page} (24 Gaussians, {page.stat().st_size / 1e6:.1f} MB); open it in a browser\n"
    assert captured.err == ""
    assert "<title>my room</title>" in page.read_text()
    assert sorted(path.name for path in page.parent.iterdir()) == ["my room.safetensors", "room.html"]


def test_fewer_gaussians_are_noted(
    scene_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = scene_file.parent / "room.html"
    assert run(scene_file, "--html", page, "--max-gaussians", 10) == 0
    assert "the page shows 10 Gaussians of 24" in capsys.readouterr().err
    monkeypatch.setattr(view, "MANY", 20)
    assert run(scene_file, "--html", page) == 0
    noted = capsys.readouterr().err
    assert noted.count("\n") == 1 and noted.startswith(
        "note: 24 Gaussians make a page of about 0 MB, take about 0.0 GB"
    )
    assert noted.endswith("--max-gaussians 20 shows the largest\n")


def header(page: Path) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="text/plain"[^>]*>([^<]*)</script>', page.read_text())
    packed = gzip.decompress(base64.b64decode(data))
    return json.loads(packed[8 : 8 + int.from_bytes(packed[4:8], "little")])


def test_photos_are_given_or_beside_the_scene_or_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, photos, frames = tmp_path / "room.html", tmp_path / "photos", tmp_path / "scene_frames"
    photos.mkdir()
    for name in ("b.png", "a.png"):
        Image.new("RGB", (64, 48), "teal").save(photos / name)
    scene = random_scene()
    rows = [{"name": name, "size_hw": [48, 64], "crop_box": [0, 0, 64, 48]} for name in ("b.png", "a.png")]
    save_scene(tmp_path / "scene.safetensors", replace(scene, provenance={"photos": rows}))
    words = (tmp_path / "scene.safetensors", "--html", page)
    assert run(*words) == 0
    assert (
        capsys.readouterr().err == "note: without photos; --photos PHOTO|DIR shows those that the scene was made from\n"
    )
    assert all("photo" not in camera for camera in header(page)["cameras"])
    assert run(*words, "--photos", photos) == 0 and capsys.readouterr().err == ""
    assert all(camera["photo"].startswith("data:image/jpeg;base64,") for camera in header(page)["cameras"])
    photos.rename(frames)
    assert run(*words) == 0 and capsys.readouterr().err == f"note: the photos are those in {frames}\n"
    assert all("photo" in camera for camera in header(page)["cameras"])
    Image.new("RGB", (48, 48)).save(frames / "a.png")
    assert run(*words) == 0 and "note: without photos" in capsys.readouterr().err
    assert "a.png: 48x48 pixels, but the scene was made from 64x48" in refused(capsys, *words, "--photos", frames)
    assert "no photo of the name 'a.png'" in refused(capsys, *words, "--photos", frames / "b.png")


def test_bad_input_is_one_line_and_changes_nothing(scene_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = scene_file.parent, scene_file.parent / "room.html"
    page.write_text("of an earlier call")
    before = scene_file.read_bytes()
    assert "ends in .html" in refused(capsys, scene_file, "--html", scene_file)
    assert "there is no folder" in refused(capsys, scene_file, "--html", folder / "none" / "room.html")
    assert "there is no such file" in refused(capsys, folder / "missing.safetensors", "--html", page)
    assert "must be at least 1" in refused(capsys, scene_file, "--html", page, "--max-gaussians", 0)
    tensors = read_tensors(scene_file)
    tensors["means"][0, 0] = torch.nan
    metadata = {key: value for key, value in read_metadata(scene_file).items() if key != "digest"}
    write_tensors(folder / "nan.safetensors", tensors, metadata)
    assert "NaN" in refused(capsys, folder / "nan.safetensors", "--html", page)
    for name in ("means", "quats", "scales", "opacities", "sh", "anchor_ids"):
        tensors[name] = tensors[name][:0].clone()
    write_tensors(folder / "none.safetensors", tensors, metadata)
    assert "it has no Gaussian" in refused(capsys, folder / "none.safetensors", "--html", page)
    (folder / "none.safetensors").unlink()
    assert page.read_text() == "of an earlier call" and scene_file.read_bytes() == before


# --- serving --------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Access]:
    """Who could have asked the servers that would have run."""
    pytest.importorskip("aiohttp", reason="the extra 'view' is not installed")
    served: list[Access] = []

    def serve(room: Room, _place: object, access: Access) -> None:
        assert room.embed is not None
        served.append(access)

    monkeypatch.setattr(server, "serve", serve)
    return served


def test_it_serves_on_this_machine_only(
    scene_file: Path, capsys: pytest.CaptureFixture[str], served: list[Access]
) -> None:
    assert run(scene_file, "--max-gaussians", 10) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"serving .*my room.safetensors at http://127.0.0.1:\d+/  \(Ctrl-C ends\)\n", captured.out)
    assert "the page shows 10 Gaussians of 24" in captured.err and "token" not in captured.err
    assert served == [Access()]


def test_other_addresses_warn_and_need_a_token(
    scene_file: Path, capsys: pytest.CaptureFixture[str], served: list[Access]
) -> None:
    for _ in range(2):
        assert run(scene_file, "--host", "0.0.0.0") == 0
    captured = capsys.readouterr()
    assert "with --host 0.0.0.0 all who reach this machine and have the address below can see and edit" in captured.err
    tokens = [access.token for access in served]
    assert len(set(tokens)) == 2 and all(token and len(token) > 20 for token in tokens)
    assert [line.split("?token=")[1].split()[0] for line in captured.out.splitlines()] == tokens


def test_behind_a_proxy_it_prints_the_proxys_address_and_needs_a_token(
    scene_file: Path, capsys: pytest.CaptureFixture[str], served: list[Access]
) -> None:
    assert run(scene_file, "--url", "https://hub.example.org/user/me/proxy/8765") == 0
    captured = capsys.readouterr()
    (access,) = served
    assert access.origin == "https://hub.example.org" and access.token
    assert f" at https://hub.example.org/user/me/proxy/8765/?token={access.token} " in captured.out
    assert "--host" not in captured.err
    assert "give the address at which the proxy" in refused(capsys, scene_file, "--url", "hub.example.org")
    with server.bind("127.0.0.1", 0) as busy:
        port = busy.getsockname()[1]
        line = refused(capsys, scene_file, "--url", f"https://hub.example.org/proxy/{port}/", "--port", port)
        assert f"port {port} is busy; give another --port" in line  # the proxy would ask somebody else's server


def test_without_aiohttp_one_line_says_what_to_install(
    scene_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    line = refused(capsys, scene_file)
    assert "serving a page needs aiohttp: pip install 'tokengroups[view]'; --html writes a page" in line


def test_what_cannot_be_served_is_refused(
    scene_file: Path, capsys: pytest.CaptureFixture[str], served: list[Access]
) -> None:
    for option in ("--port", "--host", "--url", "--text-encoder"):
        line = refused(capsys, scene_file, "--html", "a.html", option, 9000)
        assert f"--html writes the page, and {option} is for serving it" in line
    assert "cannot read none.safetensors" in refused(capsys, "none.safetensors")
    assert "cannot serve at no such host" in refused(capsys, scene_file, "--host", "no such host")
    assert served == []
