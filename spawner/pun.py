"""What the spawner knows of one user's PUN. Runs as root."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spawner import wire
from spawner.launch import Preloader

Reply = Callable[[wire.Message], None]


@dataclass(eq=False)
class Pun:
    """One user's PUN. Times are of the monotonic clock; ``report`` is -1 when it is closed.

    ``since`` is when its state began, ``asked`` when the hook last asked for it, ``heard`` when its child reported.
    ``stop_then`` has it told to leave once it serves.
    """

    uid: int
    name: str
    path: str
    listener: socket.socket | None = None
    state: str = "new"
    pid: int = 0
    parent: Preloader | None = None
    since: float = 0.0
    asked: float = 0.0
    heard: float = 0.0
    failures: int = 0
    refusal: wire.Message = field(default_factory=dict)
    refused_until: float = 0.0
    waiting: list[Reply] = field(default_factory=list)
    report: int = -1
    news: bytes = b""
    stop_then: bool = False

    def answer(self) -> wire.Message:
        """Where its socket is, or why there is none and when to come again."""
        if self.state != "refused":
            return {"socket": self.path}
        return {**self.refusal, "retry_after": max(1, round(self.refused_until - time.monotonic()))}

    def tell_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        for reply in waiting:
            reply(self.answer())

    def row(self, now: float) -> wire.Message:
        """What ``ps`` shows of it."""
        keys = ("name", "uid", "pid", "state")
        return {**{key: getattr(self, key) for key in keys}, "seconds": round(now - self.since)}
