"""Tests of pun_app/access.py: the PUN's check of a token, and the update of its last use."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from pun_app import access as module
from pun_app.access import Access, LastUsedWriter
from pun_app.errors import Unauthorized, Unavailable
from tokens import scopes
from tokens.assertion import Signer, Verifier
from tokens.store import StoreUnavailable, TokenStore
from tokens.token import Token, issue, utc_now


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    tmp_path.chmod(0o700)
    return TokenStore(tmp_path)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    signer = Signer()
    (tmp_path / "pub").write_bytes(signer.public_pem())
    return signer


@pytest.fixture
def access(store: TokenStore, tmp_path: Path) -> Access:
    return Access(Verifier(tmp_path / "pub"), store, uid=1001)


def add(store: TokenStore, lifetime: timedelta | None = None) -> Token:
    token, _ = issue("x", ("jobs:read",), utc_now() + lifetime if lifetime else None)
    store.add(token)
    return token


@pytest.mark.parametrize(
    ("in_file", "of_site", "held"),
    [(("jobs:read",), ("jobs:write",), ("jobs:read",)), (("jobs:write",), ("jobs:read",), ("jobs:read",)),
     (("jobs:write",), scopes.ALL, ("jobs:read", "jobs:write")), (scopes.ALL, ("files:read",), ("files:read",)),
     (("jobs:read",), ("files:read",), ())],
)  # fmt: skip
def test_a_token_may_what_the_file_and_the_site_both_allow(
    access: Access, store: TokenStore, signer: Signer, in_file: tuple[str, ...], of_site: tuple[str, ...],
    held: tuple[str, ...],
) -> None:  # fmt: skip
    token, _ = issue("x", in_file)
    store.add(token)
    caller = access.caller(signer.sign(1001, "alice", "token", token.sha256, of_site))
    assert (caller.user, caller.scopes, caller.token_id) == ("alice", held, token.id)


def test_revoked_expired_deleted(access: Access, store: TokenStore, signer: Signer) -> None:
    """The same assertion, which the hook may use for a while, stops working with its token."""
    token, other = add(store), add(store)
    signed = signer.sign(1001, "alice", "token", token.sha256, ())
    assert access.caller(signed)
    store.remove(token.id)
    with pytest.raises(Unauthorized, match="revoked"):
        access.caller(signed)
    late = add(store, timedelta(seconds=-1))
    with pytest.raises(Unauthorized, match="expired"):
        access.caller(signer.sign(1001, "alice", "token", late.sha256, ()))
    signed = signer.sign(1001, "alice", "token", other.sha256, ())
    assert access.caller(signed)
    store.path.unlink()
    with pytest.raises(Unauthorized):
        access.caller(signed)


def test_a_file_that_will_not_do_is_401_and_a_home_that_is_gone_503(
    access: Access, store: TokenStore, signer: Signer, tmp_path: Path
) -> None:
    signed = signer.sign(1001, "alice", "token", add(store).sha256, ())
    assert access.caller(signed)
    store.path.chmod(0o644)
    with pytest.raises(Unauthorized, match="chmod 600"):
        access.caller(signed)
    store.home = tmp_path / "gone"
    with pytest.raises(Unavailable, match="home directory"):
        access.caller(signed)


@pytest.mark.parametrize("signed", [None, "", "x", "a.b.c"])
def test_no_assertion(access: Access, signed: str | None) -> None:
    with pytest.raises(Unauthorized):
        access.caller(signed)


def test_a_use_is_recorded_once_a_minute_and_never_fails(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write is logged, and the next use is written."""
    written: list[str] = []
    done = threading.Event()

    def record_last_used(noted: TokenStore, used: dict[str, object]) -> None:
        if noted.home != store.home:
            return  # Of a test before this one, whose thread goes on.
        written.extend(used)
        if len(written) == 1:
            raise StoreUnavailable("full")
        done.set()

    monkeypatch.setattr(TokenStore, "record_last_used", record_last_used)
    writer, now = LastUsedWriter(store), utc_now()
    for _ in range(5):
        writer.update("a", None, now)
    writer.update("b", now - timedelta(seconds=30), now)
    writer.update("c", now - timedelta(seconds=90), now)
    assert done.wait(10)
    assert written == ["a", "c"]


def test_a_use_is_recorded_after_the_clock_was_set_back(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's last use may be in the future then, for example by a day."""
    written = threading.Event()
    monkeypatch.setattr(TokenStore, "record_last_used", lambda *_: written.set())
    now = utc_now()
    LastUsedWriter(store).update("x", now + timedelta(days=1), now)
    assert written.wait(60)


def test_a_use_is_written_for_real(access: Access, store: TokenStore, signer: Signer) -> None:
    token = add(store)
    access.caller(signer.sign(1001, "alice", "token", token.sha256, ()))
    for _ in range(500):
        if store.tokens()[0].last_used_at:
            break
        threading.Event().wait(0.01)
    assert store.tokens()[0].last_used_at
    assert module.LAST_USED_INTERVAL_S == 60


def test_an_assertion_that_expires_while_the_request_waits(
    access: Access, store: TokenStore, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assertion is checked when the request arrives, its token when the request is served."""
    token = add(store)
    signed = signer.sign(1001, "alice", "token", token.sha256, ("jobs:read",))
    arrived = access.verify_assertion(signed)
    monkeypatch.setattr("tokens.assertion.LIFETIME_S", -1)
    expired = signer.sign(1001, "alice", "token", token.sha256, ("jobs:read",))
    assert access.verify_assertion(expired) is None
    with pytest.raises(Unauthorized):
        access.caller(expired)
    assert access.caller(expired, arrived).token_id == token.id
    store.remove(token.id)
    with pytest.raises(Unauthorized, match="revoked"):
        access.caller(expired, arrived)
