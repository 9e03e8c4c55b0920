"""Gates: how many requests of one kind have a thread at once. Others wait for a place, and hold no thread meanwhile.

So the requests for a cluster that hangs leave threads to other clusters, and to what asks no cluster.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Turn:
    """A request's place in a gate, or its wait for one. ``end`` gives either up, and may be called again."""

    keeps_deadline = True
    """The time that it waits is the request's own."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.has_place = False
        self.resume: Callable[[], None] | None = None

    def park(self, resume: Callable[[], None]) -> None:
        """Have ``resume`` called once there is a place, which there may be already."""
        self._gate.park(self, resume)

    def end(self) -> None:
        self._gate.leave(self)


class Gate:
    """Some places. Requests get them in the order in which they came."""

    def __init__(self, places: int) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._waiting: deque[Turn] = deque()

    def enter(self) -> Turn:
        """Return a turn that has a place, or is going to get one."""
        turn = Turn(self)
        with self._lock:
            if self._free:
                self._free -= 1
                turn.has_place = True
            else:
                self._waiting.append(turn)
        return turn

    def park(self, turn: Turn, resume: Callable[[], None]) -> None:
        with self._lock:
            turn.resume = resume
            has_place = turn.has_place
        if has_place:
            resume()

    def leave(self, turn: Turn) -> None:
        """Take a turn's place away, and give it to the next one."""
        resume = None
        with self._lock:
            if not turn.has_place:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                return
            turn.has_place = False
            if self._waiting:
                following = self._waiting.popleft()
                following.has_place = True
                resume = following.resume
            else:
                self._free += 1
        if resume:
            resume()


class Gates:
    """A gate for each name, which are few: clusters that there are."""

    def __init__(self, threads: int) -> None:
        # Two threads are left to others. While requests are slow, the server has more of them (server.py).
        self._places = max(1, threads - 2)
        self._lock = threading.Lock()
        self._gates: dict[str, Gate] = {}

    def enter(self, name: str) -> Turn:
        with self._lock:
            gate = self._gates.setdefault(name, Gate(self._places))
        return gate.enter()
