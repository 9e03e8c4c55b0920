"""Client of the registrar: a user's process tells the front which token hashes lead to that user.

Whose they are, the kernel tells the registrar (SO_PEERCRED); a message cannot say it. One JSON line goes
each way over RUN/register.sock: ``{"do": "add", "hashes": […]}`` and ``{"ok": true, …}``.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

MESSAGE_SIZE = 64 * 1024
"""Greatest length of a message, in bytes, on both sides."""

_TIMEOUT = 10.0


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


class Registrar:
    """The registrar behind the socket at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, hashes: list[str]) -> list[str]:
        """Register hashes for the calling uid; those that the front will not route, with its reason each.

        Registering one again changes nothing. Raises RegistrarError.
        """
        refused: list[str] = self._ask("add", hashes)["refused"]
        return refused

    def drop(self, hashes: list[str]) -> None:
        """Forget hashes of the calling uid for good: they can never be registered again."""
        self._ask("drop", hashes)

    def keep(self, hashes: list[str]) -> None:
        """Let go of the calling uid's other routes: tokens that were deleted by hand, or have expired."""
        self._ask("keep", hashes)

    def registered(self) -> list[str]:
        """The hashes that lead to the calling uid."""
        hashes: list[str] = self._ask("list", [])["hashes"]
        return hashes

    def _ask(self, do: str, hashes: list[str]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_TIMEOUT)
                connection.connect(str(self._path))
                connection.sendall(json.dumps({"do": do, "hashes": hashes}).encode() + b"\n")
                with connection.makefile("rb") as answers:
                    line = answers.readline(MESSAGE_SIZE)
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:
            raise RegistrarUnavailable(
                f"the portal does not answer at {self._path} ({error}); is it running on this host?"
            ) from error
        if not answer.get("ok"):
            raise RegistrarRefused(str(answer.get("message", "the registrar said no")))
        return answer
