"""What a page says once, after a form was done: kept here from the form's answer to the page that it leads to.

A form is answered by a redirect, so that a reload sends nothing again. What happened, and a new token's secret, must
not stand in an address, so the address has a random key for it.
"""

from __future__ import annotations

import secrets
import threading
from typing import Generic, TypeVar

FLASH_TTL_S = 60.0
MAX_FLASHES = 50
"""A user's own browser asks for each at once; beyond this the oldest goes."""

T = TypeVar("T")


class Flashes(Generic[T]):
    """Values that one session may take once, and soon. In memory alone: they may hold a secret."""

    def __init__(self, ttl_s: float = FLASH_TTL_S) -> None:
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[T, threading.Timer]] = {}

    def keep(self, sid: str, value: T) -> str:
        """Keep a value for a session; return its key."""
        key = secrets.token_urlsafe(16)
        # A timer, as nobody may ask for it: a secret is not kept longer than it is good for.
        timer = threading.Timer(self._ttl_s, self.take, (sid, key))
        timer.daemon = True
        with self._lock:
            while len(self._kept) >= MAX_FLASHES:
                _, oldest = self._kept.pop(next(iter(self._kept)))
                oldest.cancel()
            self._kept[sid, key] = value, timer
            timer.start()
        return key

    def take(self, sid: str, key: str) -> T | None:
        """Return the value, once; None for another session, a second time, or too late."""
        with self._lock:
            kept = self._kept.pop((sid, key), None)
        if kept is None:
            return None
        value, timer = kept
        timer.cancel()
        return value
