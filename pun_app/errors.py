"""The errors of the API, each with its HTTP status. They are raised anywhere and caught once, in app.py.

The errors of schedulers have a tree of their own (adapters/errors.py), and become one of these in scheduler_errors.py.

ApiError
├── BadRequest          400  the request is malformed
├── Unauthorized        401  the token is invalid, expired or revoked
├── InsufficientScope   403  the token is valid, but lacks the scope for this request
├── Forbidden           403  a form did not come from one of our own pages
├── NotFound            404  the cluster, job or address does not exist, or is not the caller's
├── MethodNotAllowed    405  the address has other methods
├── Conflict            409  the outcome of an earlier request is unknown, or two parameters contradict each other
├── TooLarge            413  the body is too large
├── UnsupportedMedia    415  the body has the wrong Content-Type
├── Refused             422  the request is well-formed, but the scheduler or the user's own files do not allow it
├── Internal            500  a bug of the portal
├── NotSupported        501  the cluster's adapter cannot do this
└── Unavailable         503  a scheduler, the home or another service does not answer; a retry may succeed
"""

from __future__ import annotations

from tokens.token import Token

MAX_MESSAGE_LENGTH = 1000
"""Maximum length of an error message in characters. A message may quote a client or a scheduler."""


class ApiError(Exception):
    """An error response. The message is for the caller: it says what is wrong and what to do."""

    status = 500
    error = "internal_error"

    def __init__(self, message: str) -> None:
        if len(message) > MAX_MESSAGE_LENGTH:
            message = f"{message[:MAX_MESSAGE_LENGTH]}…"
        super().__init__(message)
        self.message = message

    def headers(self) -> dict[str, str]:
        """Return extra response headers."""
        return {}


class BadRequest(ApiError):
    status, error = 400, "bad_request"


class Unauthorized(ApiError):
    """A missing or invalid credential. ``token`` is the expired token in the user's file, if any, for the audit log."""

    status, error = 401, "unauthorized"

    def __init__(self, message: str, token: Token | None = None) -> None:
        super().__init__(message)
        self.token = token

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="punway", error="invalid_token"'}


class InsufficientScope(ApiError):
    """A token without the ``scope`` that the request needs (RFC 6750, section 3.1)."""

    status, error = 403, "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This token lacks the scope {scope}; use or make a token with this scope")
        self.scope = scope

    def headers(self) -> dict[str, str]:
        challenge = f'Bearer realm="punway", error="insufficient_scope", scope="{self.scope}"'
        return {"WWW-Authenticate": challenge}


class Forbidden(ApiError):
    status, error = 403, "forbidden"


class NotFound(ApiError):
    status, error = 404, "not_found"


class MethodNotAllowed(ApiError):
    status, error = 405, "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This address does not support the method; use one of: {allowed}")
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class Conflict(ApiError):
    status, error = 409, "conflict"


class TooLarge(ApiError):
    status, error = 413, "payload_too_large"


class UnsupportedMedia(ApiError):
    status, error = 415, "unsupported_media_type"


class Refused(ApiError):
    status, error = 422, "unprocessable_entity"


class Internal(ApiError):
    def __init__(self) -> None:
        super().__init__(
            "The portal failed because of an error of its own; try again, and tell the site's staff if it fails again"
        )


class NotSupported(ApiError):
    status, error = 501, "not_implemented"


class Unavailable(ApiError):
    """A service that does not answer. ``retry_after`` is the time until a retry makes sense, in seconds."""

    status, error = 503, "service_unavailable"

    def __init__(self, message: str, retry_after: int = 10) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}
