"""The client of the registrar, with which a user's process registers the hashes of its user's tokens at the hook.

The kernel tells the registrar which user connects (SO_PEERCRED); no message can claim another one. Request and
response are one JSON line each, over RUN/register.sock: ``{"action": "add", "hashes": […], "audit_info": {…}}`` and
``{"ok": true, …}``.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024
"""The maximum length of a message in either direction."""
AUDIT_INFO_KEYS = ("token_id", "token_name", "address", "request_id")
"""The keys of the texts that a client may add to the audit log's line about a token that it creates or revokes."""
TIMEOUT_S = 10.0
"""The time limit of a request. The request is repeated within this time as long as the registrar is busy."""


class RegistrarError(Exception):
    """The failure of a request to the registrar. The message is for the user and says what to do.

    RegistrarError
    ├── RegistrarUnavailable  the portal does not run on this host, or does not respond
    └── RegistrarRefused      the registrar refused, and says why
    """


class RegistrarUnavailable(RegistrarError):
    pass


class RegistrarRefused(RegistrarError):
    pass


class RegistrarClient:
    """A client of the registrar that listens at ``path``. Each method raises RegistrarError."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def add(self, hashes: list[str], audit_info: dict[str, str] | None = None) -> list[str]:
        """Register hashes for the calling user. Return the refused ones, each with the reason.

        Registering a hash again changes nothing. Pass ``audit_info`` if, and only if, this creates the token: the
        audit log then has a line "token.made" with it.
        """
        refused: list[str] = self._ask("add", hashes, audit_info)["refused"]
        return refused

    def revoke(self, hashes: list[str], audit_info: dict[str, str] | None = None) -> None:
        """Revoke hashes of the calling user. They can never be registered again."""
        self._ask("revoke", hashes, audit_info)

    def release_others(self, hashes: list[str]) -> None:
        """Remove the user's routes for all other hashes, such as those of expired tokens or deleted entries."""
        self._ask("release_others", hashes)

    def registered(self) -> list[str]:
        """Return the hashes that are registered for the calling user."""
        hashes: list[str] = self._ask("list", [])["hashes"]
        return hashes

    def login(self) -> str:
        """Return the path of a one-time link, which signs the calling user's browser in. It expires after a minute."""
        path: str = self._ask("login", [])["path"]
        return path

    def _ask(self, action: str, hashes: list[str], audit_info: dict[str, str] | None = None) -> dict[str, Any]:
        request: dict[str, Any] = {"action": action, "hashes": hashes}
        if audit_info is not None:
            request["audit_info"] = audit_info
        deadline = time.monotonic() + self._timeout_s
        while True:
            response = self._exchange(json.dumps(request).encode() + b"\n")
            # The connections of one user are limited, so two tabs or shells of that user take turns.
            if not response.get("busy") or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if not response.get("ok"):
            raise RegistrarRefused(str(response.get("message", "the registrar refused the request")))
        return response

    def _exchange(self, line: bytes) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                # A blocking connect waits for its turn while many others connect. With Python's own timeout it would
                # fail immediately (EAGAIN), so SO_SNDTIMEO limits the waiting time instead, see socket(7).
                seconds = struct.pack("@ll", int(self._timeout_s) or 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
                connection.connect(str(self._path))
                connection.settimeout(self._timeout_s)
                try:
                    connection.sendall(line)
                except BrokenPipeError:
                    pass  # The registrar refused before it read the line. Its response can still be read.
                with connection.makefile("rb") as responses:
                    response: dict[str, Any] = json.loads(responses.readline(MAX_MESSAGE_BYTES))
        except (OSError, ValueError) as error:
            raise RegistrarUnavailable(
                f"the portal does not answer at {self._path} ({error}); is it running on this host?"
            ) from error
        return response
