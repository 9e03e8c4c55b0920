"""pun_app/adapters/local/queue.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pun_app.adapters.local.queue import DONE, ENDED_JOB_TTL_S, QUEUED, LocalJob, LocalQueue, start_ticks


def job(number: int, state: str = QUEUED, ended_at: int | None = None) -> LocalJob:
    """Return a job of the queue."""
    return LocalJob(number, "n", "/", "/dev/null", "/dev/null", None, state=state, submitted_at=0, ended_at=ended_at)


def test_an_ended_job_is_removed_after_its_time(tmp_path: Path) -> None:
    """The next submit removes it, and its id is not used again. A job that has not ended stays."""
    now = time.time()
    queue = LocalQueue(tmp_path / "queue")
    ended = queue.add("#!/bin/sh\n", lambda number: job(number, DONE, int(now)))
    queued = queue.add("#!/bin/sh\n", job)
    later = LocalQueue(tmp_path / "queue", clock=lambda: now + ENDED_JOB_TTL_S + 60)
    new = later.add("#!/bin/sh\n", job)
    assert (later.get(ended.id), later.get(queued.id)) == (None, queued)
    assert [ended.id, queued.id, new.id] == [1, 2, 3]


def test_one_runner_holds_the_lock(tmp_path: Path) -> None:
    """A second runner gets no lock until the first one has released it."""
    queue = LocalQueue(tmp_path)
    first = queue.runner_lock()
    assert first is not None
    assert queue.runner_lock() is None
    os.close(first)
    second = queue.runner_lock()
    assert second is not None
    os.close(second)


def test_a_process_that_has_ended_has_no_start() -> None:
    """The start distinguishes a job's process from a later one with the same pid."""
    assert start_ticks(os.getpid()) is not None
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert start_ticks(child) is None
