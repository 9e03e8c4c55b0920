"""tokens/manage.py: a token is created, replaced and revoked in the file and at the hook, or not at all."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest

from tokens.errors import NoSuchToken, ScopeNotAllowed, StoreRefused, StoreUnavailable, TokenError
from tokens.lifetime import Policy
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarClient, RegistrarRefused, RegistrarUnavailable
from tokens.store import TokenStore
from tokens.token import issue, sha256_of, utc_now


class FakeRegistrar(RegistrarClient):
    """A fake registrar that records its calls, and fails on demand."""

    def __init__(self) -> None:
        self.live: list[str] = []
        self.revoked: list[str] = []
        self.not_released: list[list[str]] = []
        self.refuse = 0
        self.down = False

    def add(self, hashes: list[str], audit_info: dict[str, str] | None = None) -> list[str]:
        self._fail_if_down()
        if self.refuse:
            self.refuse -= 1
            return ["no room"]
        self.live += hashes
        return []

    def revoke(self, hashes: list[str], audit_info: dict[str, str] | None = None) -> None:
        self._fail_if_down()
        self.revoked += hashes

    def release_others(self, hashes: list[str]) -> None:
        self.not_released.append(hashes)

    def _fail_if_down(self) -> None:
        if self.down:
            raise RegistrarUnavailable("down")


@pytest.fixture
def registrar() -> FakeRegistrar:
    return FakeRegistrar()


@pytest.fixture
def manager(tmp_path: Path, registrar: FakeRegistrar) -> TokenManager:
    tmp_path.chmod(0o700)
    return TokenManager(TokenStore(tmp_path), registrar, Policy(timedelta(days=100), never=False))


def full(_descriptor: int) -> None:
    """Replaces os.fsync on a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_new_token_is_registered_and_in_the_file(manager: TokenManager, registrar: FakeRegistrar) -> None:
    token, secret = manager.make("CI", ("jobs:read",), "90d")
    assert manager.store.find(sha256_of(secret)) == token
    assert registrar.live == [token.sha256]


def test_what_the_site_does_not_allow_is_not_made(manager: TokenManager, registrar: FakeRegistrar) -> None:
    for expires in ("never", "101d"):
        with pytest.raises(TokenError):
            manager.make("CI", ("jobs:read",), expires)
    manager.policy = Policy(scopes=("clusters:read", "jobs:read"))
    with pytest.raises(ScopeNotAllowed, match="does not allow jobs:write, files:read; it allows clusters:read, jobs:r"):
        manager.make("CI", ("jobs:read", "jobs:write", "files:read"), "90d")
    assert (registrar.live, manager.store.tokens()) == ([], [])


def test_a_successor_has_no_scope_that_the_site_has_withdrawn(manager: TokenManager) -> None:
    """The old token was created when the site allowed more scopes."""
    old, _ = manager.make("CI", ("jobs:write", "files:read"), "90d")
    manager.policy = Policy(scopes=("jobs:read", "files:read"))
    assert manager.rotate(old.id, timedelta(0))[0].scopes == ("jobs:read", "files:read")


def test_a_registrar_without_room_is_asked_to_release_routes_first(
    manager: TokenManager, registrar: FakeRegistrar
) -> None:
    old, _ = manager.make("old", ("jobs:read",), "1d")
    registrar.refuse = 1
    manager.make("new", ("jobs:read",), "1d")
    assert registrar.not_released == [[old.sha256]]
    registrar.refuse = 2
    with pytest.raises(RegistrarRefused, match="no room"):
        manager.make("newer", ("jobs:read",), "1d")
    assert len(manager.store.tokens()) == 2


def test_a_token_that_cannot_be_stored_is_revoked(
    manager: TokenManager, registrar: FakeRegistrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable):
        manager.make("CI", ("jobs:read",), "1d")
    assert registrar.revoked == registrar.live


def test_a_successor_has_the_same_name_and_scopes(manager: TokenManager, registrar: FakeRegistrar) -> None:
    """It also has the same lifetime. The old token lives for the grace period, but not beyond its own expiry."""
    old, _ = manager.make("CI", ("jobs:read",), "30d")
    soon, _ = manager.make("soon", ("jobs:read",), "1m")
    new, secret = manager.rotate(old.id, timedelta(hours=1))
    assert (new.name, new.scopes) == ("CI", ("jobs:read",))
    assert new.expires_at and abs(new.expires_at - utc_now() - timedelta(days=30)) < timedelta(seconds=5)
    manager.rotate(soon.id, timedelta(hours=1))
    tokens = {token.id: token for token in manager.store.tokens()}
    ends = tokens[old.id].expires_at
    assert ends and abs(ends - utc_now() - timedelta(hours=1)) < timedelta(seconds=5)
    assert tokens[soon.id].expires_at == soon.expires_at
    assert tokens[new.id].sha256 == sha256_of(secret)
    assert new.sha256 in registrar.live


def test_without_grace_the_old_one_ends_now(manager: TokenManager) -> None:
    old, _ = manager.make("CI", ("jobs:read",), "30d")
    new, _ = manager.rotate(old.id, timedelta(0), "5d")
    tokens = {token.id: token for token in manager.store.tokens()}
    assert tokens[old.id].expired()
    assert new.expires_at and new.expires_at < utc_now() + timedelta(days=6)


def test_a_successor_keeps_to_what_the_site_allows_today(manager: TokenManager) -> None:
    """A lifetime that is too long is shortened. A token without an expiry can be replaced only with an explicit one."""
    long, _ = issue("long", ("jobs:read",), utc_now() + timedelta(days=1000))
    endless, _ = issue("endless", ("jobs:read",))
    for token in (long, endless):
        manager.store.add(token)
    new, _ = manager.rotate(long.id, timedelta(0))
    assert new.expires_at and new.expires_at <= utc_now() + timedelta(days=100)
    with pytest.raises(TokenError, match="must expire"):
        manager.rotate(endless.id, timedelta(0))
    assert manager.rotate(endless.id, timedelta(0), "5d")


def test_what_cannot_be_replaced(manager: TokenManager, registrar: FakeRegistrar) -> None:
    """Refuse an unknown id, and a token in clear text, which OOD's plugin would continue to accept."""
    with pytest.raises(NoSuchToken):
        manager.rotate("x", timedelta(0))
    manager.make("CI", ("jobs:read",), "1d")
    text = manager.store.path.read_text().rstrip().removesuffix("]")
    manager.store.path.write_text(f'{text}, {{"id": "clear", "name": "x", "token": "{"c" * 64}"}}]')
    with pytest.raises(StoreRefused, match="punway token secure"):
        manager.rotate("clear", timedelta(0), "1d")
    assert len(manager.store.tokens()) == 2
    assert registrar.revoked == [registrar.live[-1]]


def test_either_half_of_a_revocation_ends_the_token(
    manager: TokenManager, registrar: FakeRegistrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one half fails, there is a warning. If both fail, or the id is unknown, there is an error."""
    first, _ = manager.make("1", ("jobs:read",), "1d")
    second, _ = manager.make("2", ("jobs:read",), "1d")
    third, _ = manager.make("3", ("jobs:read",), "1d")
    assert manager.revoke(first.id) == (first, "")
    registrar.down = True
    assert "could not be informed" in manager.revoke(second.id)[1]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable):
            manager.revoke(third.id)
        registrar.down = False
        assert "still in your file" in manager.revoke(third.id)[1]
    assert registrar.revoked == [first.sha256, third.sha256]
    with pytest.raises(NoSuchToken):
        manager.revoke(first.id)
