"""proxy_hook/accounts.py: which names lead to an account, and which to none."""

from __future__ import annotations

import asyncio
import os
import pwd
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy_hook import accounts as module
from proxy_hook.accounts import Accounts, EligibleAccounts, UnixAccount, UserMap
from proxy_hook.config import Idp, Pun
from proxy_hook.errors import HttpError
from spawner.eligible import Rules

DAEMON = pwd.getpwnam("daemon")


def named(name: str) -> UnixAccount:
    accounts = Accounts(Pun().user_regex)
    try:
        return asyncio.run(accounts.named(name))
    finally:
        accounts._pool.shutdown()


def test_a_name_leads_to_its_account() -> None:
    assert named("daemon") == UnixAccount(DAEMON.pw_uid, "daemon")


@pytest.mark.parametrize(
    "name",
    ["root", "", "../daemon", "daemon/../root", "%2e%2e", "%64aemon", "DAEMON", "Daemon", "daemon.", "daemon\n",
     "\ndaemon", "daemon\0", " daemon", "daemon ", "0", str(DAEMON.pw_uid), "dæmon", "-daemon", "(null)",
     "daemon, root", "x" * 10_000],
    ids=repr,
)  # fmt: skip
def test_a_name_that_leads_nowhere(name: str) -> None:
    with pytest.raises(HttpError) as no:
        named(name)
    assert no.value.status == 403


def test_another_name_of_uid_0_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.pwd, "getpwnam", lambda name: SimpleNamespace(pw_name=name, pw_uid=0))
    with pytest.raises(HttpError) as no:
        named("toor")
    assert "root" in no.value.message


def test_a_directory_that_spells_the_name_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """sssd and winbind may not tell upper from lower case: one user has one spelling here."""
    monkeypatch.setattr(module.pwd, "getpwnam", lambda _: SimpleNamespace(pw_name="alice", pw_uid=1001))
    with pytest.raises(HttpError) as no:
        named("ALICE")
    assert no.value.status == 403


def test_a_directory_that_hangs_is_503_and_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is known is answered from memory meanwhile."""
    monkeypatch.setattr(module, "NAME_LOOKUP_TIME_S", 0.2)
    release = threading.Event()
    real = pwd.getpwnam

    def slow(name: str) -> Any:
        if name != "daemon":
            release.wait(30)
        return real(name)

    monkeypatch.setattr(module.pwd, "getpwnam", slow)
    accounts = Accounts(Pun().user_regex)

    async def ask() -> UnixAccount:
        await accounts.named("daemon")
        for _ in range(module.LOOKUP_THREADS):
            with pytest.raises(HttpError) as no:
                await accounts.named("alice")
            assert no.value.status == 503
        return await accounts.named("daemon")

    try:
        assert asyncio.run(ask()).name == "daemon"
    finally:
        release.set()
        accounts._pool.shutdown()


@pytest.mark.parametrize(
    ("pattern", "claim", "name"),
    [(Idp().user_map, "alice", "alice"), (r"([a-z]+)@example\.org", "alice@example.org", "alice"), ("(.*)", "Alice", "Alice")],
)  # fmt: skip
def test_a_pattern_gives_its_group(pattern: str, claim: str, name: str) -> None:
    assert UserMap(pattern).name_of(claim) == name


@pytest.mark.parametrize(
    "claim",
    ["alice@example.org.evil.example", "x alice@example.org", "alice@example.org\n", "@example.org", "Alice@example.org",
     "alice@EXAMPLE.org", None, 7, ["alice@example.org"], {"a": 1}, "root\nalice@example.org"],
    ids=repr,
)  # fmt: skip
def test_a_claim_that_the_pattern_does_not_have_whole(claim: object) -> None:
    with pytest.raises(HttpError) as no:
        UserMap(r"([a-z]+)@example\.org").name_of(claim)
    assert no.value.status == 403


def test_a_table_is_read_and_read_again(tmp_path: Path) -> None:
    """Exactly what it lists; a table that is broken lets nobody in."""
    table = tmp_path / "map.toml"
    table.write_text('"alice@example.org" = "alice"\nnumber = 7\n')
    users = UserMap(str(table))
    assert users.name_of("alice@example.org") == "alice"
    for claim in ("bob@example.org", "ALICE@example.org", "number", "alice@example.org "):
        with pytest.raises(HttpError) as no:
            users.name_of(claim)
        assert no.value.status == 403
    table.write_text('"bob@example.org" = "bob"\n')
    os.utime(table, ns=(1, 1))
    assert users.name_of("bob@example.org") == "bob"
    table.write_text("not [ toml")
    os.utime(table, ns=(2, 2))
    with pytest.raises(HttpError) as no:
        users.name_of("bob@example.org")
    assert no.value.status == 503


def eligible(monkeypatch: pytest.MonkeyPatch, getpwuid: Any) -> EligibleAccounts:
    """Accounts by uid, with that name service for the look-up by uid."""
    monkeypatch.setattr(module.pwd, "getpwuid", getpwuid)
    rules = Rules(min_uid=1, user_regex=".*", disabled_shells=[], deny_users=[], allow_groups=[], only_uid=None)
    return EligibleAccounts(rules)


def test_a_uid_is_looked_up_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without an account not again for a while; an account each time: the uid may be a new user's by then."""
    asked: list[int] = []
    real = pwd.getpwuid

    def getpwuid(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        return real(uid)

    accounts = eligible(monkeypatch, getpwuid)
    nobodys = 4_000_000_000

    async def ask() -> list[object]:
        uids = [DAEMON.pw_uid] * 20 + [nobodys] * 20
        at_once = await asyncio.gather(*map(accounts.with_uid, uids), return_exceptions=True)
        later = await asyncio.gather(*map(accounts.with_uid, uids), return_exceptions=True)
        return [*at_once, *later]

    told = asyncio.run(ask())
    accounts.close()
    assert asked.count(nobodys) == 1
    assert asked.count(DAEMON.pw_uid) == 4, "once here, and once by the rules, two times"
    assert told.count(UnixAccount(DAEMON.pw_uid, "daemon")) == 40
    assert sum(isinstance(no, HttpError) and no.status == 403 for no in told) == 40


def test_a_name_service_that_hangs_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those it is asked about; whoever had an account is answered, and only so many look-ups wait."""
    go_on = threading.Event()
    real = pwd.getpwuid

    def getpwuid(uid: int) -> pwd.struct_passwd:
        if uid > 4_000_000_000:
            go_on.wait(60)
        return real(uid)

    monkeypatch.setattr(module, "UID_LOOKUP_TIME_S", 0.1)
    monkeypatch.setattr(module, "MAX_PENDING_LOOKUPS", 8)
    accounts = eligible(monkeypatch, getpwuid)

    async def ask() -> Sequence[object]:
        await accounts.with_uid(DAEMON.pw_uid)
        uids = range(4_000_000_001, 4_000_000_021)
        told = await asyncio.gather(*map(accounts.with_uid, uids), return_exceptions=True)
        assert await accounts.with_uid(DAEMON.pw_uid)
        go_on.set()
        return told

    told = asyncio.run(ask())
    accounts.close()
    assert all(isinstance(no, HttpError) and no.status == 503 for no in told)
    assert sum("many accounts" in str(getattr(no, "message", "")) for no in told) == 12
