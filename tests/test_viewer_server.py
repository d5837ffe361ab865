"""The server, asked over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tokengroups as tg
from tokengroups.editing import EmbedText
from tokengroups.errors import UserError
from tokengroups.types import TokenScene
from tokengroups.viewer import Session, pack_scene, server
from tokengroups.viewer.access import LOCAL, Access
from tokengroups.viewer.room import Room

pytest.importorskip("aiohttp", reason="the extra 'view' is not installed")
from aiohttp import web  # noqa: E402
from aiohttp.test_utils import TestClient, TestServer  # noqa: E402

Client = Any


async def iterate(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def ask(talk: Callable[[Client], Awaitable[None]], access: Access = LOCAL, embed: EmbedText | None = None) -> Room:
    """Talk to a server of the example scene."""
    room = Room(Session(tg.example_scene(), "room.safetensors"), embed=embed)

    async def connected() -> None:
        async with TestClient(TestServer(server.make_app(room, access))) as client:
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
        for path, status, error in (("/nothing", 404, "Not Found"), ("/edit", 405, "Method Not Allowed")):
            answer = await client.get(path)
            assert answer.status == status and error in (await answer.json())["error"]

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
        json_header = {"Content-Type": "application/json"}
        for body in (b" " * 100_000, iterate([b" " * 40_000, b" " * 40_000])):  # with its length, and in pieces
            large = await client.post("/edit", data=body, headers=json_header)
            assert large.status == 413 and "65536" in (await large.json())["error"]
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

    assert ask(talk, Access("secret")).version == 1


def test_behind_a_proxy_its_page_works_and_the_cookie_is_for_its_folder() -> None:
    async def talk(client: Client) -> None:
        page = await client.get("/", params={"token": "secret"})
        assert page.status == 200 and "Path" not in page.headers["Set-Cookie"]
        cookies = {name: morsel.value for name, morsel in page.cookies.items()}
        for origin, status in (("https://hub.org", 200), ("https://evil.org", 403), ("http://hub.org", 403)):
            order = {"edits": [["duplicate", "box"]], "version": 0}
            answer = await client.post("/edit", json=order, cookies=cookies, headers={"Origin": origin})
            assert answer.status == status

    assert ask(talk, Access("secret", "https://hub.org")).version == 1


# --- slow, impolite and absent clients ------------------------------------------------------------------------------


class SlowEncoder:
    """Blocks until it may go on, as while an encoder is loaded."""

    def __init__(self) -> None:
        self.asked, self.go_on, self.at_work = threading.Event(), threading.Event(), 0

    def __call__(self, scene: TokenScene, _text: str) -> torch.Tensor:
        assert scene.semantics is not None
        self.at_work += 1
        assert self.at_work == 1  # one at a time
        self.asked.set()
        assert self.go_on.wait(20)
        self.at_work -= 1
        return scene.semantics.embeddings[2]


def test_while_the_encoder_is_loaded_all_else_is_answered() -> None:
    encoder = SlowEncoder()

    async def talk(client: Client) -> None:
        question = {"text": "something round", "version": 0}
        waiting = [asyncio.create_task(client.post("/query", json=question)) for _ in range(2)]
        await asyncio.to_thread(encoder.asked.wait, 20)
        assert (await client.get("/scene")).status == 200
        assert (await client.post("/edit", json={"edits": [["rename", "box", "crate"]], "version": 0})).status == 200
        assert (await (await client.get("/state")).json())["version"] == 1
        assert not any(task.done() for task in waiting)
        encoder.go_on.set()
        answers = sorted(await asyncio.gather(*waiting), key=lambda answer: answer.status)
        assert [answer.status for answer in answers] == [200, 409]  # the second one has become stale
        assert answers[0].headers["Tokengroups-Version"] == "0"
        assert (await answers[0].json())["matches"][0]["id"] == 3

    assert ask(talk, embed=encoder).version == 1


def test_during_a_slow_edit_readers_see_the_scene_before_and_other_edits_wait() -> None:
    encoder = SlowEncoder()

    async def talk(client: Client) -> None:
        slow = asyncio.create_task(client.post("/edit", json={"edits": [["remove", "something round"]], "version": 0}))
        await asyncio.to_thread(encoder.asked.wait, 20)
        other = asyncio.create_task(client.post("/edit", json={"edits": [["remove", "box"]], "version": 0}))
        state = await client.get("/state")
        assert (await state.json())["version"] == 0 and state.headers["Tokengroups-Version"] == "0"
        await asyncio.sleep(0.05)
        assert not other.done()
        encoder.go_on.set()
        assert ((await slow).status, (await other).status) == (200, 409)

    assert ask(talk, embed=encoder).session.scene.group_names == ("floor", "box")


def test_a_client_that_goes_away_does_no_harm() -> None:
    """In the middle of an order, which is not carried out then, and before the answer."""

    async def talk(client: Client) -> None:
        order = json.dumps({"edits": [["duplicate", "box"]], "version": 0}).encode()
        head = b"POST /edit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        for body in (order[:-1], order):
            _, writer = await asyncio.open_connection(client.host, client.port)
            writer.write(head % len(order) + body)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
        for _ in range(100):
            state = await (await client.get("/state")).json()
            if state["version"] == 1:
                break
            await asyncio.sleep(0.02)
        assert [step["edits"] for step in state["steps"]] == [[["duplicate", "box"]]]

    assert ask(talk).version == 1


def test_a_browser_that_takes_no_messages_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose buffers are full (sending to it blocks), and one that has never read nor says good-bye."""
    stuck: list[Any] = []
    silent: list[Any] = []  # stays connected
    send = web.WebSocketResponse.send_json

    async def send_json(connection: web.WebSocketResponse, content: Any) -> None:
        if not stuck:
            stuck.append(connection)
        if stuck == [connection]:
            await asyncio.sleep(3600)
        await send(connection, content)

    monkeypatch.setattr(web.WebSocketResponse, "send_json", send_json)

    async def talk(client: Client) -> None:
        await client.ws_connect("/events")
        browser = await client.ws_connect("/events")
        assert stuck and await browser.receive_json() == {"version": 0}
        silent.extend(await asyncio.open_connection(client.host, client.port))
        head = "GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        silent[1].write((head + key).encode())
        await silent[1].drain()
        for version in range(3):
            order = {"edits": [["duplicate", "2"]], "version": version}
            assert (await client.post("/edit", json=order)).status == 200
            assert await browser.receive_json() == {"version": version + 1}

    start = time.monotonic()
    assert ask(talk).version == 3
    assert time.monotonic() - start < 8  # at the end nobody waits for the two, either


def test_a_busy_port_takes_the_next_one() -> None:
    with server.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with server.bind("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] <= port + 20
    for host in ("192.0.2.1", "no such host", "x" * 300):
        with pytest.raises(UserError, match="cannot serve at .*; give another --host or --port"):
            server.bind(host, 8765)


def test_ports_that_are_all_busy_are_said() -> None:
    with server.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is busy; give another --port"):
            server.bind("127.0.0.1", port, more=0)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # somebody else's
                stack.enter_context(socket.create_server(("127.0.0.1", port + 1)))
            with pytest.raises(UserError, match=f"ports {port} to {port + 1} are busy; give another --port"):
                server.bind("127.0.0.1", port, more=1)


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


def test_answers_use_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else most take twice as long; what was looked at before, all of a scene, uses them all."""
    used: list[int] = []
    monkeypatch.setattr(web, "run_app", lambda *_args, **_options: used.append(torch.get_num_threads()))
    monkeypatch.setattr(server.gc, "freeze", lambda: None)
    threads = torch.get_num_threads()
    try:
        with socket.socket() as place:
            server.serve(Room(Session(tg.example_scene(), "a.safetensors")), place)
    finally:
        torch.set_num_threads(threads)
    assert used == [1]
