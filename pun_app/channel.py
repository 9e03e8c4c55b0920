"""waitress's connections, with what a PUN's need besides: requests that wait without a thread, bodies that are bounded
by route and in number, and errors in the API's form.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error, RequestEntityTooLarge

from pun_app.app import PARKED_CALL
from pun_app.errors import BadRequest, Internal, NotSupported, TooLarge, Unavailable
from pun_app.long_poll import LongPoll, Parked
from pun_app.routes import BODY_LIMIT

LARGE_BODIES = 2
"""Bodies beyond BODY_LIMIT that one PUN has at once; others are not read until one of these is answered."""


class NoRoom(Error):
    """The body could not be kept while it was read: the disk of temporary files is full, say."""

    code = 503
    reason = "Service Unavailable"


class Parser(HTTPRequestParser):
    """One request, while it is read and until it is answered."""

    command: Any
    path: str

    def __init__(self, adj: Adjustments, limit_of: Callable[[str, str], int], places: threading.Semaphore) -> None:
        super().__init__(adj)
        self._limit_of = limit_of
        self._limit = 0
        self._places = places
        self._needs_place = False
        self._has_place = False

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.body_rcv is not None:
            self._limit = self._limit_of(self.command, self.path)
            self.adj = copy.copy(self.adj)
            # What waitress counts of a chunked body has the chunks' own lines in it.
            self.adj.max_request_body_size = (2 if self.chunked else 1) * self._limit + 1
            self._needs_place = self._limit > BODY_LIMIT and (self.chunked or self.content_length > BODY_LIMIT)

    def received(self, data: bytes) -> int:
        try:
            count: int = super().received(data)
        except OSError as error:
            self.error = NoRoom(f"The body cannot be kept while it is read: {error.strerror or error}")
            self.completed = True
            return len(data)
        if isinstance(self.error, RequestEntityTooLarge) or (self.body_rcv and len(self.body_rcv) > self._limit):
            self.error = RequestEntityTooLarge(f"The body is larger than {self._limit} bytes")
            self.completed = True
        return count

    def may_be_read(self) -> bool:
        """Whether there is a place for this body. What is not read waits with the client."""
        if self._needs_place and not self._has_place:
            self._has_place = self._places.acquire(blocking=False)
            return self._has_place
        return True

    def close(self) -> None:
        super().close()
        if self._has_place:
            self._needs_place = self._has_place = False
            self._places.release()


class Task(WSGITask):
    """A call of the app; the second one for a request that has waited."""

    channel: Any

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        parked, self.channel.parked = self.channel.parked, None
        if parked:
            environ[PARKED_CALL] = parked.call
        return environ


_WORDS = {kind.status: kind.error for kind in (BadRequest, TooLarge, Internal, NotSupported, Unavailable)}
_WORDS[431] = "headers_too_large"


class Refusal(ErrorTask):
    """An answer to a request that never reaches the app."""

    request: Any
    response_headers: Any

    def execute(self) -> None:
        error = self.request.error
        body = json.dumps({"error": _WORDS[error.code], "message": error.body}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        if error.code == NoRoom.code:
            self.response_headers.append(("Retry-After", "10"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):
    """One connection. ``server`` has what all of them share (see equip)."""

    server: Any
    request: Any
    task_class = Task
    error_task_class = Refusal
    parked: Parked | None = None

    def parser_class(self, adj: Adjustments) -> Parser:  # type: ignore[override]
        return Parser(adj, self.server.body_limit, self.server.places)

    def readable(self) -> bool:
        request = self.request
        return bool(super().readable()) and (request is None or request.may_be_read())

    def service(self) -> None:
        """Serve a request. One that waits is put aside, and is the first to be served when its wait is over."""
        try:
            super().service()
        except Parked as parked:
            # Its frames hold all of the request's environment.
            self.parked = parked.with_traceback(None)
            self.server.long_poll.park(parked.wait, self._resume)
            if not self.connected:
                self.server.long_poll.end(parked.wait)
            # The loop has to know of a new deadline.
            self.server.pull_trigger()

    def _resume(self) -> None:
        self.server.add_task(self)

    def handle_close(self) -> None:
        super().handle_close()
        if self.request is not None:
            self.request.close()
        if self.parked is not None:
            self.server.long_poll.end(self.parked.wait)


def equip(server: Any, body_limit: Callable[[str, str], int], long_poll: LongPoll) -> None:
    """Have a waitress server use these connections. ``body_limit`` tells a body's by method and path."""
    server.channel_class = Channel
    server.body_limit = body_limit
    server.long_poll = long_poll
    server.places = threading.Semaphore(LARGE_BODIES)
