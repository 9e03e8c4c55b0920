"""The public keys of the site's identity provider, as it publishes them (RFC 7517), cached. Runs in the hook.

A token says which key it is signed with by a name, its ``kid``, and that is all that is taken from it: it is
looked up here, and leads to no address, file or key of its own (``jku``, ``x5u``, ``jwk`` and ``x5c`` are not read).
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
"""Seconds after which the keys are fetched anew, beside a request that uses the old ones."""
MIN_FETCH_INTERVAL_S = 60.0
"""Seconds between two fetches, so that tokens with made-up names of keys cost the provider nothing."""
FIRST_FETCH_RETRY_S = 5.0
"""The same while there are no keys yet."""
MAX_KEYS_AGE_S = 86_400.0
"""Seconds for which keys are good though the provider cannot be reached."""

log = logging.getLogger("punway.hook")


@dataclass(frozen=True)
class Key:
    """A public key of the ``cryptography`` library, and the one algorithm that it is for, where that is said."""

    public: Any
    algorithm: str | None


class KeySet:
    """Keys by their name. ``load`` fetches the provider's document, or raises what it may."""

    def __init__(self, load: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._load = load
        self._keys: dict[str, Key] = {}
        self._tried = self._got = self._asked_for_unknown = -MAX_KEYS_AGE_S
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: object) -> Key:
        """The key of that name. Raises HttpError: 401 when there is none, 503 when there are no keys at all."""
        found = self._named(kid)
        now = time.monotonic()
        if found and now < self._got + KEYS_TTL_S:
            return found
        if self._fetching is None and self._is_due(found, now):
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch())
        if found and now < self._got + MAX_KEYS_AGE_S:
            return found
        if self._fetching:
            # Shielded: whoever hangs up must not end what others wait for.
            await asyncio.shield(self._fetching)
        if time.monotonic() > self._got + MAX_KEYS_AGE_S:
            raise unavailable("The site's identity provider cannot be reached; try again, or use a token of the portal")
        found = self._named(kid)
        if found is None:
            raise unauthorized("Invalid token: it is signed with no key of the identity provider", "invalid_token")
        return found

    def _is_due(self, found: Key | None, now: float) -> bool:
        if not self._keys:
            return now > self._tried + FIRST_FETCH_RETRY_S
        if found:
            return now > self._tried + MIN_FETCH_INTERVAL_S
        due = now > self._asked_for_unknown + MIN_FETCH_INTERVAL_S
        if due:
            self._asked_for_unknown = now
        return due

    def _named(self, kid: object) -> Key | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid) if isinstance(kid, str) else None

    async def _fetch(self) -> None:
        try:
            document = await self._load()
            self._keys = usable_keys(document)
            self._got = time.monotonic()
        except (OSError, ValueError) as error:
            # The keys that there are stay, and tokens of ours need none.
            log.warning("the identity provider's keys could not be fetched: %r", error)
        finally:
            self._fetching = None


def usable_keys(document: dict[str, Any]) -> dict[str, Key]:
    """The keys of a JWK set that a signature can be checked with, by name; secret ones are never among them.

    Raises ValueError where there is none.
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
            log.info("a key of the identity provider is not of use: %s", error)
    if not keys:
        raise ValueError("the document holds no key to check signatures with")
    return keys
