"""A small HTTP server on loopback that answers chats as a script says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """Keeps what it was sent; `reply` writes each response."""

    daemon_threads = True

    def __init__(self, reply: Callable[[Handler, int], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        server = self.server
        server.times.append(time.monotonic())
        server.paths.append(self.path)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        server.reply(self, len(server.requests))

    def send(self, body: Any, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def say(self, text: Any) -> None:
        """A chat completion."""
        self.send({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def chat_server(reply: Callable[[Handler, int], None]) -> Iterator[ChatServer]:
    """Run a server while the block runs; `reply` gets the handler and the number of the request, from 1."""
    server = ChatServer(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
