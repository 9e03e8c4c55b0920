"""The parser of the Authorization header, which must contain exactly one bearer token. Runs in the hook.

Punway tokens and JWTs differ in their syntax, so no look-up is needed to tell them apart (RFC 6750, section 2.1;
RFC 7515).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy_hook.errors import CHALLENGE, HttpError, unauthorized
from tokens.token import is_secret

MAX_JWT_LENGTH = 8192
"""The maximum length of a JWT, in characters."""

_BLANKS = b" \t"
_MISSING = "Invalid or missing API token"
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class BearerToken:
    """A Punway token: 64 hex characters. Its repr hides the secret, so that no log can contain it."""

    secret: str

    def __repr__(self) -> str:
        return "BearerToken(…)"


@dataclass(frozen=True)
class Jwt:
    """A token that has the form of a JWT and is not yet verified. Its repr hides the secret too."""

    token: str

    def __repr__(self) -> str:
        return "Jwt(…)"


def credential(headers: Iterable[tuple[bytes, bytes]]) -> BearerToken | Jwt:
    """Return the credential of a request.

    Raises HttpError: 401 if there is no credential or its form is unknown, and 400 if there is more than one.
    """
    values = [value for name, value in headers if name.lower() == b"authorization" and value.strip(_BLANKS)]
    if not values:
        raise unauthorized(f"{_MISSING}: send it as Authorization: Bearer TOKEN")
    if len(values) > 1 or b"," in values[0]:
        raise HttpError(
            400,
            "bad_request",
            "More than one credential: send exactly one Authorization header",
            f'{CHALLENGE}, error="invalid_request"',
        )
    # Split at spaces and tabs only. Unicode's whitespace includes bytes with other meanings in latin-1.
    scheme, value, *_ = [*re.split("[ \t]+", values[0].strip(_BLANKS).decode("latin-1"), maxsplit=1), ""]
    if scheme.lower() != "bearer" or not value:
        raise unauthorized(f"{_MISSING}: the scheme must be Bearer, as in Authorization: Bearer TOKEN")
    if is_secret(value):
        return BearerToken(value)
    if len(value) <= MAX_JWT_LENGTH and _JWT.fullmatch(value):
        return Jwt(value)
    raise unauthorized(f"{_MISSING}: a token is 64 hex characters", "invalid_token")
