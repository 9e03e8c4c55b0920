"""Principal → Unix account, never root. Runs in the hook.

A token's row has the uid and the name that the kernel and the name service gave when it was registered. Who
comes by another way is a name, which a user map may have made of a claim, and is looked up here. Whoever connects
to the registrar is a uid. In each case the spawner's child looks both up again before it becomes anyone, and applies
the rules of [pun].
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tomli

from proxy_hook.config import Config
from proxy_hook.errors import HttpError, forbidden, unavailable
from proxy_hook.lru_cache import LruCache
from spawner.eligible import Refused, Rules, find_account

ACCOUNT_TTL_S = 60.0
"""Seconds for which a name's uid is remembered."""
NO_ACCOUNT_TTL_S = 10.0
"""How long it is cached that a uid has no account."""
MAX_CACHED_ACCOUNTS = 10_000
"""Accounts in memory by name, and as many uids without one."""
UID_LOOKUP_TIME_S = 3.0
"""How long the registrar waits for the name service: less than one of its conversations may take."""
MAX_PENDING_LOOKUPS = 64
"""Look-ups of uids that wait for the name service at once: of uids that had an account, and of others."""
NAME_LOOKUP_TIME_S = 5.0
LOOKUP_THREADS = 4

log = logging.getLogger("punway.hook")


@dataclass(frozen=True)
class UnixAccount:
    uid: int
    name: str

    def __post_init__(self) -> None:
        """Raises HttpError (403) for root's."""
        if self.uid == 0 or self.name == "root":
            raise forbidden("root is not served")


class Accounts:
    """Accounts by name. ``user_regex`` is [pun]'s: what the whole of a name must match."""

    def __init__(self, user_regex: str) -> None:
        self._name = re.compile(user_regex)
        self._known: LruCache[str, tuple[float, UnixAccount]] = LruCache(MAX_CACHED_ACCOUNTS)
        # Of its own: a directory server that hangs fills these threads, and not those that tokens need.
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, "accounts")

    async def named(self, name: str) -> UnixAccount:
        """The account of exactly this name. Raises HttpError: 403 where there is none, 503 where nobody knows."""
        known = self._known.get(name)
        if known and known[0] > time.monotonic():
            return known[1]
        if not self._name.fullmatch(name):
            raise forbidden("This identity leads to no user's name that the portal serves")
        loop = asyncio.get_running_loop()
        try:
            entry = await asyncio.wait_for(loop.run_in_executor(self._pool, pwd.getpwnam, name), NAME_LOOKUP_TIME_S)
        except KeyError:
            raise forbidden(f"This identity leads to {name}, who has no account on this host") from None
        except asyncio.TimeoutError:
            raise unavailable("The name service does not answer; try again") from None
        if entry.pw_name != name:
            # A directory that does not tell upper from lower case, say: one user has one spelling.
            raise forbidden(f"This identity leads to {name}, which the name service spells otherwise")
        account = UnixAccount(entry.pw_uid, name)
        self._known.put(name, (time.monotonic() + ACCOUNT_TTL_S, account))
        return account


def rules_of(config: Config) -> Rules:
    """Return the rules of [pun]: who may have a PUN."""
    pun = config.pun
    return Rules(
        min_uid=pun.min_uid,
        user_regex=pun.user_regex,
        disabled_shells=list(pun.disabled_shells),
        deny_users=list(pun.deny_users),
        allow_groups=list(pun.allow_groups),
        only_uid=os.geteuid() if config.single_user else None,
    )


class EligibleAccounts:
    """Accounts by uid, as far as the rules of [pun] allow them a PUN. Used from the hook's event loop alone.

    That a uid has no account is cached, so that it costs no thread again and again. Accounts are not cached: a uid may
    belong to a new user at any moment. But uids that had one have threads of their own: a user with 65,536 subordinate
    uids must not fill the others' with look-ups. The rules are the spawner's own, in one place (spawner/eligible.py).
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._without_account: LruCache[int, float] = LruCache(MAX_CACHED_ACCOUNTS)
        self._had_account: LruCache[int, bool] = LruCache(MAX_CACHED_ACCOUNTS)
        self._lookups: dict[int, asyncio.Future[UnixAccount | None]] = {}
        self._waiting = {False: 0, True: 0}
        self._pools = {
            False: ThreadPoolExecutor(LOOKUP_THREADS, "new-accounts"),
            True: ThreadPoolExecutor(LOOKUP_THREADS, "known-accounts"),
        }

    def close(self) -> None:
        """End the threads."""
        for pool in self._pools.values():
            pool.shutdown()

    async def with_uid(self, uid: int) -> UnixAccount:
        """Return the account. Raises HttpError: 403 with the rule, 503 if the name service does not answer."""
        lookup = self._lookups.get(uid)
        if (self._without_account.get(uid) or 0.0) > time.monotonic():
            raise _no_account(uid)
        if lookup is None:
            known = bool(self._had_account.get(uid))
            if self._waiting[known] >= MAX_PENDING_LOOKUPS:
                raise unavailable("The portal looks up many accounts just now; try again")
            lookup = asyncio.get_running_loop().run_in_executor(self._pools[known], self._find, uid)
            self._lookups[uid] = lookup
            self._waiting[known] += 1
            lookup.add_done_callback(lambda done: self._looked_up(uid, known, done))
        try:
            account = await asyncio.wait_for(asyncio.shield(lookup), UID_LOOKUP_TIME_S)
        except asyncio.TimeoutError:
            raise unavailable("The name service does not answer; try again") from None
        if account is None:
            raise _no_account(uid)
        return account

    def _find(self, uid: int) -> UnixAccount | None:
        if uid == 0:
            raise forbidden("root has no tokens: run this as an ordinary user")
        try:
            account = find_account(pwd.getpwuid(uid).pw_name, uid, self._rules)
        except KeyError:
            return None
        except Refused as refusal:
            raise forbidden(str(refusal)) from None
        return UnixAccount(uid, account.name)

    def _looked_up(self, uid: int, known: bool, done: asyncio.Future[UnixAccount | None]) -> None:
        del self._lookups[uid]
        self._waiting[known] -= 1
        if done.exception() is not None:
            return  # A rule, or a failure: whoever waits is told.
        if done.result() is None:
            self._without_account.put(uid, time.monotonic() + NO_ACCOUNT_TTL_S)
        else:
            self._had_account.put(uid, True)


def _no_account(uid: int) -> HttpError:
    return forbidden(f"uid {uid} has no account on this host")


class UserMap:
    """idp.user_map: from a claim to a Unix user's name."""

    def __init__(self, text: str) -> None:
        self._path = Path(text) if text.startswith("/") else None
        self._pattern = re.compile(text)
        self._read: tuple[int, dict[str, object]] = (0, {})

    def name_of(self, claim: object) -> str:
        """The user's name. Raises HttpError: 403 for a claim that leads to nobody, 503 for a table that is broken."""
        if isinstance(claim, str):
            if self._path:
                name = self._table(self._path).get(claim)
                if isinstance(name, str):
                    return name
            elif (match := self._pattern.fullmatch(claim)) and match[1]:
                return match[1]
        raise forbidden("This identity leads to no user of this portal")

    def _table(self, path: Path) -> dict[str, object]:
        try:
            changed = path.stat().st_mtime_ns
            if changed != self._read[0]:
                self._read = (changed, tomli.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            log.error("idp.user_map: %s cannot be read: %s", path, error)
            raise unavailable("The portal cannot tell users apart just now; its log says why") from error
        return self._read[1]
