"""The server, asked over real connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import tokengroups as tg
from tokengroups.errors import UserError
from tokengroups.viewer import Session, pack_scene, server
from tokengroups.viewer.room import Room

pytest.importorskip("aiohttp", reason="the extra 'view' is not installed")
from aiohttp.test_utils import TestClient, TestServer  # noqa: E402

Client = Any


def ask(talk: Callable[[Client], Awaitable[None]], token: str | None = None) -> Room:
    """Talk to a server of the example scene."""
    room = Room(Session(tg.example_scene(), "room.safetensors"))

    async def connected() -> None:
        async with TestClient(TestServer(server.make_app(room, token))) as client:
            await asyncio.wait_for(talk(client), 30)

    asyncio.run(connected())
    return room


def test_page_scene_and_state() -> None:
    async def talk(client: Client) -> None:
        page = await client.get("/")
        assert page.status == 200 and page.content_type == "text/html" and "<!doctype html>" in await page.text()
        assert page.headers["Cache-Control"] == "no-store" and page.headers["Referrer-Policy"] == "no-referrer"
        scene = await client.get("/scene", headers={"Accept-Encoding": "gzip"}, auto_decompress=False)
        assert scene.headers["Content-Encoding"] == "gzip" and scene.headers["Tokengroups-Version"] == "0"
        assert gzip.decompress(await scene.read()) == pack_scene(tg.example_scene(), "room").data
        assert (await (await client.get("/state")).json())["version"] == 0
        assert (await (await client.get("/script")).json())["format"] == "tokengroups.edits"
        assert (await client.get("/nothing")).status == 404
        assert (await client.get("/edit")).status == 405

    ask(talk)


def test_every_browser_hears_of_every_change() -> None:
    async def talk(client: Client) -> None:
        one, two = await client.ws_connect("/events"), await client.ws_connect("/events")
        gone = await client.ws_connect("/events")
        await gone.close()
        for browser in (one, two):
            assert await browser.receive_json() == {"version": 0}
        answer = await client.post("/edit", json={"edits": [["remove", "box"]], "version": 0})
        assert answer.status == 200 and (await answer.json())["version"] == 1
        for browser in (one, two):
            assert await browser.receive_json() == {"version": 1}
        late = await client.post("/edit", json={"edits": [["remove", "ball"]], "version": 0})
        assert late.status == 409 and (await late.json())["choices"] == ["reload", "repeat"]
        await client.post("/undo", json={"version": 1})
        assert await one.receive_json() == {"version": 2}  # the refused edit was no change

    assert ask(talk).session.scene.group_names == ("floor", "box", "ball")


def test_edits_at_the_same_time_are_done_one_by_one() -> None:
    async def talk(client: Client) -> None:
        order = {"edits": [["duplicate", "ball"]], "version": 0}
        answers = await asyncio.gather(*(client.post("/edit", json=order) for _ in range(8)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 7

    assert ask(talk).version == 1


def test_foreign_pages_and_forms_are_refused() -> None:
    async def talk(client: Client) -> None:
        order = {"edits": [["remove", "box"]], "version": 0}
        foreign = {"Origin": "http://evil.org"}
        assert (await client.post("/edit", json=order, headers=foreign)).status == 403
        assert (await client.get("/scene", headers={"Host": "evil.org"})).status == 403
        assert (
            await client.post("/edit", data=json.dumps(order), headers={"Content-Type": "text/plain"})
        ).status == 415
        assert (
            await client.post("/edit", data=b" " * 100_000, headers={"Content-Type": "application/json"})
        ).status == 413
        with pytest.raises(Exception, match="403"):
            await client.ws_connect("/events", headers=foreign)

    assert ask(talk).version == 0


def test_with_a_token_only_who_has_it_is_answered() -> None:
    async def talk(client: Client) -> None:
        for path in ("/", "/scene", "/state", "/?token=wrong"):
            answer = await client.get(path)
            assert answer.status == 403 and "token" in (await answer.json())["error"]
        assert (await client.get("/state", params={"token": "secret"})).status == 200
        assert (await client.get("/state")).status == 403  # reading alone leaves no cookie
        page = await client.get("/", params={"token": "secret"})
        assert page.status == 200
        assert "HttpOnly" in page.headers["Set-Cookie"] and "SameSite=Strict" in page.headers["Set-Cookie"]
        cookies = {name: morsel.value for name, morsel in page.cookies.items()}
        answer = await client.post("/edit", json={"edits": [["remove", "box"]], "version": 0}, cookies=cookies)
        assert answer.status == 200

    assert ask(talk, token="secret").version == 1


def test_a_busy_port_takes_the_next_one() -> None:
    with server.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with server.bind("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] <= port + 20
    for host in ("192.0.2.1", "no such host", "x" * 300):
        with pytest.raises(UserError, match="cannot serve at .*; give another --host or --port"):
            server.bind(host, 8765)


def test_a_port_range_that_is_busy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MORE_PORTS", 0)
    with server.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"ports {port} to {port} are busy; give another --port"):
            server.bind("127.0.0.1", port)


def test_the_command_serves_until_ctrl_c_and_writes_nothing(tmp_path: Path) -> None:
    tg.save_scene(tmp_path / "room.safetensors", tg.example_scene())
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        command = [sys.executable, "-m", "tokengroups", "view", "room.safetensors", "--port", str(port)]
        paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert found and int(found[1]) > port, line
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/state", timeout=20) as answer:
                assert json.load(answer)["version"] == 0
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0 and "Traceback" not in errors
    assert f"port {port} is busy; this is port {found[1]}" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["room.safetensors"]
