"""Principal → Unix account, never root. Runs in the hook.

A token's row has the uid and the name that the kernel and the name service gave when it was registered. Who
comes by another way is a name, which a user map may have made of a claim, and is looked up here. Either way
the spawner's child looks both up again before it becomes anyone, and applies the rules of [pun].
"""

from __future__ import annotations

import asyncio
import logging
import pwd
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tomli

from proxy_hook.denied import forbidden, unavailable

REMEMBERED = 60.0
"""Seconds for which a name's uid is remembered."""
_PATIENCE = 5.0
_THREADS = 4

log = logging.getLogger("punway.hook")


@dataclass(frozen=True)
class UnixAccount:
    uid: int
    name: str

    def __post_init__(self) -> None:
        """Raises Denied (403) for root's."""
        if self.uid == 0 or self.name == "root":
            raise forbidden("root is not served")


class Accounts:
    """Accounts by name. ``user_regex`` is [pun]'s: what the whole of a name must match."""

    def __init__(self, user_regex: str) -> None:
        self._name = re.compile(user_regex)
        self._known: dict[str, tuple[float, UnixAccount]] = {}
        # Of its own: a directory server that hangs fills these threads, and not those that tokens need.
        self._pool = ThreadPoolExecutor(_THREADS, "accounts")

    async def named(self, name: str) -> UnixAccount:
        """The account of exactly this name. Raises Denied: 403 where there is none, 503 where nobody knows."""
        known = self._known.get(name)
        if known and known[0] > time.monotonic():
            return known[1]
        if not self._name.fullmatch(name):
            raise forbidden("This identity leads to no user's name that the portal serves")
        loop = asyncio.get_running_loop()
        try:
            entry = await asyncio.wait_for(loop.run_in_executor(self._pool, pwd.getpwnam, name), _PATIENCE)
        except KeyError:
            raise forbidden(f"This identity leads to {name}, who has no account on this host") from None
        except asyncio.TimeoutError:
            raise unavailable("The name service does not answer; try again") from None
        if entry.pw_name != name:
            # A directory that does not tell upper from lower case, say: one user has one spelling.
            raise forbidden(f"This identity leads to {name}, which the name service spells otherwise")
        account = UnixAccount(entry.pw_uid, name)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[name] = (time.monotonic() + REMEMBERED, account)
        return account


class UserMap:
    """idp.user_map: from a claim to a Unix user's name."""

    def __init__(self, text: str) -> None:
        self._path = Path(text) if text.startswith("/") else None
        self._pattern = re.compile(text)
        self._read: tuple[int, dict[str, object]] = (0, {})

    def name_of(self, claim: object) -> str:
        """The user's name. Raises Denied: 403 for a claim that leads to nobody, 503 for a table that is broken."""
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
