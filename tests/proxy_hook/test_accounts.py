"""proxy_hook/accounts.py: which names and uids lead to an account, and which do not."""

from __future__ import annotations

import asyncio
import pwd
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from proxy_hook import accounts as module
from proxy_hook.accounts import LOOKUP_THREADS, Accounts, EligibleAccounts, UnixAccount
from proxy_hook.config_keys import Pun
from proxy_hook.errors import HttpError
from spawner.eligible import Rules

DAEMON = pwd.getpwnam("daemon")


def named(name: str) -> UnixAccount:
    accounts = Accounts(Pun().user_regex)
    try:
        return asyncio.run(accounts.named(name))
    finally:
        accounts.close()


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
    """sssd and winbind may ignore case. Here, a user has only one spelling."""
    monkeypatch.setattr(module.pwd, "getpwnam", lambda _: SimpleNamespace(pw_name="alice", pw_uid=1001))
    with pytest.raises(HttpError) as no:
        named("ALICE")
    assert no.value.status == 403


def test_a_directory_that_hangs_is_503_and_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are cached are still served."""
    release = threading.Event()
    real = pwd.getpwnam

    def slow(name: str) -> Any:
        if name != "daemon":
            release.wait(30)
        return real(name)

    monkeypatch.setattr(module.pwd, "getpwnam", slow)
    accounts = Accounts(Pun().user_regex, lookup_timeout_s=0.2)

    async def ask() -> UnixAccount:
        await accounts.named("daemon")
        for _ in range(LOOKUP_THREADS):
            with pytest.raises(HttpError) as no:
                await accounts.named("alice")
            assert no.value.status == 503
        return await accounts.named("daemon")

    try:
        assert asyncio.run(ask()).name == "daemon"
    finally:
        release.set()
        accounts.close()


def eligible(monkeypatch: pytest.MonkeyPatch, getpwuid: Any, **options: Any) -> EligibleAccounts:
    """Return accounts by uid, with a replacement for the name service's look-up by uid."""
    monkeypatch.setattr(module.pwd, "getpwuid", getpwuid)
    rules = Rules(min_uid=1, user_regex=".*", disabled_shells=[], deny_users=[], allow_groups=[], only_uid=None)
    return EligibleAccounts(rules, **options)


def test_a_uid_is_looked_up_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a uid has no account is cached for a while. An account is not: a uid may be given to a new user."""
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

    results = asyncio.run(ask())
    accounts.close()
    assert asked.count(nobodys) == 1
    assert asked.count(DAEMON.pw_uid) == 4, "two look-ups, each of them once here and once by the rules"
    assert results.count(UnixAccount(DAEMON.pw_uid, "daemon")) == 40
    assert sum(isinstance(no, HttpError) and no.status == 403 for no in results) == 40


def test_a_name_service_that_hangs_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users that had an account are still served, and the number of pending look-ups is limited."""
    go_on = threading.Event()
    real = pwd.getpwuid

    def getpwuid(uid: int) -> pwd.struct_passwd:
        if uid > 4_000_000_000:
            go_on.wait(60)
        return real(uid)

    accounts = eligible(monkeypatch, getpwuid, lookup_timeout_s=0.1, max_pending_lookups=8)

    async def ask() -> Sequence[object]:
        await accounts.with_uid(DAEMON.pw_uid)
        uids = range(4_000_000_001, 4_000_000_021)
        results = await asyncio.gather(*map(accounts.with_uid, uids), return_exceptions=True)
        assert await accounts.with_uid(DAEMON.pw_uid)
        go_on.set()
        return results

    results = asyncio.run(ask())
    accounts.close()
    assert all(isinstance(no, HttpError) and no.status == 503 for no in results)
    assert sum("many accounts" in str(getattr(no, "message", "")) for no in results) == 12
