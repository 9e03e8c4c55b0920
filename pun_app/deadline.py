"""Deadlines: until when what this thread does may take, so that the parts of a request have one limit together.

nginx waits 330 s, and the MCP server 150 s, but many clients give up after 60 s. An answer comes before that.
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
"""Seconds for a request that reads. Slurm's commands give up by themselves after 18 s, and say why."""
CHANGE_S = 40.0
"""Seconds for a request that changes something: a command, and the lookup of what became of it. Also for accounting
records, which some schedulers search through for long."""
BATCH_S = 10.0
"""Seconds after which the answer for several clusters leaves out those that have not answered."""
GRACE_S = 2.0
"""Seconds after its deadline in which a request may still answer by itself, which says more than the server can."""

log = logging.getLogger("punway.pun")
_thread = threading.local()
T = TypeVar("T")


def left() -> float:
    """Return the seconds until this thread's deadline; infinity where there is none."""
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
    """Return how many seconds a request has, without those for which it waits for a job."""
    if method in ("GET", "HEAD"):
        return CHANGE_S if path.endswith("/historic") else READ_S
    return READ_S if path.endswith("/jobs/status") else CHANGE_S


def begin(work: Callable[[], T], name: str, expected: tuple[type[Exception], ...] = ()) -> Future[T]:
    """Run ``work`` in a thread of its own, which has no deadline yet. Return what it will give or raise.

    An exception that is not ``expected`` is logged here, since nobody may be left to handle it.
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
