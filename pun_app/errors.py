"""ApiError and its few kinds, named by whose fault it is. Raised anywhere, caught once, in app.py.

The errors of schedulers have a tree of their own (adapters/errors.py), and become one of these in scheduler_errors.py.

ApiError
├── BadRequest          400  the caller's: the request is not of the form
├── Unauthorized        401  the token is not good (any more)
├── InsufficientScope   403  the token is good, but not for this
├── Forbidden           403  a form that is not one of ours
├── NotFound            404  no such cluster, job or address; also: not the caller's
├── MethodNotAllowed    405
├── Conflict            409  what became of an earlier request is not known, so this one is not done
├── TooLarge            413
├── UnsupportedMedia    415
├── Refused             422  understood, but the scheduler (or the user's own files) would not have it
├── Internal            500  ours
├── NotSupported        501  this cluster's adapter cannot do it
└── Unavailable         503  what we depend on does not answer; the same may work later
"""

from __future__ import annotations

from tokens.token import Token

MAX_MESSAGE = 1000
"""Characters of an error's message: it may repeat what a client sent, or what a scheduler said."""


class ApiError(Exception):
    """An answer other than success. The message is for the caller and says what to do."""

    status = 500
    error = "internal_error"

    def __init__(self, message: str) -> None:
        if len(message) > MAX_MESSAGE:
            message = f"{message[:MAX_MESSAGE]}…"
        super().__init__(message)
        self.message = message

    def headers(self) -> dict[str, str]:
        """What the answer's header says besides."""
        return {}


class BadRequest(ApiError):
    status, error = 400, "bad_request"


class Unauthorized(ApiError):
    """``token`` is the one of the user's file that is not good any more, for the audit log."""

    status, error = 401, "unauthorized"

    def __init__(self, message: str, token: Token | None = None) -> None:
        super().__init__(message)
        self.token = token

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="punway", error="invalid_token"'}


class InsufficientScope(ApiError):
    """RFC 6750, section 3.1. ``scope`` is the one that is missing."""

    status, error = 403, "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This token lacks the scope {scope}")
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
        super().__init__(f"This address takes {allowed}")
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
        super().__init__("Something went wrong here that is not your fault; the portal's log has the details")


class NotSupported(ApiError):
    status, error = 501, "not_implemented"


class Unavailable(ApiError):
    """``retry_after`` is in seconds."""

    status, error = 503, "service_unavailable"

    def __init__(self, message: str, retry_after: int = 10) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}
