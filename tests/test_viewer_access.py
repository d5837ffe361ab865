"""Who may ask the server."""

from __future__ import annotations

import pytest

from tokengroups.viewer.access import refusal


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
    reason = refusal(host, origin, given, token)
    assert reason is None if message is None else message in (reason or "")
