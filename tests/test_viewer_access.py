"""Who may ask the server."""

from __future__ import annotations

import pytest

from tokengroups.errors import UserError
from tokengroups.viewer.access import Access, proxy_page


@pytest.mark.parametrize(
    ("host", "origin", "given", "token", "message"),
    [
        ("localhost:8765", None, None, None, None),
        ("127.0.0.1:8765", "http://127.0.0.1:8765", None, None, None),
        ("[::1]:8765", "http://[::1]:8765", None, None, None),
        ("localhost:9000", "http://localhost:9000", None, None, None),  # a forwarded port
        ("localhost", "http://localhost", None, None, None),
        ("evil.org:8765", None, None, None, "localhost only"),  # a name of theirs for this machine
        ("evil.org:8765", "http://evil.org:8765", None, None, "localhost only"),
        ("localhost.evil.org", None, None, None, "localhost only"),
        (None, None, None, None, "localhost only"),
        ("", None, None, None, "localhost only"),
        ("[", None, None, None, "malformed"),
        ("localhost:8765", "http://[", None, None, "malformed"),
        ("localhost:8765", "http://evil.org", None, None, "other places"),
        ("localhost:8765", "http://localhost:3000", None, None, "other places"),  # another server's page
        ("localhost:8765", "null", None, None, "other places"),  # a file, or a frame in a sandbox
        ("desk:8765", "http://desk:8765", "secret", "secret", None),
        ("desk:8765", None, "secret", "secret", None),
        ("desk:8765", None, None, "secret", "needs the token"),
        ("desk:8765", None, "", "secret", "needs the token"),
        ("desk:8765", None, "Secret", "secret", "needs the token"),
        ("desk:8765", None, "\u00e9\udc80", "secret", "needs the token"),
        ("desk:8765", "http://evil.org", "secret", "secret", "other places"),
    ],
)
def test_requests_of_others_are_refused(
    host: str | None, origin: str | None, given: str | None, token: str | None, message: str | None
) -> None:
    reason = Access(token).refusal(host, origin, given)
    assert reason is None if message is None else message in (reason or "")


@pytest.mark.parametrize(
    ("host", "origin", "given", "message"),
    [
        ("hub.org", "https://hub.org", "secret", None),
        ("localhost:8765", "https://hub.org", "secret", None),  # a proxy that gives the server's name
        ("hub.org", None, "secret", None),
        ("localhost:8765", "http://localhost:8765", "secret", None),  # on the machine itself
        ("localhost:8765", "https://hub.org", None, "needs the token"),
        ("hub.org", None, None, "needs the token"),
        ("localhost:8765", "http://hub.org", "secret", "other places"),
        ("localhost:8765", "https://hub.org:8443", "secret", "other places"),
        ("localhost:8765", "https://evil.hub.org", "secret", "other places"),
        ("localhost:8765", "https://hub.org.evil.org", "secret", "other places"),
        ("localhost:8765", "http://localhost:3000", "secret", "other places"),
        ("localhost:8765", "null", "secret", "other places"),
    ],
)
def test_behind_a_proxy_its_page_may_ask_with_the_token(
    host: str, origin: str | None, given: str | None, message: str | None
) -> None:
    reason = Access("secret", "https://hub.org").refusal(host, origin, given)
    assert reason is None if message is None else message in (reason or "")


def test_an_origin_without_a_token_opens_nothing() -> None:
    assert "other places" in (Access(None, "https://hub.org").refusal("localhost", "https://hub.org", None) or "")
    assert "secret" not in repr(Access("secret"))


@pytest.mark.parametrize(
    ("url", "page", "origin"),
    [
        ("https://hub.org", "https://hub.org/", "https://hub.org"),
        ("http://Hub.org:80/a/b//", "http://hub.org/a/b/", "http://hub.org"),
        ("HTTPS://hub.org:8443/a", "https://hub.org:8443/a/", "https://hub.org:8443"),
        ("http://[::1]:9000/", "http://[::1]:9000/", "http://[::1]:9000"),
    ],
)
def test_the_address_of_a_proxy_has_the_origin_that_browsers_send(url: str, page: str, origin: str) -> None:
    assert proxy_page(url) == (page, origin)


@pytest.mark.parametrize(
    "url",
    ["", "hub.org", "//hub.org/", "ftp://hub.org/", "https://", "https://me:pw@hub.org/", "https://hub.org/?token=a",
     "https://hub.org/#a", "https://hub.org:port/", "https://[hub", "https://h\u00fcb.org/", "javascript:alert(1)"],
)  # fmt: skip
def test_what_is_no_address_of_a_page_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="give the address at which the proxy shows the page"):
        proxy_page(url)
