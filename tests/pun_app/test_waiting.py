"""pun_app/waiting.py: requests that wait, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pun_app import waiting as module
from pun_app.adapters.model import COMPLETED, QUEUED, RUNNING, Job
from pun_app.errors import NotFound, Unavailable
from pun_app.waiting import Waiters


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)


def looks(*found: Job | Exception) -> Callable[[], Job]:
    """What each look finds; the last stays."""
    left = list(found)

    def look() -> Job:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return one

    return look


def ended(job: Job) -> bool:
    return job.status == COMPLETED


Q, R, C = Job("1", status=QUEUED), Job("1", status=RUNNING), Job("1", status=COMPLETED)


def test_it_ends_when_the_job_is_there() -> None:
    assert Waiters().wait(looks(Q, R, R, C), ended, 300, lambda: False) == C


def test_it_ends_when_the_time_is_up() -> None:
    assert Waiters().wait(looks(Q, R), ended, 1, lambda: False) == R


def test_it_ends_when_the_client_hangs_up() -> None:
    gone = iter([False, False, True])
    assert Waiters().wait(looks(Q), ended, 300, lambda: next(gone)) == Q


def test_it_ends_when_the_process_leaves() -> None:
    waiters = Waiters()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(waiters.wait, looks(Q), ended, 300, lambda: False)
        waiters.leave()
        assert answer.result(30) == Q


def test_a_job_that_is_not_there_is_not_waited_for() -> None:
    with pytest.raises(NotFound):
        Waiters().wait(looks(NotFound("no")), ended, 300, lambda: False)


def test_a_scheduler_that_is_away_for_a_moment_is_asked_again() -> None:
    """But not for ever, and not at the first look."""
    away = Unavailable("away")
    assert Waiters().wait(looks(Q, away, away, C), ended, 300, lambda: False) == C
    with pytest.raises(Unavailable):
        Waiters().wait(looks(Q, away), ended, 1, lambda: False)
    with pytest.raises(Unavailable):
        Waiters().wait(looks(away, C), ended, 300, lambda: False)


def test_more_than_a_bounded_number_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes then is told so; who waits goes on; and places are free again afterwards."""
    monkeypatch.setattr(module, "AT_ONCE", 2)
    sizes: list[int] = []
    waiters, go = Waiters(), threading.Event()
    waiters.resized = sizes.append
    with ThreadPoolExecutor(2) as pool:
        others = [
            pool.submit(waiters.wait, lambda: C if go.is_set() else Q, ended, 300, lambda: False) for _ in range(2)
        ]
        while len(sizes) < 2:
            threading.Event().wait(0.01)
        with pytest.raises(Unavailable, match="wait already"):
            waiters.wait(looks(Q), ended, 300, lambda: False)
        go.set()
        assert [other.result(30) for other in others] == [C, C]
    assert (sorted(sizes), sizes[-1]) == ([0, 1, 1, 2], 0)
