"""tokens/manage.py: a token is made, replaced and revoked in the file and at the front, or not at all."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tokens.errors import NoSuchToken, ScopeNotAllowed, StoreRefused, StoreUnavailable, TokenError
from tokens.lifetime import Policy
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarClient, RegistrarRefused, RegistrarUnavailable
from tokens.store import TokenStore
from tokens.token import issue, sha256_of, utc_now


class Front(RegistrarClient):
    """A registrar that keeps what it was told, and fails as it is told to."""

    def __init__(self) -> None:
        self.live: list[str] = []
        self.dropped: list[str] = []
        self.kept: list[list[str]] = []
        self.refuse = 0
        self.down = False

    def add(self, hashes: list[str], note: dict[str, str] | None = None) -> list[str]:
        self._answer()
        if self.refuse:
            self.refuse -= 1
            return ["no room"]
        self.live += hashes
        return []

    def drop(self, hashes: list[str], note: dict[str, str] | None = None) -> None:
        self._answer()
        self.dropped += hashes

    def keep(self, hashes: list[str]) -> None:
        self.kept.append(hashes)

    def _answer(self) -> None:
        if self.down:
            raise RegistrarUnavailable("down")


@pytest.fixture
def front() -> Front:
    return Front()


@pytest.fixture
def manager(tmp_path: Path, front: Front) -> TokenManager:
    tmp_path.chmod(0o700)
    return TokenManager(TokenStore(tmp_path), front, Policy(timedelta(days=100), never=False))


def full(*_: object) -> bool:
    raise StoreUnavailable("full")


def test_a_token_is_at_the_front_and_in_the_file(manager: TokenManager, front: Front) -> None:
    token, secret = manager.make("CI", ("jobs:read",), "90d")
    assert manager.store.find(sha256_of(secret)) == token
    assert front.live == [token.sha256]


def test_what_the_site_does_not_allow_is_not_made(manager: TokenManager, front: Front) -> None:
    for expires in ("never", "101d"):
        with pytest.raises(TokenError):
            manager.make("CI", ("jobs:read",), expires)
    manager.policy = Policy(scopes=("clusters:read", "jobs:read"))
    with pytest.raises(ScopeNotAllowed, match="does not allow jobs:write, files:read; it allows clusters:read, jobs:r"):
        manager.make("CI", ("jobs:read", "jobs:write", "files:read"), "90d")
    assert (front.live, manager.store.tokens()) == ([], [])


def test_a_successor_has_no_scope_that_the_site_has_withdrawn(manager: TokenManager) -> None:
    """Its predecessor was made when the site allowed more."""
    old, _ = manager.make("CI", ("jobs:write", "files:read"), "90d")
    manager.policy = Policy(scopes=("jobs:read", "files:read"))
    assert manager.rotate(old.id, timedelta(0))[0].scopes == ("jobs:read", "files:read")


def test_a_front_without_room_is_asked_to_let_go_first(manager: TokenManager, front: Front) -> None:
    old, _ = manager.make("old", ("jobs:read",), "1d")
    front.refuse = 1
    manager.make("new", ("jobs:read",), "1d")
    assert front.kept == [[old.sha256]]
    front.refuse = 2
    with pytest.raises(RegistrarRefused, match="no room"):
        manager.make("newer", ("jobs:read",), "1d")
    assert len(manager.store.tokens()) == 2


def test_a_token_that_is_not_written_is_barred(
    manager: TokenManager, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenStore, "_replace", full)
    with pytest.raises(StoreUnavailable):
        manager.make("CI", ("jobs:read",), "1d")
    assert front.dropped == front.live


def test_a_successor_has_the_same_name_and_scopes(manager: TokenManager, front: Front) -> None:
    """And the old one's span of life; the old one lives for the grace, and no longer than it would have."""
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
    assert new.sha256 in front.live


def test_without_grace_the_old_one_ends_now(manager: TokenManager) -> None:
    old, _ = manager.make("CI", ("jobs:read",), "30d")
    new, _ = manager.rotate(old.id, timedelta(0), "5d")
    tokens = {token.id: token for token in manager.store.tokens()}
    assert tokens[old.id].expired()
    assert new.expires_at and new.expires_at < utc_now() + timedelta(days=6)


def test_a_successor_keeps_to_what_the_site_allows_today(manager: TokenManager) -> None:
    """One that was made for longer is shortened; one that never ends needs a word."""
    long, _ = issue("long", ("jobs:read",), utc_now() + timedelta(days=1000))
    endless, _ = issue("endless", ("jobs:read",))
    for token in (long, endless):
        manager.store.add(token)
    new, _ = manager.rotate(long.id, timedelta(0))
    assert new.expires_at and new.expires_at <= utc_now() + timedelta(days=100)
    with pytest.raises(TokenError, match="must expire"):
        manager.rotate(endless.id, timedelta(0))
    assert manager.rotate(endless.id, timedelta(0), "5d")


def test_what_cannot_be_replaced(manager: TokenManager, front: Front) -> None:
    """An unknown id; a token in clear, which the plugin that wrote it would go on taking."""
    with pytest.raises(NoSuchToken):
        manager.rotate("x", timedelta(0))
    manager.make("CI", ("jobs:read",), "1d")
    text = manager.store.path.read_text().rstrip().removesuffix("]")
    manager.store.path.write_text(f'{text}, {{"id": "clear", "name": "x", "token": "{"c" * 64}"}}]')
    with pytest.raises(StoreRefused, match="punway token secure"):
        manager.rotate("clear", timedelta(0), "1d")
    assert len(manager.store.tokens()) == 2
    assert front.dropped == [front.live[-1]]


def test_either_half_of_a_revocation_ends_the_token(
    manager: TokenManager, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a warning; where neither can be done, and for an unknown id, an error."""
    first, _ = manager.make("1", ("jobs:read",), "1d")
    second, _ = manager.make("2", ("jobs:read",), "1d")
    third, _ = manager.make("3", ("jobs:read",), "1d")
    assert manager.revoke(first.id) == (first, "")
    front.down = True
    assert "could not be told" in manager.revoke(second.id)[1]
    with monkeypatch.context() as patched:
        patched.setattr(TokenStore, "_replace", full)
        with pytest.raises(StoreUnavailable):
            manager.revoke(third.id)
        front.down = False
        assert "still stands in the file" in manager.revoke(third.id)[1]
    assert front.dropped == [first.sha256, third.sha256]
    with pytest.raises(NoSuchToken):
        manager.revoke(first.id)
