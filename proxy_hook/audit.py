"""The hook's part of the audit log: a line of JSON for each sign-in, and for each token created, found or revoked.

nginx logs the requests to the API, with the same keys (nginx/portal.conf.j2). No line contains a secret. One user, or
one address if the user is unknown, causes at most MAX_LINES_PER_MINUTE; a final line gives the number of omitted lines.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

MAX_LINES_PER_MINUTE = 120
"""The maximum number of lines about one user. Normal use stays far below it."""
MAX_VALUE_LENGTH = 300
"""The maximum length of each value, in characters. Longer values are cut."""
WINDOW_S = 60.0
CLOSE_INTERVAL_S = 5.0

_log = logging.getLogger("punway.audit")


def to_stdout() -> None:
    """Send the audit log, and nothing else, to standard output. Each line is JSON and one write."""

    class ToStdout(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = f"{record.getMessage()}\n".encode()
            while line:
                line = line[os.write(1, line) :]

    _log.addHandler(ToStdout())
    _log.setLevel(logging.INFO)
    _log.propagate = False


@dataclass
class _Window:
    """The number of lines about one user in one minute. ``ends`` is in monotonic time."""

    ends: float
    user: str | None
    lines: int = 0
    omitted: int = 0


class AuditLog:
    """The audit log with its limit for each user. Its methods may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def record(self, action: str, outcome: str, user: str | None, **more: str | None) -> None:
        """Write a line, unless its user has written too many in this minute.

        The keys in ``more`` are token_id, token_name, address, request_id, via, sha256 and reason.
        """
        if self._may_write(user, more.get("address")):
            _write(action, outcome, user, **more)

    def write_omitted(self) -> None:
        """Write the number of omitted lines for each minute that has ended."""
        with self._lock:
            self._write_omitted()

    def _may_write(self, user: str | None, address: str | None) -> bool:
        """Count a line. Return False if it exceeds the limit."""
        with self._lock:
            self._write_omitted()
            key = user if user is not None else f" {address}"
            window = self._windows.setdefault(key, _Window(self._clock() + WINDOW_S, user))
            window.lines += 1
            if window.lines <= MAX_LINES_PER_MINUTE:
                return True
            window.omitted += 1
            return False

    def _write_omitted(self) -> None:
        # The windows are sorted by their beginning, so stop at the first one that has not ended.
        now = self._clock()
        while (key := next(iter(self._windows), None)) is not None and self._windows[key].ends <= now:
            window = self._windows.pop(key)
            if window.omitted:
                _write("audit.omitted", "ok", window.user, count=window.omitted)


_audit_log = AuditLog()
record = _audit_log.record
"""AuditLog.record of this process."""


async def write_omitted_regularly() -> None:
    """Write the numbers of omitted lines soon after each minute ends, until the task is cancelled."""
    while True:
        await asyncio.sleep(CLOSE_INTERVAL_S)
        _audit_log.write_omitted()


def _write(action: str, outcome: str, user: str | None, **more: str | int | None) -> None:
    line = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "action": action,
        "outcome": outcome,
        "user": user,
        "token_id": None,
        "token_name": None,
        "address": None,
        "request_id": None,
        **more,
    }
    cut = {key: value[:MAX_VALUE_LENGTH] if isinstance(value, str) else value for key, value in line.items()}
    _log.info(json.dumps(cut))
