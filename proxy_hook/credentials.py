"""Exactly one credential from the headers: none and two are answers too. Runs in the hook.

The forms are told apart by their syntax, before anything is looked up (RFC 6750, section 2.1; RFC 7515).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy_hook.errors import HttpError, unauthorized
from tokens.token import is_secret

MAX_JWT_LENGTH = 8192
"""A JWT's greatest length, in characters."""

_BLANKS = b" \t"
_MISSING = "Invalid or missing API token"
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class BearerToken:
    """A token of ours: 64 hex characters. Never logged, so it has no readable form."""

    secret: str

    def __repr__(self) -> str:
        return "BearerToken(…)"


@dataclass(frozen=True)
class Jwt:
    """What may be a token of the site's identity provider; no more than its form was looked at."""

    token: str

    def __repr__(self) -> str:
        return "Jwt(…)"


def credential(headers: Iterable[tuple[bytes, bytes]]) -> BearerToken | Jwt:
    """The one credential of a request. Raises HttpError: 401 for none or one of no known form, 400 for two."""
    given = [value for name, value in headers if name.lower() == b"authorization" and value.strip(_BLANKS)]
    if not given:
        raise unauthorized(f"{_MISSING}: send it as Authorization: Bearer TOKEN")
    if len(given) > 1 or b"," in given[0]:
        raise HttpError(
            400,
            "bad_request",
            "More than one credential: send exactly one Authorization header",
            'Bearer realm="punway", error="invalid_request"',
        )
    # Not Unicode's blanks, among which are bytes that latin-1 has for other things.
    scheme, value, *_ = [*re.split("[ \t]+", given[0].strip(_BLANKS).decode("latin-1"), maxsplit=1), ""]
    if scheme.lower() != "bearer" or not value:
        raise unauthorized(f"{_MISSING}: the scheme must be Bearer, as in Authorization: Bearer TOKEN")
    if is_secret(value):
        return BearerToken(value)
    if len(value) <= MAX_JWT_LENGTH and _JWT.fullmatch(value):
        return Jwt(value)
    raise unauthorized(f"{_MISSING}: a token is 64 hex characters", "invalid_token")
