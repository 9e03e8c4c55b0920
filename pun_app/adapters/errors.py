"""The errors that adapters raise. They carry no HTTP status; pun_app/scheduler_errors.py maps them.

SchedulerError               a message for the user, in words that say what to do
├── JobNotFound              the user has no such job (it may be another user's)
├── Rejected                 the scheduler, or the adapter, does not accept the request; nothing was changed
├── Unsupported              the adapter, or this site's scheduler, lacks the feature
└── SchedulerUnavailable     no usable answer; the same request may succeed later
    ├── CommandFailed        the command did not run to its end, so its effect is unknown
    │   └── CommandTimedOut
    ├── Unanswered           the command ran, but its server did not answer, so its effect is unknown
    └── NotSent              nothing reached the scheduler, so nothing was changed
        ├── CommandNotRun    this host could not run the command, which says nothing about the scheduler
        └── CircuitOpen      the scheduler failed to answer moments ago, so it was not asked
"""

from __future__ import annotations


class SchedulerError(Exception):
    """The base of all errors of an adapter. ``message`` is for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class JobNotFound(SchedulerError):
    """The user has no job with this id. An adapter raises it for another user's job too."""

    def __init__(self, message: str = "Job not found") -> None:
        super().__init__(message)


class Rejected(SchedulerError):
    """The request is not acceptable to the scheduler, and nothing was changed."""


class Unsupported(SchedulerError):
    """The adapter or the site's scheduler lacks the feature."""


class SchedulerUnavailable(SchedulerError):
    """No usable answer. ``retry_after`` is in seconds."""

    def __init__(self, message: str, retry_after: int = 10) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CommandFailed(SchedulerUnavailable):
    """The command did not run to its end, so its effect is unknown."""


class CommandTimedOut(CommandFailed):
    """The command ``program`` exceeded its time limit of ``timeout`` seconds."""

    def __init__(self, program: str, timeout: float) -> None:
        super().__init__(f"{program} did not answer within {timeout:.0f} s")
        self.program = program


class Unanswered(SchedulerUnavailable):
    """The command ``program`` ran, but its server did not answer, so its effect is unknown."""

    program = ""


class NotSent(SchedulerUnavailable):
    """Nothing reached the scheduler, so nothing was changed. ``program`` is the command, if one ran."""

    program = ""


class CommandNotRun(NotSent):
    """This host lacked the program, a free slot or the time for the command. The scheduler may be well."""


class CircuitOpen(NotSent):
    """The scheduler failed to answer moments ago, so it was not asked."""
