"""An OpenAI-compatible endpoint: a real small HTTP server on loopback, well and badly behaved."""

from __future__ import annotations

import base64
import email.utils
import io
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chat_server import ChatServer, Handler, chat_server
from PIL import Image

from tokengroups import example_scene
from tokengroups.errors import UserError
from tokengroups.grounding import Answerer, Question, ScenePictures, ground
from tokengroups.grounding import http as http_module
from tokengroups.grounding.endpoint import Endpoint, read_key
from tokengroups.grounding.http import Limits, check_address, is_exposed

QUESTION = Question("the red chair", 1, 1)
KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine stands between client and server."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits of the client, which take no time."""
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic, time=time.time)
    monkeypatch.setattr(http_module, "time", clock)  # of this module alone: the server's threads wait as well
    return slept


def ask(server: ChatServer, key: str | None = None, **limits: float) -> Endpoint:
    return Endpoint(server.url, "some-model", key, Limits(**limits))


def picture() -> torch.Tensor:
    return torch.linspace(0, 1, 48 * 64 * 3).reshape(48, 64, 3)


def failure(reply, key: str | None = KEY, **limits: float) -> tuple[str, ChatServer]:
    """The one line of an endpoint that does not answer, which never holds the key."""
    with chat_server(reply) as server, pytest.raises(UserError) as caught:
        ask(server, key, **limits).ask([picture()], QUESTION)
    line = str(caught.value)
    assert KEY not in line and line.isprintable() and len(line) < 700 and server.url in line
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    return line, server


def test_a_chat_with_pictures_goes_out_and_its_words_come_back():
    with chat_server(lambda handler, _: handler.say("Yes, it is.")) as server:
        endpoint = ask(server, KEY)
        assert isinstance(endpoint, Answerer) and KEY not in repr(endpoint.__dict__)
        answer = endpoint.ask([picture(), 1 - picture()], QUESTION)
    assert (answer.yes, answer.probability, answer.text, answer.malformed) == (True, None, "Yes, it is.", False)
    (request,) = server.requests
    assert server.paths == ["/v1/chat/completions"] and request["model"] == "some-model"
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    (message,) = request["messages"]
    assert message["role"] == "user" and message["content"][-1] == {"type": "text", "text": QUESTION.text}
    assert len(message["content"]) == 3
    for part, sent in zip(message["content"], (picture(), 1 - picture()), strict=False):
        head, _, data = part["image_url"]["url"].partition(",")
        assert part["type"] == "image_url" and head == "data:image/jpeg;base64"
        got = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) / 255
        assert got.shape == (48, 64, 3) and np.abs(got - sent.numpy()).mean() < 0.02


def test_without_a_key_none_is_sent():
    with chat_server(lambda handler, _: handler.say("no")) as server:
        assert not ask(server).ask([], QUESTION).yes
    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(waits: list[float], status: int):
    def reply(handler: Handler, number: int) -> None:
        handler.send({}, status) if number < 4 else handler.say("yes")

    with chat_server(reply) as server:
        assert ask(server).ask([], QUESTION).yes
    assert len(server.requests) == 4 and waits == [1, 2, 4]


def test_retry_after_is_honoured(waits: list[float]):
    later = email.utils.formatdate(time.time() + 20, usegmt=True)
    replies = iter(["7", later, "soon", "-3"])

    def reply(handler: Handler, number: int) -> None:
        handler.send({}, 429, Retry_After=next(replies)) if number < 5 else handler.say("yes")

    with chat_server(reply) as server:
        assert ask(server).ask([], QUESTION).yes
    assert waits[0] == 7 and 17 < waits[1] <= 20 and waits[2] in (1, 2, 4)  # "soon" is no time
    assert len(waits) == 3 and len(server.requests) == 5  # -3 s are over


@pytest.mark.parametrize("asked", ["3600", "1e400", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_too_long_a_wait_is_refused(waits: list[float], asked: str):
    line, server = failure(lambda handler, _: handler.send({}, 429, Retry_After=asked))
    assert "asks to wait" in line and len(server.requests) == 1 and waits == []


def test_an_endpoint_that_always_fails_is_one_line(waits: list[float]):
    line, server = failure(lambda handler, _: handler.send({"error": f"\x1b[2Joverloaded {KEY}"}, 500))
    assert "HTTP 500 after 5 attempts" in line and "***" in line and waits == [1, 2, 4, 8]
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "--key-env or --key-file"), (403, "--key-file"), (404, "--endpoint and --model"), (400, "takes pictures")],
)
def test_refusals_are_not_repeated(waits: list[float], status: int, advice: str):
    line, server = failure(lambda handler, _: handler.send({"error": {"message": f"bad key {KEY}"}}, status))
    assert f"HTTP {status}" in line and "bad key ***" in line and advice in line
    assert len(server.requests) == 1 and waits == []


def test_settings_that_a_model_refuses_are_left_out():
    def reply(handler: Handler, _: int) -> None:
        request = handler.server.requests[-1]
        wrong = next((name for name in ("max_tokens", "temperature") if name in request), None)
        handler.send({"error": f"Unsupported parameter: '{wrong}'"}, 400) if wrong else handler.say("yes")

    with chat_server(reply) as server:
        endpoint = ask(server)
        assert endpoint.ask([], QUESTION).yes and len(server.requests) == 3
        assert endpoint.ask([], QUESTION).yes and len(server.requests) == 4  # remembered
    assert server.requests[0]["temperature"] == 0 and server.requests[0]["max_tokens"] == 16


def test_a_slow_endpoint_is_one_line():
    start = time.monotonic()
    line, server = failure(lambda *_: time.sleep(1.5), timeout_s=0.3)
    assert "no complete response within 0.3 s" in line and len(server.requests) == 1
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_dripping_response_is_one_line(part: str):
    """Each byte comes in time, but the response has no end."""

    def reply(handler: Handler, _: int) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"" if part == "headers" else b"\r\n"))
        for _ in range(40):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    start = time.monotonic()
    line, _ = failure(reply, timeout_s=0.4)
    assert "no complete response within 0.4 s" in line and time.monotonic() - start < 4


def test_an_endless_body_is_cut():
    def reply(handler: Handler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " * 2**16)

    line, _ = failure(reply)
    assert "more than 1 MiB" in line


@pytest.mark.parametrize(
    "body",
    [
        b"<html>gateway</html>", b"", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b"7", b"null", b'{"choices": []}',
        b'{"choices": [{"message": {"content": {"x": 1}}}]}', b'{"choices": {"0": 1}}', b'{"error": "x"}',
        b'{"choices": [{"message": "yes"}]}', b'{"choices": [{"text": "yes"}]}',
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_chat_completion_is_one_line(body: bytes):
    line, server = failure(lambda handler, _: handler.send(body))
    assert "is it OpenAI-compatible?" in line and len(server.requests) == 1


def test_later_responses_of_the_wrong_form_count_as_no():
    scene = example_scene()

    def reply(handler: Handler, number: int) -> None:
        handler.say("yes") if number == 1 else handler.send(b"<html>oops</html>")

    with chat_server(reply) as server:
        result = ground(scene, "x", ask(server), ScenePictures(scene, size=64))
    assert result.ids == (1,) and len(result.malformed) == 2
    assert "2 of 3 answers" in result.notes()[0] and "<html>oops</html>" in result.notes()[0]


@pytest.mark.parametrize("content", ["I think so", "", None, "\x1b]0;evil\x07", "y" * 10_000, [], [{"text": 7}]])
def test_nonsense_counts_as_no(content):
    with chat_server(lambda handler, _: handler.say(content)) as server:
        answer = ask(server).ask([], QUESTION)
    assert not answer.yes and answer.malformed and answer.text.isprintable() and len(answer.text) <= 160


def test_words_in_parts_are_joined_and_the_key_is_hidden():
    with chat_server(lambda handler, _: handler.say([{"type": "text", "text": f"yes {KEY}"}])) as server:
        answer = ask(server, KEY).ask([], QUESTION)
    assert answer.yes and answer.text == "yes ***"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_does_not_get_the_key(status: int):
    with chat_server(lambda handler, _: handler.say("yes")) as other:
        place = other.url + "/chat/completions"
        line, server = failure(lambda handler, _: handler.send(b"", status, Location=place))
        assert other.requests == [] and len(server.requests) == 1
    assert f"redirects to {place}" in line


def test_a_lost_connection_is_tried_again_once_there_was_an_answer(waits: list[float]):
    def reply(handler: Handler, number: int) -> None:
        if number == 2:
            handler.connection.shutdown(socket.SHUT_RDWR)
        else:
            handler.say("yes")

    with chat_server(reply) as server:
        endpoint = ask(server)
        assert endpoint.ask([], QUESTION).yes and endpoint.ask([], QUESTION).yes
    assert len(server.requests) == 3 and waits == [1]
    line, _ = failure(lambda handler, _: handler.connection.shutdown(socket.SHUT_RDWR))
    assert "no connection" in line


def test_nobody_there_is_one_line(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match="no connection .*refused"):
        Endpoint(url, "m").ask([], QUESTION)

    def no_name(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(UserError, match="Name or service not known"):
        Endpoint("http://nowhere.invalid/v1", "m").ask([], QUESTION)


def test_requests_keep_their_distance_and_the_time_for_all_ends(monkeypatch: pytest.MonkeyPatch):
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(http_module, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0], time=time.time))
    with chat_server(lambda handler, _: handler.say("yes")) as server:
        endpoint = ask(server, requests_per_minute=20, total_s=8)
        for _ in range(3):
            endpoint.ask([], QUESTION)
        assert slept == [3, 3]
        with pytest.raises(UserError, match="longer than 8 s; give more time with --time-limit"):
            endpoint.ask([], QUESTION)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com/v1", "ftp://example.com", "file:///etc/passwd", "http://", "http://[::1", "http://a:b",
        "http://a b/", "http://a\n/", "http://ex\u00e4mple/", "javascript:1", "http://:80/",
    ],
)  # fmt: skip
def test_addresses_that_are_none_are_refused(url: str):
    with pytest.raises(UserError, match="begins with http"):
        check_address(url)


@pytest.mark.parametrize("secret", ["https://me:pa55@host/v1", "https://host/v1?key=pa55", "https://host/#pa55"])
def test_secrets_in_an_address_are_refused_and_not_repeated(secret: str):
    with pytest.raises(UserError) as caught:
        check_address(secret)
    assert "pa55" not in str(caught.value) and "--key-file" in str(caught.value)


def test_addresses():
    assert check_address("https://host:8443/v1/") == "https://host:8443/v1"
    with chat_server(lambda handler, _: handler.say("yes")) as server:
        Endpoint(f"{server.url}/chat/completions/", "m").ask([], QUESTION)
    assert server.paths == ["/v1/chat/completions"]
    assert is_exposed("http://example.com/v1") and not is_exposed("https://example.com/v1")
    assert not is_exposed("http://127.0.0.1:1/v1")


def test_keys_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TOKENGROUPS_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "not for everybody")
    assert read_key(None, None) is None
    monkeypatch.setenv("TOKENGROUPS_API_KEY", f" {KEY}\n")
    assert read_key(None, None) == KEY
    monkeypatch.setenv("OTHER", "other")
    assert read_key("OTHER", None) == "other"
    (tmp_path / "key").write_text(f"\ufeff{KEY}\n")
    assert read_key(None, tmp_path / "key") == KEY
    for content in ("", "two words", "secret\nheader: x", "k\u00e9y", "x" * 9000, "a\x00b"):
        (tmp_path / "key").write_text(content)
        with pytest.raises(UserError) as caught:
            read_key(None, tmp_path / "key")
        assert "holds no key" in str(caught.value) and (not content or content not in str(caught.value))
    with pytest.raises(UserError, match="the variable MISSING holds no key"):
        read_key("MISSING", None)
    with pytest.raises(UserError, match="no such file"):
        read_key(None, tmp_path / "none")
