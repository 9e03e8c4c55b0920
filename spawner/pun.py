"""The state that the spawner keeps for one user's PUN, such as its socket and its process. Runs as root."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from spawner import wire
from spawner.launch import Preloader

Reply = Callable[[wire.Message], None]
"""A function that sends an answer to the client that made a request."""


@dataclass(eq=False)
class Pun:
    """The PUN of one user. Times are in seconds of the spawner's clock (children.py)."""

    uid: int
    name: str
    path: str  # The path of its socket.
    listener: socket.socket | None = None
    state: str = "new"
    state_since: float = 0.0
    requested_at: float = 0.0  # The last time that the hook requested this PUN.
    pid: int = 0
    parent: Preloader | None = None
    report: int = -1  # The pipe with the child's report; -1 when it is closed.
    reported: bytes = b""
    reported_at: float = 0.0
    stop_when_serving: bool = False  # True if it must stop as soon as it serves. SIGTERM would kill it before that.
    failures: int = 0  # The number of failures in a row.
    refusal: wire.Message = field(default_factory=dict)
    refused_until: float = 0.0
    waiting: list[Reply] = field(default_factory=list)

    @property
    def last_used(self) -> float:
        """The time at which a resting PUN was last needed."""
        return max(self.state_since, self.requested_at)

    def answer(self, now: float) -> wire.Message:
        """Return the path of its socket, or the reason for a refusal and the seconds to wait before another try."""
        if self.state != "refused":
            return {"socket": self.path}
        return {**self.refusal, "retry_after": max(1, round(self.refused_until - now))}

    def answer_waiting(self, now: float) -> None:
        """Answer all requests waiting for this PUN."""
        waiting, self.waiting = self.waiting, []
        for reply in waiting:
            reply(self.answer(now))

    def row(self, now: float) -> wire.Message:
        """Return its row in the answer to ``ps``."""
        keys = ("name", "uid", "pid", "state")
        return {**{key: getattr(self, key) for key in keys}, "seconds": round(now - self.state_since)}
