"""HTTP server of a shared scene, by aiohttp (extra ``view``). docs/view.md has the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import socket
from typing import TYPE_CHECKING, Any

from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.viewer.access import refusal
from tokengroups.viewer.room import Answer, Room, refused

if TYPE_CHECKING:
    from aiohttp import web

INSTALL = "pip install 'tokengroups[view]'"
_MORE_PORTS = 20  # tried where one is busy
_LARGEST_BODY = 2**16  # bytes of an order
_COOKIE = "tokengroups"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def check_installed() -> None:
    """Raise `UserError` where aiohttp is missing."""
    if importlib.util.find_spec("aiohttp") is None:
        raise UserError(f"serving a page needs aiohttp: {INSTALL}; --html writes a page that needs no server")


def bind(host: str, port: int) -> socket.socket:
    """Take a port, or the next one that is free; 0 = any.

    Raises:
        UserError: None is free, or the address is not this machine's.
    """
    last = min(port + _MORE_PORTS, 65535) if port else 0
    try:
        for candidate in range(port, last + 1):
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            with contextlib.suppress(OSError) if candidate < last else contextlib.nullcontext():
                return socket.create_server((host, candidate), family=family)
    except (OSError, UnicodeError) as error:
        busy = getattr(error, "errno", None) == errno.EADDRINUSE
        cure = f"ports {port} to {last} are busy; give another --port" if busy else "give another --host or --port"
        raise UserError(f"cannot serve at {shown(host)}, port {last}: {shown(error)}; {cure}") from error
    raise AssertionError("the last port is taken or raises")


class _Desk:
    """The handlers of a room: one request at a time reads or changes it, and changes are told to all browsers."""

    def __init__(self, room: Room, token: str | None) -> None:
        self.room, self.token = room, token
        self.lock = asyncio.Lock()
        self.sockets: set[web.WebSocketResponse] = set()

    def refuse(self, request: web.Request) -> web.Response | None:
        """Answer whoever may not ask; None = go on."""
        given = request.query.get("token") or request.cookies.get(_COOKIE)
        headers = request.headers
        reason = refusal(headers.get("Host"), headers.get("Origin"), given, self.token)
        return None if reason is None else _response(refused(reason, 403))

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a question."""
        async with self.lock:
            response = _response(await asyncio.to_thread(self.room.get, request.path))
            response.headers["Tokengroups-Version"] = str(self.room.version)
        if self.token is not None and request.path == "/":  # scripts of the page need not know it
            response.set_cookie(_COOKIE, self.token, httponly=True, samesite="Strict")
        return response

    async def obey(self, request: web.Request) -> web.Response:
        """Carry out an order."""
        if request.content_type != "application/json":  # which foreign pages cannot send unasked
            return _response(refused("send application/json", 415))
        body = await request.read()
        async with self.lock:
            before = self.room.version
            done = await asyncio.to_thread(self.room.post, request.path, body)
            if self.room.version != before:
                await self._tell()
        return _response(done)

    async def events(self, request: web.Request) -> web.WebSocketResponse:
        """Tell one browser the version, now and after every change."""
        from aiohttp import web

        connection = web.WebSocketResponse(heartbeat=30, max_msg_size=1024)
        await connection.prepare(request)
        self.sockets.add(connection)
        try:
            await connection.send_json({"version": self.room.version})
            async for _ in connection:
                pass  # browsers only listen
        finally:
            self.sockets.discard(connection)
        return connection

    async def close(self, _app: web.Application) -> None:
        """Say good-bye to all browsers."""
        for connection in list(self.sockets):
            await connection.close(code=1001, message=b"the server ends")

    async def _tell(self) -> None:
        for connection in list(self.sockets):
            with contextlib.suppress(ConnectionError):  # gone meanwhile
                await connection.send_json({"version": self.room.version})


def make_app(room: Room, token: str | None = None) -> web.Application:
    """Make the application that answers for a room; with a token, only whoever has it is answered."""
    from aiohttp import web

    desk = _Desk(room, token)

    @web.middleware
    async def guard(request: Any, handler: Any) -> Any:
        response = desk.refuse(request)
        return await handler(request) if response is None else response

    app = web.Application(middlewares=[guard], client_max_size=_LARGEST_BODY)
    gets, posts = room.paths
    app.add_routes([web.get(path, desk.answer) for path in gets])
    app.add_routes([web.post(path, desk.obey) for path in posts])
    app.add_routes([web.get("/events", desk.events)])
    app.on_shutdown.append(desk.close)
    return app


def serve(room: Room, place: socket.socket, token: str | None = None) -> None:
    """Answer until Ctrl-C, and then end at once."""
    from aiohttp import web

    web.run_app(make_app(room, token), sock=place, print=None, access_log=None, shutdown_timeout=1.0)


def _response(answer: Answer) -> web.Response:
    from aiohttp import web

    encoding = {"Content-Encoding": "gzip"} if answer.zipped else {}
    charset = None if answer.zipped else "utf-8"
    headers = _HEADERS | encoding
    return web.Response(
        body=answer.body, status=answer.status, headers=headers, content_type=answer.kind, charset=charset
    )
