"""Bounds on how much is read and served at once, for each user and in all, so that one user's agents leave the server
to the others, and all of them together leave it its memory.

A request is admitted or refused as it comes. Before its message is read it takes a place, for which it may queue. A
message that only waits for a job gives its place back (Place.release).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import anyio

MESSAGE_SIZE = 1024 * 1024
"""Bytes of one message. What is larger belongs into files on the cluster."""
MESSAGE_VALUES = 10_000
"""JSON values in one message: each takes some 100 bytes, if it has one or not."""
LARGE_SIZE = 64 * 1024
"""Bytes from which on a message counts as large."""
WAITING_SIZE = 4 * 1024
"""Bytes of a message that may be kept for as long as a job is waited for."""
OPEN_PER_USER, OPEN = 256, 2048
"""Requests, those that wait for jobs among them."""
PLACES_PER_USER, PLACES = 16, 128
"""Messages that are read or served."""
LARGE_PER_USER, LARGE = 4, 16
"""Large messages among them."""
QUEUE_TIME_S = 10.0
"""How long a request waits for a place."""


class Busy(Exception):
    """No room for a request; the same will do later. ``is_own`` where the user's own requests take it."""

    def __init__(self, *, is_own: bool) -> None:
        self.is_own = is_own
        super().__init__(
            "Too many of your requests are under way; wait for their answers"
            if is_own
            else "The portal serves as many requests of agents as it can; try again"
        )


def values_in(message: bytes) -> int:
    """Return how many JSON values are in a message, or a few more. Of what is no JSON, those before the fault."""
    outside_of_texts = b"".join(message.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    return 1 + sum(outside_of_texts.count(mark) for mark in (b",", b"[", b"{"))


@dataclass
class Share:
    """What one user has of it."""

    open: int = 0
    places: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(PLACES_PER_USER))
    large: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(LARGE_PER_USER))


class Place:
    """The room that one message has."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[anyio.Semaphore] = []

    async def take(self, share: Share, whole: Share) -> None:
        """Raises Busy where there is no room after a time."""
        wanted = [(share.places, True), (whole.places, False)]
        if self._size > LARGE_SIZE:
            wanted += [(share.large, True), (whole.large, False)]
        with anyio.move_on_after(QUEUE_TIME_S) as scope:
            for semaphore, _ in wanted:
                await semaphore.acquire()
                self._held.append(semaphore)
        if scope.cancelled_caught:
            semaphore, is_own = wanted[len(self._held)]
            # Time may be up just when the user's own place has come, and this one was there.
            raise Busy(is_own=is_own or semaphore.value > 0)

    def give_back(self) -> None:
        while self._held:
            self._held.pop().release()

    def wait(self) -> None:
        """Give it back before the answer, as what follows takes long and needs little. A longer message keeps it."""
        if self._size <= WAITING_SIZE:
            self.give_back()


class Limits:
    """What is under way in one server."""

    def __init__(self) -> None:
        self._whole = Share(0, anyio.Semaphore(PLACES), anyio.Semaphore(LARGE))
        self._shares: dict[str, Share] = {}

    @contextmanager
    def admitted(self, user: str) -> Iterator[Share]:
        """The user's share, with one more request. Raises Busy."""
        share = self._shares.setdefault(user, Share())
        if share.open >= OPEN_PER_USER or self._whole.open >= OPEN:
            raise Busy(is_own=share.open >= OPEN_PER_USER)
        share.open += 1
        self._whole.open += 1
        try:
            yield share
        finally:
            share.open -= 1
            self._whole.open -= 1
            if not share.open:
                del self._shares[user]

    @asynccontextmanager
    async def place(self, share: Share, size: int) -> AsyncIterator[Place]:
        """A place for a message of that size. Raises Busy."""
        place = Place(size)
        try:
            await place.take(share, self._whole)
            yield place
        finally:
            place.give_back()
