"""The HTTP error for each error of an adapter (adapters/errors.py)."""

from __future__ import annotations

from pun_app.adapters.errors import JobNotFound, Rejected, SchedulerError, SchedulerUnavailable, Unsupported
from pun_app.errors import ApiError, Internal, NotFound, NotSupported, Refused, Unavailable

API_ERRORS: tuple[tuple[type[SchedulerError], type[ApiError]], ...] = (
    (JobNotFound, NotFound),
    (Rejected, Refused),
    (Unsupported, NotSupported),
)


def api_error(error: SchedulerError) -> ApiError:
    """Return the HTTP error that reports an adapter's error to the client."""
    if isinstance(error, SchedulerUnavailable):
        return Unavailable(error.message, error.retry_after)
    for kind, reported_as in API_ERRORS:
        if isinstance(error, kind):
            return reported_as(error.message)
    return Internal()
