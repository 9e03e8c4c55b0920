"""The public keys that the site's identity provider publishes (RFC 7517), cached. Runs in the hook.

A token names its key by ``kid``, and only that name is used, to find a key here. A token cannot refer to an address,
file or key of its own: ``jku``, ``x5u``, ``jwk`` and ``x5c`` are ignored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import jwt

from proxy_hook.errors import unauthorized, unavailable

KEYS_TTL_S = 3600.0
"""How long keys are used before they are fetched again, in the background."""
MIN_FETCH_INTERVAL_S = 60.0
"""The minimum time between two fetches, so that tokens with invented key names cause no load at the provider."""
FIRST_FETCH_RETRY_S = 5.0
"""The minimum time between two fetches as long as no keys have been fetched."""
MAX_KEYS_AGE_S = 86_400.0
"""How long keys stay valid if the provider cannot be reached."""

log = logging.getLogger("punway.hook")


@dataclass(frozen=True)
class Key:
    """A public key of the ``cryptography`` library, and its only algorithm, if the provider names one."""

    public: Any
    algorithm: str | None


class KeySet:
    """The provider's keys by name. ``load`` fetches the document, and may raise OSError or ValueError."""

    def __init__(
        self, load: Callable[[], Awaitable[dict[str, Any]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._last_attempt = self._last_success = self._last_unknown = clock() - MAX_KEYS_AGE_S - 1
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: object) -> Key:
        """Return a key by its name. Raises HttpError: 401 if it is unknown, 503 if no keys could be fetched."""
        found = self._named(kid)
        now = self._clock()
        if found and now < self._last_success + KEYS_TTL_S:
            return found
        if self._fetching is None and self._is_due(found, now):
            self._last_attempt = now
            self._fetching = asyncio.create_task(self._fetch())
        if found and now < self._last_success + MAX_KEYS_AGE_S:
            return found
        if self._fetching:
            # Shielded, because a client that hangs up must not cancel a fetch that others wait for.
            await asyncio.shield(self._fetching)
        if self._clock() > self._last_success + MAX_KEYS_AGE_S:
            raise unavailable("The site's identity provider cannot be reached; try again, or use a Punway token")
        found = self._named(kid)
        if found is None:
            raise unauthorized("Invalid token: it is not signed with a key of the identity provider", "invalid_token")
        return found

    def _is_due(self, found: Key | None, now: float) -> bool:
        if not self._keys:
            return now > self._last_attempt + FIRST_FETCH_RETRY_S
        if found:
            return now > self._last_attempt + MIN_FETCH_INTERVAL_S
        due = now > self._last_unknown + MIN_FETCH_INTERVAL_S
        if due:
            self._last_unknown = now
        return due

    def _named(self, kid: object) -> Key | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid) if isinstance(kid, str) else None

    async def _fetch(self) -> None:
        try:
            document = await self._load()
            self._keys = usable_keys(document)
            self._last_success = self._clock()
        except (OSError, ValueError) as error:
            # The old keys stay in use, and Punway tokens need none.
            log.warning("failed to fetch the identity provider's keys: %r", error)
        finally:
            self._fetching = None


def usable_keys(document: dict[str, Any]) -> dict[str, Key]:
    """Return those keys of a JWK set that can verify a signature, by name. Secret keys are never among them.

    Raises ValueError without such a key.
    """
    keys: dict[str, Key] = {}
    listed = document.get("keys")
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        if entry.get("use", "sig") != "sig" or "d" in entry:
            continue
        try:
            keys[str(entry.get("kid", ""))] = Key(jwt.PyJWK(entry).key, entry.get("alg"))
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.info("ignored an unusable key of the identity provider: %s", error)
    if not keys:
        raise ValueError("the document contains no key that can verify signatures")
    return keys
