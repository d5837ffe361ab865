"""Who may ask the server: pages of its own only, and from other machines only with its token."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tokengroups.errors import UserError
from tokengroups.reading import shown

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}  # that origins leave out


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a server at an address.

    Example:
        >>> from tokengroups.viewer.access import is_loopback
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """What a request needs. Without a token the server serves this machine only."""

    token: str | None = field(default=None, repr=False)
    origin: str | None = None  # of the page at a proxy's address, which the token must go with

    def refusal(self, host: str | None, origin: str | None, given: str | None) -> str | None:
        """Say why a request is refused; None if it is not.

        A page of somebody else's that is open in the same browser can send requests here: its `origin` tells. By a
        name of its own that points to this machine it could pass for a page of ours (DNS rebinding): the name tells.
        Ports are free, as others forward them (SSH).

        Args:
            host: The request's header, with or without a port.
            origin: That header of browsers; None where they send none, as with plain reading, and other programs.
            given: The token in the request.
        """
        try:
            name = urlsplit(f"//{host}").hostname if host else None
            place = urlsplit(origin).netloc if origin else host
        except ValueError:
            return "a malformed Host or Origin"
        if self.token is None and name not in _LOCAL_NAMES:
            return "this server answers to localhost only; behind a proxy give its address with --url"
        if place != host and (self.token is None or origin != self.origin):
            return "pages of other places may not ask this server"
        if self.token is not None and not hmac.compare_digest(_bytes(given or ""), _bytes(self.token)):
            return "the address needs the token that the server has printed"
        return None


LOCAL = Access()


def proxy_page(url: str) -> tuple[str, str]:
    """Split the address at which a proxy serves the page: the page's address, and its origin as browsers write it.

    Raises:
        UserError: It is none of ``http://`` or ``https://``, or has more than a host, a port and a path.

    Example:
        >>> from tokengroups.viewer.access import proxy_page
        >>> proxy_page("https://Hub.example.org:443/user/me/proxy/8765")
        ('https://hub.example.org/user/me/proxy/8765/', 'https://hub.example.org')
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts = host = port = None
    plain = parts and not (parts.query or parts.fragment or parts.username is not None) and url.isascii()
    if not parts or not plain or not host or not url.isprintable() or parts.scheme not in _PORTS:
        raise UserError(
            f"--url {shown(url)}: give the address at which the proxy shows the page, such as "
            "https://hub.example.org/user/me/proxy/8765/"
        )
    name = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{name}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}")
    return origin + parts.path.rstrip("/") + "/", origin


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
