"""pun_app/clusters/health.py: when a scheduler that does not answer is asked again."""

from __future__ import annotations

from contextlib import suppress

import pytest

from pun_app.adapters.errors import (
    CommandFailed,
    CommandNotRun,
    CommandTimedOut,
    JobNotFound,
    NotSent,
    Rejected,
    SchedulerError,
    SchedulerUnavailable,
    Unanswered,
    Unsupported,
)
from pun_app.clusters.health import ACCOUNTING_COMMANDS, CircuitOpen, Health


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(ACCOUNTING_COMMANDS, clock)


def ask(health: Health, error: BaseException | None = None) -> None:
    """Ask, and get that answer."""
    with health.observe():
        if error is not None:
            raise error


def fail(health: Health, error: BaseException) -> None:
    with pytest.raises(type(error)):
        ask(health, error)


def test_intervals_grow_to_a_minute_and_begin_anew_with_an_answer(health: Health, clock: Clock) -> None:
    """Retry-After is the time until the next probe."""
    for interval in (2, 4, 8, 16, 32, 60, 60):
        fail(health, CommandTimedOut("squeue", 20))
        with pytest.raises(CircuitOpen, match="squeue did not answer") as refused:
            ask(health)
        assert refused.value.retry_after == interval
        clock.now += interval - 0.5
        with pytest.raises(CircuitOpen) as refused:
            ask(health)
        assert (refused.value.retry_after, health.state) == (1, "down")
        clock.now += 0.5
    ask(health)
    assert health.state == "up"
    fail(health, NotSent("Slurm does not answer"))
    with pytest.raises(CircuitOpen) as refused:
        health.check()
    assert refused.value.retry_after == 2


def test_one_probe_at_a_time(health: Health, clock: Clock) -> None:
    """This also holds after a probe that failed with an error of our own."""
    fail(health, CommandTimedOut("squeue", 20))
    clock.now += 2
    with health.observe(), pytest.raises(CircuitOpen):
        ask(health)
    fail(health, CommandTimedOut("squeue", 20))
    clock.now += 2
    fail(health, ZeroDivisionError())
    ask(health)
    assert health.state == "up"


def test_what_fails_side_by_side_is_one_failure(health: Health, clock: Clock) -> None:
    with suppress(CommandTimedOut), health.observe():
        with suppress(CommandTimedOut), health.observe():
            clock.now += 20
            raise CommandTimedOut("squeue", 20)
        clock.now += 0.1
        raise CommandTimedOut("squeue", 20)
    with pytest.raises(CircuitOpen) as refused:
        health.check()
    assert refused.value.retry_after == 2


def of_program(error: NotSent | Unanswered, program: str) -> NotSent | Unanswered:
    error.program = program
    return error


@pytest.mark.parametrize("program", ["squeue", "sacct"])
@pytest.mark.parametrize("kind", [Unanswered, NotSent])
def test_a_command_that_had_no_answer(health: Health, kind: type[NotSent | Unanswered], program: str) -> None:
    """It is the scheduler that is down, unless the command asks a database."""
    fail(health, of_program(kind("Slurm does not answer: Socket timed out"), program))
    assert health.state == ("down" if program == "squeue" else None)


@pytest.mark.parametrize(
    "error",
    [JobNotFound("no such job"), Rejected("no such queue"), Unsupported("x"), CommandNotRun("no sbatch here"), SchedulerUnavailable("x"),
     CommandFailed("sbatch was ended by signal 9"), CommandTimedOut("sacct", 20), CircuitOpen("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_says_nothing_of_the_scheduler(health: Health, error: SchedulerError) -> None:
    """A refusal, a job that is not there, a host without the command, a database that takes long."""
    fail(health, error)
    health.check()
    assert health.state == ("up" if isinstance(error, JobNotFound) else None)


def test_a_submit_whose_outcome_is_not_known_is_a_failure(health: Health) -> None:
    unknown = SchedulerUnavailable("It is not known whether the job was submitted")
    unknown.__cause__ = CommandTimedOut("sbatch", 25)
    fail(health, unknown)
    assert health.state == "down"
    # The unknown outcome of that submit must not be reported for other requests.
    with pytest.raises(CircuitOpen, match="^sbatch did not answer within 25 s. Try again in"):
        health.check()


def test_an_answer_is_old_after_some_minutes(health: Health, clock: Clock) -> None:
    assert health.state is None
    ask(health)
    clock.now += 299
    assert health.state == "up"
    clock.now += 2
    assert health.state is None
