"""API tokens: the functions that create them, and that convert them to and from entries of tokens.json.

The secret of a token is shown once and never stored. Its entry contains only the SHA-256. Entries of OOD's dashboard
plugin contain the secret itself in ``token``; Punway reads them and does not change them.
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
"""The maximum length of a token's name, in characters."""

# Unicode's categories for control characters, surrogates, and line and paragraph separators.
_FORBIDDEN_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Token:
    """A valid entry of tokens.json, with the fields that Punway knows.

    ``in_clear`` is true if the file contains the secret in clear text, as OOD's dashboard plugin writes it.
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
        """Return whether the token has expired. It expires at the start of the second ``expires_at``."""
        return self.expires_at is not None and (now or utc_now()) >= self.expires_at

    def entry(self) -> dict[str, Any]:
        """Return the token as an entry of tokens.json."""
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
    """Return a time as RFC 3339 in UTC, to the second: ``2026-11-22T18:00:00Z``."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if when else None


def from_text(text: str) -> datetime:
    """Parse an RFC 3339 time; without a zone it is UTC. Raises ValueError."""
    # fromisoformat accepts the Z only since Python 3.11.
    when = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def is_secret(text: str) -> bool:
    """Return whether the text has the form of a token: 64 lower-case hex characters."""
    return _SECRET.fullmatch(text) is not None


def sha256_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def is_sha256(text: object) -> bool:
    """Return whether the value has the form of a stored hash, which is the same as that of a secret."""
    return isinstance(text, str) and is_secret(text)


def issue(
    name: str, scope_names: tuple[str, ...] = scopes.ALL, expires_at: datetime | None = None
) -> tuple[Token, str]:
    """Create a token. Return it with its secret, which is stored nowhere. Without ``expires_at``, it never expires.

    Raises TokenError for a name that is empty, too long, or not one line of text.
    """
    name = name.strip()
    categories = {unicodedata.category(character) for character in name}
    if not 0 < len(name) <= MAX_NAME_LENGTH or categories & _FORBIDDEN_CATEGORIES:
        raise TokenError(f"the name of a token must be one line of 1 to {MAX_NAME_LENGTH} characters")
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
    """Return the token of one entry of tokens.json, or None if the entry is not a valid token.

    The result is None if the hash, the scopes or a time cannot be parsed, so that such an entry gives no access.
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
    """Return a text field of an entry. Unpaired surrogates, which no response can contain, become U+FFFD."""
    return str(entry.get(key, "")).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _time(entry: dict[str, Any], key: str) -> datetime | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a string")  # noqa: TRY004 - a value of the file, not an argument
    return from_text(value)
