"""Limits on requests in progress, per user and in total.

The limits per user keep one user's agents from blocking the others. The limits in total bound the server's memory.

A request is admitted or rejected immediately. Before its message is read it takes a place, and queues if none is
free. A call that only waits for a job gives its place back (Place.wait).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import anyio

MAX_MESSAGE_BYTES = 1024 * 1024
"""The maximum size of a message. Larger scripts and input belong in files on the cluster."""
MAX_MESSAGE_VALUES = 10_000
"""The maximum number of JSON values in a message. Even an empty list takes about 100 bytes of memory."""
LARGE_MESSAGE_BYTES = 64 * 1024
"""A message above this size counts as large."""
MAX_WAITING_MESSAGE_BYTES = 4 * 1024
"""The maximum size of a message that stays in memory without a place while its call waits for a job."""
MAX_OPEN_PER_USER, MAX_OPEN = 256, 2048
"""Open requests, including calls of wait_for_job."""
PLACES_PER_USER, PLACES = 16, 128
"""Places for messages that are being read or served."""
LARGE_PLACES_PER_USER, LARGE_PLACES = 4, 16
"""Places for large messages. A large message takes one of these in addition."""
QUEUE_TIMEOUT_S = 10.0
"""The time that a request waits for a place."""


class Busy(Exception):
    """No place for a request at the moment. ``is_own`` is true if the user's own requests take all places."""

    def __init__(self, *, is_own: bool) -> None:
        self.is_own = is_own
        super().__init__(
            "Too many of your requests are in progress. Wait for their responses, then try again."
            if is_own
            else "The portal is serving as many agents as it can. Try again later."
        )


def count_values(message: bytes) -> int:
    """Return an upper bound of the number of JSON values in a message, without parsing it.

    For invalid JSON, it is a bound of the values that a parser would make before it fails.
    """
    outside_strings = b"".join(message.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    return 1 + sum(outside_strings.count(sign) for sign in (b",", b"[", b"{"))


@dataclass
class Share:
    """The open requests and the places of one user, or of all users together."""

    open: int = 0
    places: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(PLACES_PER_USER))
    large: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(LARGE_PLACES_PER_USER))


class Place:
    """The place of one message: what it holds of its user's share and of the total."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[anyio.Semaphore] = []

    async def take(self, share: Share, total: Share) -> None:
        """Take a place. Raises Busy if none becomes free within QUEUE_TIMEOUT_S."""
        wanted = [(share.places, True), (total.places, False)]
        if self._size > LARGE_MESSAGE_BYTES:
            wanted += [(share.large, True), (total.large, False)]
        with anyio.move_on_after(QUEUE_TIMEOUT_S) as scope:
            for semaphore, _ in wanted:
                await semaphore.acquire()
                self._held.append(semaphore)
        if scope.cancelled_caught:
            semaphore, is_own = wanted[len(self._held)]
            # The time can run out just after the user's own semaphore was acquired, while this one still had room.
            raise Busy(is_own=is_own or semaphore.value > 0)

    def give_back(self) -> None:
        """Give the place to another message."""
        while self._held:
            self._held.pop().release()

    def wait(self) -> None:
        """Give the place back before a long wait, unless the message is large enough to matter for memory."""
        if self._size <= MAX_WAITING_MESSAGE_BYTES:
            self.give_back()


class Limits:
    """The requests in progress in one server."""

    def __init__(self) -> None:
        self._total = Share(0, anyio.Semaphore(PLACES), anyio.Semaphore(LARGE_PLACES))
        self._shares: dict[str, Share] = {}

    @contextmanager
    def admitted(self, user: str) -> Iterator[Share]:
        """Yield the user's share with one more open request. Raises Busy if the user or the server has too many."""
        share = self._shares.setdefault(user, Share())
        if share.open >= MAX_OPEN_PER_USER or self._total.open >= MAX_OPEN:
            raise Busy(is_own=share.open >= MAX_OPEN_PER_USER)
        share.open += 1
        self._total.open += 1
        try:
            yield share
        finally:
            share.open -= 1
            self._total.open -= 1
            if not share.open:
                del self._shares[user]

    @asynccontextmanager
    async def place(self, share: Share, size: int) -> AsyncIterator[Place]:
        """Yield a place for a message of ``size`` bytes. Raises Busy if none becomes free in time."""
        place = Place(size)
        try:
            await place.take(share, self._total)
            yield place
        finally:
            place.give_back()
