"""HttpError, an exception that becomes an error response of the hook, in the same form as the API's errors.

app.py catches it, and puts it into headers for nginx's auth requests, and into a response for all other requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CHALLENGE = 'Bearer realm="punway"'
"""The challenge to a request without a credential."""


@dataclass(eq=False)
class HttpError(Exception):
    """An error response.

    ``code`` is for programs, ``message`` is for the user, and ``challenge`` is for WWW-Authenticate (RFC 6750).
    ``retry_after`` is in seconds. ``headers`` are extra headers of the answer to nginx's auth request.
    """

    status: int
    code: str
    message: str
    challenge: str = ""
    retry_after: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def unauthorized(message: str, error: str = "") -> HttpError:
    """Return a 401 with a challenge.

    ``error`` is the challenge's error code. It is empty if there were no credentials (RFC 6750, section 3.1).
    """
    return HttpError(401, "unauthorized", message, f'{CHALLENGE}, error="{error}"' if error else CHALLENGE)


def forbidden(message: str) -> HttpError:
    """Return a 403."""
    return HttpError(403, "forbidden", message)


def unavailable(message: str, retry_after: int = 5) -> HttpError:
    """Return a 503. Its ``retry_after`` is in seconds."""
    return HttpError(503, "service_unavailable", message, retry_after=retry_after)
