"""pun_app/scheduler_errors.py: the HTTP errors that report a scheduler's errors."""

from __future__ import annotations

import pytest

from pun_app.adapters import errors
from pun_app.adapters.errors import SchedulerError
from pun_app.scheduler_errors import api_error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.JobNotFound(), 404),
        (errors.Rejected("no such partition"), 422),
        (errors.Unsupported("no accounts"), 501),
        (errors.SchedulerUnavailable("down"), 503),
        (errors.CommandTimedOut("sbatch", 25), 503),
        (errors.Unanswered("timeout"), 503),
        (errors.CommandNotRun("no sbatch"), 503),
        (errors.CircuitOpen("down"), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, SchedulerError) else str(value),
)
def test_every_error_has_an_http_status_and_keeps_its_message(error: SchedulerError, status: int) -> None:
    assert (api_error(error).status, api_error(error).message) == (status, error.message)


def test_the_time_to_retry_after_is_kept() -> None:
    assert api_error(errors.SchedulerUnavailable("down", 42)).headers() == {"Retry-After": "42"}
