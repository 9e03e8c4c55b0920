"""Tests of pun_app/registration.py: when a PUN registers its user's tokens."""

from __future__ import annotations

import threading
from pathlib import Path

from pun_app.registration import RETRY_S, Registration
from tokens.lifetime import Policy
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarUnavailable
from tokens.store import TokenStore
from tokens.token import issue


class Front:
    """A registrar that may be unavailable."""

    def __init__(self) -> None:
        self.registered: list[list[str]] = []
        self.is_away = False

    def add(self, hashes: list[str]) -> list[str]:
        if self.is_away:
            raise RegistrarUnavailable("it does not answer")
        self.registered.append(hashes)
        return []


def test_the_tokens_are_registered_at_each_start_of_the_hook(tmp_path: Path) -> None:
    """The hook's route table may be empty after a start. A failed registration is retried."""
    tmp_path.chmod(0o700)
    key, front, clock = tmp_path / "assertion.pub", Front(), [100.0]
    token, _ = issue("x")
    manager = TokenManager(TokenStore(tmp_path), front, Policy())  # type: ignore[arg-type]
    manager.store.add(token)
    registration = Registration(manager, key, lambda: clock[0])

    def consider() -> int:
        clock[0] += RETRY_S + 1
        registration.consider()
        for thread in threading.enumerate():
            if thread.name == "register":
                thread.join(60)
        return len(front.registered)

    assert consider() == 0, "the hook has not started"
    key.write_bytes(b"one")
    assert [consider(), consider()] == [1, 1]
    assert front.registered == [[token.sha256]]
    key.write_bytes(b"two")
    front.is_away = True
    assert consider() == 1
    front.is_away = False
    assert [consider(), consider()] == [2, 2]
