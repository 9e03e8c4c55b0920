"""The look-up of Unix accounts, by name and by uid, for the hook. Root is always refused.

The hook learns an account in three ways. The route of a token contains the uid and the name, from when the token was
registered. Other credentials give a name, which this module looks up. A connection to the registrar gives a uid, which
this module looks up too. In each case, the spawner's child looks up name and uid again before it becomes the user, and
applies the rules of [pun].
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from proxy_hook.config import Config
from proxy_hook.errors import HttpError, forbidden, unavailable
from proxy_hook.lru_cache import LruCache
from spawner.eligible import Refused, Rules, find_account

ACCOUNT_TTL_S = 60.0
"""How long an account is cached by its name."""
NO_ACCOUNT_TTL_S = 10.0
"""How long the absence of an account is cached by uid."""
MAX_CACHED_ACCOUNTS = 10_000
"""The maximum number of entries in each cache of this module."""
NAME_LOOKUP_TIMEOUT_S = 5.0
UID_LOOKUP_TIMEOUT_S = 3.0
"""How long the registrar waits for the name service. It is less than the registrar's own deadline."""
MAX_PENDING_LOOKUPS = 64
"""The maximum number of pending look-ups. It applies separately to uids that had an account before and to others."""
LOOKUP_THREADS = 4
_ASK_SUPPORT = "ask the site's support"


@dataclass(frozen=True)
class UnixAccount:
    """A Unix account other than root. Creating one for root raises HttpError (403)."""

    uid: int
    name: str

    def __post_init__(self) -> None:
        if self.uid == 0 or self.name == "root":
            raise forbidden("The portal does not serve root; use an ordinary account")


class Accounts:
    """A cached look-up of accounts by name. ``user_regex`` is pun.user_regex, which must match the whole name."""

    def __init__(
        self,
        user_regex: str,
        *,
        lookup_timeout_s: float = NAME_LOOKUP_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = re.compile(user_regex)
        self._lookup_timeout_s = lookup_timeout_s
        self._clock = clock
        self._cache: LruCache[str, tuple[float, UnixAccount]] = LruCache(MAX_CACHED_ACCOUNTS)
        # These look-ups have their own threads, so that a directory server that hangs does not block other look-ups.
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, "accounts")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    async def named(self, name: str) -> UnixAccount:
        """Return the account with exactly this name.

        Raises HttpError: 403 if there is none, 503 if the name service does not respond.
        """
        cached = self._cache.get(name)
        if cached and cached[0] > self._clock():
            return cached[1]
        if not self._name.fullmatch(name):
            raise forbidden(
                f"Your identity maps to a name that is not a valid user name on this portal; {_ASK_SUPPORT}"
            )
        loop = asyncio.get_running_loop()
        try:
            entry = await asyncio.wait_for(loop.run_in_executor(self._pool, pwd.getpwnam, name), self._lookup_timeout_s)
        except KeyError:
            raise forbidden(f"Your identity maps to the user {name}, who has no account here; {_ASK_SUPPORT}") from None
        except asyncio.TimeoutError:
            raise unavailable("The name service does not answer; try again") from None
        if entry.pw_name != name:
            # Some directories ignore case. A user has only one spelling here.
            raise forbidden(
                f"Your identity maps to the user {name}, but the name service spells the name {entry.pw_name}"
            )
        account = UnixAccount(entry.pw_uid, name)
        self._cache.put(name, (self._clock() + ACCOUNT_TTL_S, account))
        return account


def rules_of(config: Config) -> Rules:
    """Return the rules of [pun] that decide who may have a PUN."""
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
    """A look-up, by uid, of the accounts that may have a PUN by the rules of [pun]. Used only from the event loop.

    Uids without an account are cached, so that they do not need a thread each time. Accounts are not cached, because a
    uid may be given to a new user at any moment. Uids that had an account before have their own threads, because a user
    with 65,536 subordinate uids must not block the look-ups of others. The rules are those of spawner/eligible.py.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        lookup_timeout_s: float = UID_LOOKUP_TIMEOUT_S,
        max_pending_lookups: int = MAX_PENDING_LOOKUPS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._lookup_timeout_s = lookup_timeout_s
        self._max_pending_lookups = max_pending_lookups
        self._clock = clock
        self._without_account: LruCache[int, float] = LruCache(MAX_CACHED_ACCOUNTS)
        self._had_account: LruCache[int, bool] = LruCache(MAX_CACHED_ACCOUNTS)
        self._lookups: dict[int, asyncio.Future[UnixAccount | None]] = {}
        self._pending = {False: 0, True: 0}
        self._pools = {
            False: ThreadPoolExecutor(LOOKUP_THREADS, "new-accounts"),
            True: ThreadPoolExecutor(LOOKUP_THREADS, "known-accounts"),
        }

    def close(self) -> None:
        """End the threads."""
        for pool in self._pools.values():
            pool.shutdown()

    async def with_uid(self, uid: int) -> UnixAccount:
        """Return the account of a uid.

        Raises HttpError: 403 if there is none or a rule refuses it, 503 if the name service does not respond.
        """
        lookup = self._lookups.get(uid)
        if (self._without_account.get(uid) or 0.0) > self._clock():
            raise _no_account(uid)
        if lookup is None:
            known = bool(self._had_account.get(uid))
            if self._pending[known] >= self._max_pending_lookups:
                raise unavailable("The portal is looking up many accounts at the moment; try again")
            lookup = asyncio.get_running_loop().run_in_executor(self._pools[known], self._find, uid)
            self._lookups[uid] = lookup
            self._pending[known] += 1
            lookup.add_done_callback(lambda done: self._looked_up(uid, known, done))
        try:
            account = await asyncio.wait_for(asyncio.shield(lookup), self._lookup_timeout_s)
        except asyncio.TimeoutError:
            raise unavailable("The name service does not answer; try again") from None
        if account is None:
            raise _no_account(uid)
        return account

    def _find(self, uid: int) -> UnixAccount | None:
        if uid == 0:
            raise forbidden("root has no tokens; run this as an ordinary user")
        try:
            account = find_account(pwd.getpwuid(uid).pw_name, uid, self._rules)
        except KeyError:
            return None
        except Refused as refusal:
            raise forbidden(str(refusal)) from None
        return UnixAccount(uid, account.name)

    def _looked_up(self, uid: int, known: bool, done: asyncio.Future[UnixAccount | None]) -> None:
        del self._lookups[uid]
        self._pending[known] -= 1
        if done.exception() is not None:
            return  # with_uid() raises the refusal or failure in every waiting caller.
        if done.result() is None:
            self._without_account.put(uid, self._clock() + NO_ACCOUNT_TTL_S)
        else:
            self._had_account.put(uid, True)


def _no_account(uid: int) -> HttpError:
    return forbidden(f"uid {uid} has no account on this host")
