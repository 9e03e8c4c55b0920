"""Gates: limits on how many requests of one kind have a thread at the same time. Others wait without a thread.

So a cluster that hangs leaves threads to requests for other clusters, and to requests that need no cluster.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Turn:
    """A request's place in a gate, or its wait for one. ``end`` ends either, and may be called repeatedly."""

    keeps_deadline = True
    """The wait counts towards the request's own time limit."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.has_place = False
        self.resume: Callable[[], None] | None = None

    def park(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once there is a place, at once if there already is one."""
        self._gate.park(self, resume)

    def end(self) -> None:
        self._gate.leave(self)


class Gate:
    """A number of places, which requests get in the order of their arrival."""

    def __init__(self, places: int) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._waiting: deque[Turn] = deque()

    def enter(self) -> Turn:
        """Return a turn that has a place or will get one."""
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
        """End a turn. If it has a place, give the place to the next turn."""
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
    """A gate for each name. Names are few: the existing clusters."""

    def __init__(self, threads: int) -> None:
        # Each gate leaves two threads to the others. The server adds threads while requests are slow (server.py).
        self._places = max(1, threads - 2)
        self._lock = threading.Lock()
        self._gates: dict[str, Gate] = {}

    def enter(self, name: str) -> Turn:
        with self._lock:
            gate = self._gates.setdefault(name, Gate(self._places))
        return gate.enter()
