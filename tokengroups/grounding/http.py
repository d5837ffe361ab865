"""Posts of JSON to one address: bounded in time and size, repeated where that helps, and silent about the key."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import queue
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tokengroups.errors import UserError
from tokengroups.reading import shown

T = TypeVar("T")
_MOST_BYTES = 2**20  # of a response
_ATTEMPTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0  # before the next attempt
_EXCERPT = 160  # characters of a response in messages
_TRY_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
_HIDDEN = "***"


class NotAnswered(Exception):
    """There was no usable response; the message says why, without the key."""


class WrongForm(Exception):
    """A response of the wrong form; the message says how, without the key."""


class Refused(Exception):
    """A response with an error status that asking again would not change."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body}" if body else f"HTTP {status}")
        self.status, self.body = status, body


@dataclass(frozen=True)
class Limits:
    """Bounds of the traffic; seconds."""

    timeout_s: float = 60.0  # of one response
    total_s: float = 1800.0  # of all, with the waits between them
    requests_per_minute: float | None = None  # None = as fast as the endpoint answers


@dataclass
class JsonPoster:
    """Sends JSON to an address and returns the JSON that comes back.

    Redirects are not followed: they could lead the key to another host. Statuses such as 429 and 503 are tried again,
    after the time in ``Retry-After`` or else after 1, 2, 4, ... s; so are lost connections once there was a response.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._end: float | None = None  # when the time for all is over
        self._next = 0.0  # earliest time of the next request
        self._answered = False

    def post(self, content: Any) -> Any:
        """Send a value as JSON.

        Raises:
            NotAnswered: No response in time, no connection, or "try again" too often or for too long.
            WrongForm: A response that is too long, or no JSON.
            Refused: Another error status.
            UserError: The time for all is over.
        """
        data = json.dumps(content).encode()
        wait = _FIRST_WAIT_S
        for attempt in range(1, _ATTEMPTS + 1):
            self._take_turn()
            status, headers, body = self._try(data, last=attempt == _ATTEMPTS)
            if 200 <= status < 300:
                self._answered = True
                return self._parsed(body)
            if 300 <= status < 400:
                place = self.visible(headers.get("location") or "elsewhere")
                raise NotAnswered(f"it redirects to {place}; give the address itself if you trust it")
            if status not in _TRY_AGAIN and status != 0:
                raise Refused(status, self.visible(body.decode("utf-8", "replace")))
            what = f"HTTP {status}" if status else "a lost connection"
            asked = _retry_after(headers.get("retry-after"))
            if attempt == _ATTEMPTS:
                raise NotAnswered(f"{what} after {attempt} attempts: {self.visible(body.decode('utf-8', 'replace'))}")
            if asked is not None and asked > _LONGEST_WAIT_S:
                raise NotAnswered(f"{what}, and it asks to wait for {asked:.0f} s; try again later")
            self._sleep(asked if asked is not None else wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
        raise AssertionError("the last attempt returns or raises")

    def visible(self, text: str) -> str:
        """Text as messages may show it: on one line, short, and without the key."""
        text = text if self.key is None else text.replace(self.key, _HIDDEN)
        text = shown(text)
        return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 3]}..."

    def _try(self, data: bytes, last: bool) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case and body; status 0 = a connection that was lost and may come back."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "tokengroups"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, data, headers, method="POST")
        seconds = min(self.limits.timeout_s, self._left())

        def exchange() -> tuple[int, dict[str, str], bytes]:
            try:
                response = self._opener.open(request, timeout=seconds)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                found = {name.lower(): value for name, value in response.headers.items()}
                return response.status or 0, found, response.read(_MOST_BYTES + 1)

        try:
            return _within(seconds, exchange)
        except TimeoutError:
            raise NotAnswered(f"no complete response within {seconds:.3g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise NotAnswered(f"no connection within {seconds:.3g} s") from None
            if not self._answered or last or isinstance(reason, ssl.SSLError):
                name = self.visible(str(reason)) or type(reason).__name__
                raise NotAnswered(f"no connection ({name})") from None
            return 0, {}, b""

    def _parsed(self, body: bytes) -> Any:
        if len(body) > _MOST_BYTES:
            raise WrongForm(f"a response of more than {_MOST_BYTES // 2**20} MiB")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise WrongForm(f"a response that is no JSON: '{self.visible(body.decode('utf-8', 'replace'))}'") from None

    def _take_turn(self) -> None:
        """Wait until the next request is allowed."""
        self._sleep(self._next - time.monotonic())
        if self.limits.requests_per_minute is not None:
            self._next = time.monotonic() + 60 / self.limits.requests_per_minute

    def _sleep(self, seconds: float) -> None:
        if seconds >= self._left():
            raise self._too_late()
        if seconds > 0:
            time.sleep(seconds)

    def _left(self) -> float:
        """Seconds of the time for all; it begins with the first request."""
        now = time.monotonic()
        self._end = now + self.limits.total_s if self._end is None else self._end
        if now >= self._end:
            raise self._too_late()
        return self._end - now

    def _too_late(self) -> UserError:
        what = f"the questions take longer than {self.limits.total_s:g} s"
        return UserError(f"{what}; give more time with --time-limit, or a higher --requests-per-minute")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects as they are."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Build no request."""


def check_address(url: str) -> str:
    """An http(s) address without a trailing slash, a name, a password, a query or a fragment.

    Raises:
        UserError: It is none. What could be a secret is not repeated.
    """
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise UserError("--endpoint: leave name, password, ? and # out of the address; keys come from --key-file")
        host, _ = parts.hostname, parts.port  # ValueError for a port that is no number
        printable = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme in ("http", "https") and host and printable:
            return url.rstrip("/")
    example = "http://127.0.0.1:8000/v1"
    raise UserError(f"--endpoint {shown(url)}: give an address that begins with http:// or https://, such as {example}")


def is_exposed(url: str) -> bool:
    """Whether a key would travel unencrypted over a network."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def _retry_after(value: str | None) -> float | None:
    """Seconds in a ``Retry-After`` header, which has a number or a date; None = nothing usable."""
    if value is None:
        return None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        seconds = float(value)
        return max(seconds, 0.0) if seconds == seconds else None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    return None


def _within(seconds: float, action: Callable[[], T]) -> T:
    """Result of an action; a thread does it, for neither a name server nor a dripping body keeps to socket timeouts.

    Raises:
        TimeoutError: It takes longer. The thread goes on, and does not keep the process from ending.
    """
    done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((action(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
