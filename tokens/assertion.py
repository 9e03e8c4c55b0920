"""Assertions: short signed texts in which the hook tells a PUN who sent a request and what the sender may do.

The hook signs them with an Ed25519 key that it creates when it starts. PUNs verify them with the public key, which is a
file in the run directory. An assertion is valid for LIFETIME_S seconds and for one uid.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

LIFETIME_S = 60
MAX_CACHED_ASSERTIONS = 64
"""The maximum number of verified assertions that a PUN caches until they expire. Verifying one takes as long as serving
a small request."""

_ISSUER = "punway-hook"
_ALGORITHM = "EdDSA"
_REQUIRED = ["iss", "aud", "sub", "via", "scopes", "iat", "exp"]


class InvalidAssertion(Exception):
    """The error for an assertion that is missing, expired, for another uid, or not signed by the hook."""


@dataclass(frozen=True)
class Assertion:
    """The verified content of an assertion: the caller of a request and the caller's credential.

    ``via`` is the kind of credential. It decides which other fields are set:

    - ``token`` (a Punway token): ``sha256``, by which the PUN finds the token in the user's file, and ``scopes``, those
      that the site allows for any token.
    - ``jwt`` (a token of the site's identity provider): ``scopes``, those of the token.
    - ``session`` (a browser): ``sid``, the random name of the session.

    ``expires`` is a Unix time in seconds.
    """

    uid: int
    user: str
    via: str
    sha256: str | None
    scopes: tuple[str, ...]
    sid: str | None
    expires: int


class Signer:
    """The hook's private key. It is created when the hook starts, and is never written to a file."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._clock = clock

    def public_pem(self) -> bytes:
        """Return the public key in PEM."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(
        self, uid: int, user: str, via: str, sha256: str | None, scopes: tuple[str, ...], sid: str | None = None
    ) -> str:
        """Return a signed assertion in the form of a JWT. The arguments are the fields of Assertion."""
        now = int(self._clock())
        claims = {
            "iss": _ISSUER,
            "aud": _audience(uid),
            "sub": user,
            "via": via,
            "sha256": sha256,
            "scopes": list(scopes),
            "sid": sid,
            "iat": now,
            "exp": now + LIFETIME_S,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class Verifier:
    """A verifier of assertions with the hook's public key. It reads the file again after a failure."""

    def __init__(self, public_key: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = public_key
        self._clock = clock
        self._pem = b""
        self._key: Ed25519PublicKey | None = None
        self._verified: dict[str, Assertion] = {}

    def verify(self, signed: str, uid: int) -> Assertion:
        """Return the content of a signed assertion for ``uid``. Raises InvalidAssertion."""
        now = self._clock()
        cached = self._verified.get(signed)
        # A clock that is set back must not extend the life of a cached assertion.
        if cached and cached.uid == uid and now < cached.expires <= now + LIFETIME_S:
            return cached
        try:
            claims = self._decode(signed, uid)
        except (jwt.InvalidTokenError, OSError, ValueError, UnsupportedAlgorithm) as error:
            raise InvalidAssertion(
                "the request did not come through the portal's hook; send it to the portal's address"
            ) from error
        assertion = Assertion(
            uid=uid,
            user=claims["sub"],
            via=claims["via"],
            sha256=claims.get("sha256"),
            scopes=tuple(claims["scopes"]),
            sid=claims.get("sid"),
            expires=claims["exp"],
        )
        if len(self._verified) >= MAX_CACHED_ASSERTIONS:
            # Replace the dictionary instead of changing it: other threads may be reading the old one.
            self._verified = {s: a for s, a in list(self._verified.items()) if a.expires > now}
            if len(self._verified) >= MAX_CACHED_ASSERTIONS:
                self._verified = {}
        self._verified[signed] = assertion
        return assertion

    def _decode(self, signed: str, uid: int) -> dict[str, Any]:
        if self._key is not None:
            try:
                return self._claims(signed, uid, self._key)
            except jwt.InvalidSignatureError:
                pass  # The hook may have restarted with another key, so read the key again before refusing.
        pem = self._path.read_bytes()
        if self._key is None or pem != self._pem:
            key = load_pem_public_key(pem)
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError(f"{self._path} does not contain an Ed25519 key")
            self._pem, self._key, self._verified = pem, key, {}
        return self._claims(signed, uid, self._key)

    def _claims(self, signed: str, uid: int, key: Ed25519PublicKey) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            signed,
            key,
            algorithms=[_ALGORITHM],
            audience=_audience(uid),
            issuer=_ISSUER,
            options={"require": _REQUIRED},
        )
        return claims


def _audience(uid: int) -> str:
    return f"uid:{uid}"
