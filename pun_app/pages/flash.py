"""Flash messages: the result of a form, which the next page shows once.

The response to a form is a redirect, so that a reload does not send the form again. The result, which may be a new
token's secret, must not be in an address. So it is kept here, and the address has a random key.
"""

from __future__ import annotations

import secrets
import threading
from typing import Generic, TypeVar

FLASH_TTL_S = 60.0
MAX_FLASHES = 50
"""Maximum number of messages. A browser fetches each at once; above the maximum, the oldest is dropped."""

T = TypeVar("T")


class Flashes(Generic[T]):
    """Values that one session may take once, within ``ttl_s`` seconds. They stay in memory: they may hold a secret."""

    def __init__(self, ttl_s: float = FLASH_TTL_S) -> None:
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[T, threading.Timer]] = {}

    def keep(self, sid: str, value: T) -> str:
        """Keep a value for a session. Return its key."""
        key = secrets.token_urlsafe(16)
        # A timer removes the value even if nobody takes it, so that no secret is kept longer than necessary.
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
        """Return the value and remove it. Return None for another session, a second call or an expired value."""
        with self._lock:
            kept = self._kept.pop((sid, key), None)
        if kept is None:
            return None
        value, timer = kept
        timer.cancel()
        return value
