"""The hook's part of the audit log: one line of JSON for each sign-in, and each token made, found or revoked.

What is asked of the API is nginx's part, with the same keys (nginx/portal.conf.j2). No line has a secret. One user
(or one address, where no user is known) writes at most MAX_LINES_PER_MINUTE; a further line counts what was left out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone

_log = logging.getLogger("punway.audit")
MAX_VALUE_LENGTH = 300
MAX_LINES_PER_MINUTE = 120
"""Lines of one user. It is well above what people and programs do in earnest."""
_WINDOW_S = 60.0
_CLOSE_INTERVAL_S = 5.0


def to_stdout() -> None:
    """Write the lines, and nothing else, to standard output: each is JSON, whole, and one write."""

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
    """The lines of one user in one minute. ``ends`` is monotonic time."""

    ends: float
    user: str | None
    written: int = 0
    omitted: int = 0


class _Windows:
    """The running minute of each user who wrote lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def may_write(self, user: str | None, address: str | None) -> bool:
        """Count a line; False if it is one too many in this minute."""
        with self._lock:
            self._close_ended()
            key = user if user is not None else f" {address}"
            window = self._windows.setdefault(key, _Window(time.monotonic() + _WINDOW_S, user))
            window.written += 1
            if window.written <= MAX_LINES_PER_MINUTE:
                return True
            window.omitted += 1
            return False

    def close_ended(self) -> None:
        with self._lock:
            self._close_ended()

    def _close_ended(self) -> None:
        # In the order of their beginning, so the first that has not ended is where to stop.
        now = time.monotonic()
        while (key := next(iter(self._windows), None)) is not None and self._windows[key].ends <= now:
            window = self._windows.pop(key)
            if window.omitted:
                _write("audit.omitted", "ok", window.user, count=window.omitted)


_windows = _Windows()


def record(action: str, outcome: str, user: str | None, **more: str | None) -> None:
    """Write one line. ``more`` is among token_id, token_name, address, request_id, via, sha256 and reason."""
    if _windows.may_write(user, more.get("address")):
        _write(action, outcome, user, **more)


async def write_omitted_regularly() -> None:
    """Write the lines that count what was left out, soon after each minute ends. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(_CLOSE_INTERVAL_S)
        _windows.close_ended()


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
    _log.info(
        json.dumps({key: value[:MAX_VALUE_LENGTH] if isinstance(value, str) else value for key, value in line.items()})
    )
