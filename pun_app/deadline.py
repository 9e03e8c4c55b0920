"""Deadlines of threads, so that all parts of a request share one time limit.

nginx waits 330 s and the MCP server 150 s, but many clients give up after 60 s. The limits are shorter than that.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

READ_S = 20.0
"""Time limit of a request that reads. Slurm's commands give up after 18 s and say why."""
CHANGE_S = 40.0
"""Time limit of a request that changes something: a command, and the lookup of its outcome. Also the limit for
accounting records, which some schedulers search for a long time."""
BATCH_S = 10.0
"""Time limit for the clusters of a request that names several. A cluster that takes longer is reported as an error."""
GRACE_S = 2.0
"""Time after its deadline in which a request may still send its own answer, which says more than the server's."""

log = logging.getLogger("punway.pun")
_thread = threading.local()
T = TypeVar("T")


def left() -> float:
    """Return the seconds until this thread's deadline, or infinity if it has none."""
    deadline: float = getattr(_thread, "deadline", math.inf)
    return deadline - time.monotonic()


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Set this thread's deadline, in seconds of the monotonic clock, unless an earlier one is set."""
    outer: float = getattr(_thread, "deadline", math.inf)
    _thread.deadline = min(outer, deadline)
    try:
        yield
    finally:
        _thread.deadline = outer


def time_limit(method: str, path: str) -> float:
    """Return the time limit of a request in seconds. Waiting for a job does not count towards it."""
    if method in ("GET", "HEAD"):
        return CHANGE_S if path.endswith("/historic") else READ_S
    return READ_S if path.endswith("/jobs/status") else CHANGE_S


def begin(work: Callable[[], T], name: str, expected: tuple[type[Exception], ...] = ()) -> Future[T]:
    """Run ``work`` in a new thread without a deadline. Return a future of its result or error.

    An error that is not ``expected`` is logged, because the caller may no longer wait for the future.
    """
    future = Future[T]()

    def run() -> None:
        try:
            future.set_result(work())
        except expected as error:
            future.set_exception(error)
        except Exception as error:
            log.exception("%s failed", name)
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
