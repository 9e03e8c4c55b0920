"""Why a request goes no further than the hook: one error, in the contract's form. Runs in the hook."""

from __future__ import annotations

from dataclasses import dataclass, field

NO_CREDENTIAL = 'Bearer realm="punway"'


@dataclass(eq=False)
class HttpError(Exception):
    """The hook's no. ``challenge`` is for WWW-Authenticate (RFC 6750), ``retry_after`` in seconds; ``headers`` are for
    nginx, besides those of every no.
    """

    status: int
    error: str
    message: str
    challenge: str = ""
    retry_after: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def unauthorized(message: str, error: str = "") -> HttpError:
    """401. Without credentials a challenge carries no error code (RFC 6750, section 3.1)."""
    challenge = f'Bearer realm="punway", error="{error}"' if error else NO_CREDENTIAL
    return HttpError(401, "unauthorized", message, challenge)


def forbidden(message: str) -> HttpError:
    return HttpError(403, "forbidden", message)


def unavailable(message: str, retry_after: int = 5) -> HttpError:
    return HttpError(503, "service_unavailable", message, retry_after=retry_after)
