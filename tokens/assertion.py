"""The assertion: the hook's signed note to a PUN, saying whose request this is and how that was proved.

The hook signs with an Ed25519 key that it makes at start; PUNs verify with the public half, which lies in
the run directory. A note is good for LIFETIME_S seconds and for one uid.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

LIFETIME_S = 60
"""How long an assertion is good, in seconds."""

MAX_CACHED_ASSERTIONS = 64
"""How many verified notes are remembered until they expire: verifying costs as much as a small request."""

_ISSUER = "punway-hook"
_ALGORITHM = "EdDSA"
_REQUIRED = ["iss", "aud", "sub", "via", "scopes", "iat", "exp"]


class InvalidAssertion(Exception):
    """The note is missing, not the hook's, too old, or for another uid."""


@dataclass(frozen=True)
class Assertion:
    """What the hook knows of a caller. ``via`` is how that was proved, and says what of the rest is set.

    token (of ours): ``sha256``, which the PUN looks up, and as ``scopes`` those that the site allows to any token;
    jwt (of the site's identity provider): ``scopes``; session (a browser's): ``sid``, which names it and cannot be
    guessed. ``expires`` is a Unix time, in seconds.
    """

    uid: int
    user: str
    via: str
    sha256: str | None
    scopes: tuple[str, ...]
    sid: str | None
    expires: int


class Signer:
    """The hook's half: a key of its own, made when the hook starts and kept in no file."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    def public_pem(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(
        self, uid: int, user: str, via: str, sha256: str | None, scopes: tuple[str, ...], sid: str | None = None
    ) -> str:
        now = int(time.time())
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
    """A PUN's half: the hook's public key, read again when the hook has made another."""

    def __init__(self, public_key: Path) -> None:
        self._path = public_key
        self._pem = b""
        self._key: Ed25519PublicKey | None = None
        self._verified: dict[str, Assertion] = {}

    def verify(self, note: str, uid: int) -> Assertion:
        """What the note says, when it is the hook's, in time, and for ``uid``. Raises InvalidAssertion."""
        now = time.time()
        known = self._verified.get(note)
        # Where the clock was set back, a note must not become good for longer.
        if known and known.uid == uid and now < known.expires <= now + LIFETIME_S:
            return known
        try:
            claims = self._decode(note, uid)
        except (jwt.InvalidTokenError, OSError, ValueError, UnsupportedAlgorithm) as error:
            raise InvalidAssertion("the request did not come through the portal's hook") from error
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
            # A new dictionary, not a change in place: other threads read the old one meanwhile.
            self._verified = {n: a for n, a in list(self._verified.items()) if a.expires > now}
            if len(self._verified) >= MAX_CACHED_ASSERTIONS:
                self._verified = {}
        self._verified[note] = assertion
        return assertion

    def _decode(self, note: str, uid: int) -> dict[str, Any]:
        if self._key is not None:
            try:
                return self._claims(note, uid, self._key)
            except jwt.InvalidSignatureError:
                pass  # The hook may have been started again with another key: look before refusing.
        pem = self._path.read_bytes()
        if self._key is None or pem != self._pem:
            key = load_pem_public_key(pem)
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError(f"{self._path} holds no Ed25519 key")
            self._pem, self._key, self._verified = pem, key, {}
        return self._claims(note, uid, self._key)

    @staticmethod
    def _claims(note: str, uid: int, key: Ed25519PublicKey) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            note,
            key,
            algorithms=[_ALGORITHM],
            audience=_audience(uid),
            issuer=_ISSUER,
            options={"require": _REQUIRED},
        )
        return claims


def _audience(uid: int) -> str:
    return f"uid:{uid}"
