"""Client of the registrar: a user's process tells the front which token hashes lead to that user.

Whose they are, the kernel tells the registrar (SO_PEERCRED); a message cannot say it. One JSON line goes
each way over RUN/register.sock: ``{"do": "add", "hashes": […], "note": {…}}`` and ``{"ok": true, …}``.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024
"""Greatest length of a message, in bytes, on both sides."""

AUDIT_INFO_KEYS = ("token_id", "token_name", "address", "request_id")
"""What a note may tell the front's audit log of a token that is made or revoked, as texts."""

TIMEOUT_S = 10.0


class RegistrarError(Exception):
    """The front did not take the hashes. The message is for the user and says what to do.

    RegistrarError
    ├── RegistrarUnavailable  the portal does not run here, or does not answer
    └── RegistrarRefused      it said no, and why
    """


class RegistrarUnavailable(RegistrarError):
    pass


class RegistrarRefused(RegistrarError):
    pass


class RegistrarClient:
    """The registrar behind the socket at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, hashes: list[str], note: dict[str, str] | None = None) -> list[str]:
        """Register hashes for the calling uid; those that the front will not route, with its reason each.

        Registering one again changes nothing. A note says that a token is made, and which. Raises RegistrarError.
        """
        refused: list[str] = self._ask("add", hashes, note)["refused"]
        return refused

    def drop(self, hashes: list[str], note: dict[str, str] | None = None) -> None:
        """Forget hashes of the calling uid for good: they can never be registered again."""
        self._ask("drop", hashes, note)

    def keep(self, hashes: list[str]) -> None:
        """Let go of the calling uid's other routes: tokens that were deleted by hand, or have expired."""
        self._ask("keep", hashes)

    def registered(self) -> list[str]:
        """The hashes that lead to the calling uid."""
        hashes: list[str] = self._ask("list", [])["hashes"]
        return hashes

    def login(self) -> str:
        """The address of a page that signs the calling user's browser in, once and soon. Raises RegistrarError."""
        path: str = self._ask("login", [])["path"]
        return path

    def _ask(self, do: str, hashes: list[str], note: dict[str, str] | None = None) -> dict[str, Any]:
        request: dict[str, Any] = {"do": do, "hashes": hashes}
        if note is not None:
            request["note"] = note
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            answer = self._say(json.dumps(request).encode() + b"\n")
            # A user has so many connections at once; two tabs or shells of one user take turns.
            if not answer.get("busy") or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if not answer.get("ok"):
            raise RegistrarRefused(str(answer.get("message", "the registrar said no")))
        return answer

    def _say(self, line: bytes) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                # A blocking connect waits for its turn where others connect without end; with a time-out of Python's
                # it would fail at once (EAGAIN). SO_SNDTIMEO bounds it, socket(7).
                seconds = struct.pack("@ll", int(TIMEOUT_S) or 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
                connection.connect(str(self._path))
                connection.settimeout(TIMEOUT_S)
                try:
                    connection.sendall(line)
                except BrokenPipeError:
                    pass  # It said no before it read, and its answer can be read all the same.
                with connection.makefile("rb") as answers:
                    answer: dict[str, Any] = json.loads(answers.readline(MAX_MESSAGE_BYTES))
        except (OSError, ValueError) as error:
            raise RegistrarUnavailable(
                f"the portal does not answer at {self._path} ({error}); is it running on this host?"
            ) from error
        return answer
