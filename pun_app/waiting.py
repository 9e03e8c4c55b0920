"""Requests that wait. Each has a thread of its own beside those that answer, and all look at the same moments.

So a hundred of them leave the threads of the others free, and cost a scheduler what one costs (adapters/shared.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pun_app.adapters.model import Job
from pun_app.errors import Unavailable

LONGEST = 300
"""Seconds that a request may wait."""
AT_ONCE = 200
"""Requests of one PUN that wait at once."""
EVERY = 2.0
"""Seconds between two looks."""


class Waiters:
    """Those of one PUN. ``resized`` is told how many there are; ``leave()`` has all of them answer."""

    def __init__(self) -> None:
        self.resized: Callable[[int], None] = lambda _: None
        self._lock = threading.Lock()
        self._count = 0
        self._leaving = threading.Event()

    def leave(self) -> None:
        """The process is about to leave: whoever waits is answered with what there is."""
        self._leaving.set()

    def wait(self, look: Callable[[], Job], done: Callable[[Job], bool], seconds: int, gone: Callable[[], bool]) -> Job:
        """The job once it is ``done``, or as it is when the time is up or the client ``gone``.

        Raises what the first look raises; a later one that raises Unavailable is tried again until the time is up.
        Raises Unavailable where too many wait.
        """
        deadline = time.monotonic() + seconds
        job = look()
        with self._one_more():
            trouble: Unavailable | None = None
            while not (done(job) and not trouble) and not self._leaving.is_set() and not gone():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                # All at the same moments of the clock.
                self._leaving.wait(min(left, EVERY - time.monotonic() % EVERY))
                try:
                    job, trouble = look(), None
                except Unavailable as error:
                    trouble = error
            if trouble:
                raise trouble
        return job

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        with self._lock:
            if self._count >= AT_ONCE:
                raise Unavailable(f"{AT_ONCE} requests of yours wait already; wait for fewer jobs, or ask without wait")
            self._count += 1
            self.resized(self._count)
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                self.resized(self._count)
