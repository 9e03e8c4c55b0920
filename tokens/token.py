"""A token: the per-user secret, what is kept of it, and when it stops to be good.

The secret is shown once and never kept; an entry of tokens.json holds its SHA-256. Entries that OOD's
dashboard plugin wrote hold the secret itself in ``token``; they are read, and left as they are.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from tokens import scopes
from tokens.errors import TokenError

MAX_NAME_LENGTH = 100
"""A name's greatest length, in characters."""

# Control characters, halves of surrogate pairs, and what Unicode has to end a line or a paragraph.
_NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}
_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Token:
    """One entry of tokens.json, as far as Punway understands it.

    ``in_clear`` tells that the file holds the secret itself (OOD's dashboard plugin wrote it so).
    """

    id: str
    name: str
    sha256: str
    scopes: tuple[str, ...]
    created_at: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None
    in_clear: bool = False

    def expired(self, now: datetime | None = None) -> bool:
        """Whether it is past its time; at the very second of ``expires_at`` it is."""
        return self.expires_at is not None and (now or utc_now()) >= self.expires_at

    def entry(self) -> dict[str, Any]:
        """The object that tokens.json holds for it."""
        return {
            "id": self.id,
            "name": self.name,
            "sha256": self.sha256,
            "scopes": list(self.scopes),
            "created_at": to_text(self.created_at),
            "expires_at": to_text(self.expires_at),
            "last_used_at": to_text(self.last_used_at),
        }


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def to_text(when: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the second: ``2026-11-22T18:00:00Z``."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if when else None


def from_text(text: str) -> datetime:
    """The time that RFC 3339 text means; text without a zone is UTC. Raises ValueError."""
    # fromisoformat reads the Z only from Python 3.11 on.
    when = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def is_secret(text: str) -> bool:
    """Whether the text has a token's form: 64 lower-case hex characters."""
    return _SECRET.fullmatch(text) is not None


def sha256_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def is_sha256(text: object) -> bool:
    """Whether the value has the form of a stored hash (which is a secret's own form)."""
    return isinstance(text, str) and is_secret(text)


def issue(
    name: str, scope_names: tuple[str, ...] = scopes.ALL, expires_at: datetime | None = None
) -> tuple[Token, str]:
    """A new token and its secret; the secret is nowhere else. Without ``expires_at`` it never expires.

    Raises TokenError for a name that is empty, too long, or of more than one line of text.
    """
    name = name.strip()
    if not 0 < len(name) <= MAX_NAME_LENGTH or any(unicodedata.category(character) in _NO_TEXT for character in name):
        raise TokenError(f"a token's name is one line of 1 to {MAX_NAME_LENGTH} characters")
    secret = secrets.token_hex(32)
    token = Token(
        id=secrets.token_hex(8),
        name=name,
        sha256=sha256_of(secret),
        scopes=scope_names,
        created_at=utc_now().replace(microsecond=0),
        expires_at=expires_at,
        last_used_at=None,
    )
    return token, secret


def from_entry(entry: dict[str, Any]) -> Token | None:
    """The token in one object of tokens.json, or None where the object holds none that could be used.

    An entry with a hash or an expiry that cannot be read lets nobody in: it is None, never a guess.
    """
    in_clear = "sha256" not in entry
    if in_clear:
        secret = entry.get("token")
        if not isinstance(secret, str) or not is_secret(secret):
            return None
        digest, held = sha256_of(secret), scopes.ALL
    else:
        digest, listed = entry["sha256"], entry.get("scopes")
        if not is_sha256(digest) or not isinstance(listed, list):
            return None
        held = tuple(scope for scope in scopes.SCOPES if scope in listed)
    try:
        created, expires, used = (_time(entry, key) for key in ("created_at", "expires_at", "last_used_at"))
    except ValueError:
        return None
    return Token(
        id=text_of(entry, "id"),
        name=text_of(entry, "name"),
        sha256=digest,
        scopes=held,
        created_at=created,
        expires_at=expires,
        last_used_at=used,
        in_clear=in_clear,
    )


def text_of(entry: dict[str, Any], key: str) -> str:
    """Return a text of an entry. Halves of surrogate pairs, which no answer could have in it, become U+FFFD."""
    return str(entry.get(key, "")).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _time(entry: dict[str, Any], key: str) -> datetime | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")  # noqa: TRY004 - a value of the file, not an argument
    return from_text(value)
