"""Fake PUNs: threads in the place of a user's PUN that answer what a test wants, as a hostile user's process could."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.system.portal import Client, Portal, User

OF_NGINX = {
    "server", "date", "connection", "content-type", "content-length", "transfer-encoding", "x-content-type-options",
    "x-frame-options", "referrer-policy", "content-security-policy", "cross-origin-resource-policy", "x-request-id",
    "ratelimit", "ratelimit-policy",
}  # fmt: skip
"""Headers that a client gets from nginx in every response, whatever the PUN sends."""


class FakePun(threading.Thread):
    """A fake PUN that accepts one connection. ``got`` is the request; each of ``pieces`` is one write of the response."""

    def __init__(self, portal: Portal, user: User, *pieces: bytes) -> None:
        super().__init__(daemon=True)
        path = portal.run_dir / "puns" / user.name / "pun.sock"
        self.original = path.with_name("original.sock")
        path.rename(self.original)
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        os.chmod(path, 0o666)
        self.listener.listen()
        self.pieces = pieces
        self.got = b""

    def run(self) -> None:
        connection, _ = self.listener.accept()
        self.got = connection.recv(65_536)
        with suppress(OSError):  # The peer may have closed the connection.
            for piece in self.pieces:
                connection.sendall(piece)
        connection.close()

    def end(self) -> None:
        """Stop listening, and put the real PUN's socket back."""
        self.listener.close()
        self.path.unlink()
        self.original.rename(self.path)


@contextmanager
def raw_pun(portal: Portal, user: User, client: Client, *pieces: bytes) -> Iterator[FakePun]:
    """Replace a user's PUN by one that sends these bytes, for as long as the context lasts."""
    client("GET", "/api/v1/clusters")
    pun = FakePun(portal, user, *pieces)
    pun.start()
    try:
        yield pun
    finally:
        pun.end()


@contextmanager
def fake_pun(portal: Portal, user: User, client: Client, headers: str = "", body: str = "{}") -> Iterator[FakePun]:
    """Replace a user's PUN by one that sends a well-formed response with these headers and this body."""
    response = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n{body}"
    with raw_pun(portal, user, client, response.encode()) as pun:
        yield pun
