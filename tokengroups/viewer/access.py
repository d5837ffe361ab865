"""Who may ask the server: pages of its own only, and from other machines only with its token."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


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


def refusal(host: str | None, origin: str | None, given: str | None, token: str | None) -> str | None:
    """Say why a request is refused; None if it is not.

    A page of somebody else's that is open in the same browser can send requests here: its `origin` tells. By a name
    of its own that points to this machine it could pass for a page of ours (DNS rebinding): the name tells. Ports
    are free, as others forward them (SSH).

    Args:
        host: The request's header, with or without a port.
        origin: That header of browsers; None where they send none, as with plain reading, and other programs.
        given: The token in the request.
        token: The right one; None: the server serves this machine only, and asks for none.
    """
    try:
        name = urlsplit(f"//{host}").hostname if host else None
        place = urlsplit(origin).netloc if origin else host
    except ValueError:
        return "a malformed Host or Origin"
    if token is None and name not in _LOCAL_NAMES:
        return "this server answers to localhost only"
    if place != host:
        return "pages of other places may not ask this server"
    if token is not None and not hmac.compare_digest((given or "").encode("utf-8", "replace"), token.encode()):
        return "the address needs the token that the server has printed"
    return None
