"""HTTP server of a shared scene, by aiohttp (extra ``view``). docs/view.md has the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib.util
import socket
from typing import TYPE_CHECKING, Any

import torch

from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.viewer.access import LOCAL, Access
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


def bind(host: str, port: int, more: int = _MORE_PORTS) -> socket.socket:
    """Take a port, or the next one that is free, of so many more; 0 = any.

    Raises:
        UserError: None is free, or the address is not this machine's.
    """
    last = min(port + more, 65535) if port else 0
    try:
        for candidate in range(port, last + 1):
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            with contextlib.suppress(OSError) if candidate < last else contextlib.nullcontext():
                return socket.create_server((host, candidate), family=family)
    except (OSError, UnicodeError) as error:
        busy = getattr(error, "errno", None) == errno.EADDRINUSE
        ports = f"ports {port} to {last} are" if last > port else f"port {port} is"
        cure = f"{ports} busy; give another --port" if busy else "give another --host or --port"
        raise UserError(f"cannot serve at {shown(host)}, port {last}: {shown(error)}; {cure}") from error
    raise AssertionError("the last port is taken or raises")


class _Desk:
    """The handlers of a room. Reading, questions and orders wait for their like only; every browser hears of changes.

    So an encoder that is being loaded holds up neither orders nor who looks at the scene.
    """

    def __init__(self, room: Room, access: Access) -> None:
        self.room, self.access = room, access
        self.reading, self.asking, self.ordering = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self.changed = asyncio.Condition()
        self.sockets: set[web.WebSocketResponse] = set()

    def refuse(self, request: web.Request) -> web.Response | None:
        """Answer whoever may not ask; None = go on."""
        given = request.query.get("token") or request.cookies.get(_COOKIE)
        reason = self.access.refusal(request.headers.get("Host"), request.headers.get("Origin"), given)
        return None if reason is None else _response(refused(reason, 403))

    async def show(self, request: web.Request) -> web.Response:
        """Answer who reads."""
        async with self.reading:
            response = _response(await asyncio.to_thread(self.room.get, request.path))
        if self.access.token is not None and request.path == "/":  # scripts of the page need not know it
            # Without a path it is for where the page is: a proxy may serve other people's beside it.
            response.set_cookie(_COOKIE, self.access.token, path="", httponly=True, samesite="Strict")
        return response

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a question."""
        return await self._post(request, self.asking)

    async def obey(self, request: web.Request) -> web.Response:
        """Carry out an order."""
        done = await self._post(request, self.ordering)
        async with self.changed:
            self.changed.notify_all()
        return done

    async def _post(self, request: web.Request, turn: asyncio.Lock) -> web.Response:
        if request.content_type != "application/json":  # which foreign pages cannot send unasked
            return _response(refused("send application/json", 415))
        body = await request.read()
        async with turn:
            return _response(await asyncio.to_thread(self.room.post, request.path, body))

    async def events(self, request: web.Request) -> web.WebSocketResponse:
        """Tell one browser the version, now and after changes."""
        from aiohttp import web

        connection = web.WebSocketResponse(heartbeat=30, max_msg_size=1024)
        await connection.prepare(request)
        self.sockets.add(connection)
        telling = asyncio.create_task(self._tell(connection))
        try:
            async for _ in connection:
                pass  # browsers only listen
        finally:
            telling.cancel()
            self.sockets.discard(connection)
        return connection

    async def _tell(self, connection: web.WebSocketResponse) -> None:
        """Send versions; who does not take them holds nobody up, and gets the newest one later."""
        with contextlib.suppress(ConnectionError):  # gone meanwhile
            while True:
                version = self.room.version
                await connection.send_json({"version": version})
                async with self.changed:
                    await self.changed.wait_for(lambda told=version: self.room.version != told)

    async def close(self, _app: web.Application) -> None:
        """Say good-bye to all browsers, without waiting for those that do not listen."""
        for connection in list(self.sockets):
            await connection.close(code=1001, message=b"the server ends", drain=False)


def make_app(room: Room, access: Access = LOCAL) -> web.Application:
    """Make the application that answers for a room whoever has access."""
    from aiohttp import web

    desk = _Desk(room, access)

    @web.middleware
    async def guard(request: Any, handler: Any) -> Any:
        try:
            refusal = desk.refuse(request)
            return await handler(request) if refusal is None else refusal
        except web.HTTPException as error:  # no such path, too long a body
            return _response(refused(error.text or error.reason, error.status))

    app = web.Application(middlewares=[guard], client_max_size=_LARGEST_BODY)
    for paths, handler in zip(room.paths, (desk.show, desk.answer, desk.obey), strict=True):
        add = web.get if handler == desk.show else web.post
        app.add_routes([add(path, handler) for path in paths])
    app.add_routes([web.get("/events", desk.events)])
    app.on_shutdown.append(desk.close)
    return app


def serve(room: Room, place: socket.socket, access: Access = LOCAL) -> None:
    """Answer until Ctrl-C, and then end at once."""
    from aiohttp import web

    gc.freeze()  # what lives as long as the server: else a collection passes over it, 0.1 s within some request
    # Each thread that answers has helpers of its own. More helpers than cores sleep between operations, and those of
    # an answer are small: waking them takes longer than they save.
    torch.set_num_threads(1)
    web.run_app(make_app(room, access), sock=place, print=None, access_log=None, shutdown_timeout=1.0)


def _response(answer: Answer) -> web.Response:
    from aiohttp import web

    encoding = {"Content-Encoding": "gzip"} if answer.zipped else {}
    charset = None if answer.zipped else "utf-8"
    version = {} if answer.version is None else {"Tokengroups-Version": str(answer.version)}
    headers = _HEADERS | encoding | version
    return web.Response(
        body=answer.body, status=answer.status, headers=headers, content_type=answer.kind, charset=charset
    )
