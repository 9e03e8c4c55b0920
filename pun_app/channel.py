"""The connections of a PUN, an extension of waitress's channels.

They add four things: long polling without a thread for each request, limits on the size and the number of bodies,
errors in the API's form, and an answer in time even if a thread is stuck. A thread that reads a file on a hanging file
server cannot be interrupted. So the server's loop answers once the request's time is up (Channel.expire), and the
server starts another thread (server.py).
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error, RequestEntityTooLarge

from pun_app.access import ASSERTION
from pun_app.app import ARRIVED, PARKED_CALL
from pun_app.deadline import GRACE_S, time_limit
from pun_app.errors import BadRequest, Internal, NotSupported, TooLarge, Unavailable
from pun_app.long_poll import Parked
from pun_app.pages.render import error_page
from pun_app.routes import BODY_LIMIT

MAX_LARGE_BODIES = 2
"""Maximum number of bodies above BODY_LIMIT that one PUN holds at once. The others are read later."""

LATE_RETRY_S = 10


class NoRoom(Error):
    """A body that could not be stored while it was read, for example because the disk is full."""

    code = 503
    reason = "Service Unavailable"


class Parser(HTTPRequestParser):
    """The parser of one request, which lives until the request is answered."""

    command: Any
    path: str

    def __init__(
        self,
        adj: Adjustments,
        limit_of: Callable[[str, str], int],
        places: threading.Semaphore,
        verify_assertion: Callable[[str | None], Any],
    ) -> None:
        super().__init__(adj)
        self._limit_of = limit_of
        self._verify_assertion = verify_assertion
        self.assertion: Any = None
        self._limit = 0
        self._places = places
        self._needs_place = False
        self._has_place = False

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        self.assertion = self._verify_assertion(self.headers.get("X_PUN_ASSERTION"))
        if self.body_rcv is not None:
            self._limit = self._limit_of(self.command, self.path)
            self.adj = copy.copy(self.adj)
            # waitress's count of a chunked body includes the lines between the chunks.
            self.adj.max_request_body_size = (2 if self.chunked else 1) * self._limit + 1
            self._needs_place = self._limit > BODY_LIMIT and (self.chunked or self.content_length > BODY_LIMIT)

    def received(self, data: bytes) -> int:
        try:
            count: int = super().received(data)
        except OSError as error:
            self.error = NoRoom(f"The body cannot be stored: {error.strerror or error}; try again later")
            self.completed = True
            return len(data)
        if isinstance(self.error, RequestEntityTooLarge) or (self.body_rcv and len(self.body_rcv) > self._limit):
            self.error = RequestEntityTooLarge(f"The body is larger than {self._limit} bytes; send a smaller one")
            self.completed = True
        return count

    def may_be_read(self) -> bool:
        """Return True if there is a place for this body. Until then it stays unread in the socket."""
        if self._needs_place and not self._has_place:
            self._has_place = self._places.acquire(blocking=False)
            return self._has_place
        return True

    def close(self) -> None:
        super().close()
        self.free_place()

    def free_place(self) -> None:
        """Free the place, so that another large body is read."""
        if self._has_place:
            self._needs_place = self._has_place = False
            self._places.release()


class Task(WSGITask):
    """A call of the app. A request that has waited is called a second time."""

    channel: Any
    request: Any

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[ASSERTION] = self.request.assertion
        environ[ARRIVED] = self.channel.arrived
        parked, self.channel.parked = self.channel.parked, None
        if parked:
            environ[PARKED_CALL] = parked.call
        return environ


_ERROR_CODES = {kind.status: kind.error for kind in (BadRequest, TooLarge, Internal, NotSupported, Unavailable)}
_ERROR_CODES[431] = "headers_too_large"


class Refusal(ErrorTask):
    """An error response to a request that does not reach the app."""

    request: Any
    response_headers: Any

    def execute(self) -> None:
        error = self.request.error
        body = json.dumps({"error": _ERROR_CODES[error.code], "message": error.body}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        if error.code == NoRoom.code:
            self.response_headers.append(("Retry-After", "10"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):
    """A connection. ``server`` has the state that all connections share (see equip)."""

    server: Any
    request: Any
    requests: Any
    requests_lock: threading.Lock
    task_class = Task
    error_task_class = Refusal
    parked: Parked | None = None
    arrived = 0.0
    """The time at which the request had been read, or at which its wait for a job was over."""
    deadline: float | None = None
    """The time at which the loop answers. None without a request, during a wait for a job, and after the answer."""
    is_late = False
    """True once the loop has answered. A later answer from a thread is dropped."""

    def parser_class(self, adj: Adjustments) -> Parser:  # type: ignore[override]
        return Parser(adj, self.server.body_limit, self.server.places, self.server.verify_assertion)

    def readable(self) -> bool:
        request = self.request
        return bool(super().readable()) and (request is None or request.may_be_read())

    def begin(self) -> None:
        """Set the deadline of a request that begins to wait for a thread. Called with the requests' lock held."""
        request = self.requests[0]
        self.arrived = time.monotonic()
        if not request.error:
            self.deadline = self.arrived + time_limit(request.command, request.path) + GRACE_S

    def service(self) -> None:
        """Serve a request. A request that has to wait is parked, and is served first when its wait is over."""
        with self.requests_lock:
            if self.is_late:
                return
            request = self.requests[0]
            self.server.in_threads[self] = time.monotonic()
        try:
            super().service()
        except Parked as parked:
            # The traceback's frames hold all of the request's environment.
            self.parked = parked.with_traceback(None)
            if not parked.wait.keeps_deadline:
                self.deadline = None
            parked.wait.park(self._resume)
            if self.is_late or not self.connected:
                parked.wait.end()
            # The loop has to take the new deadline into account.
            self.server.pull_trigger()
        finally:
            self.server.in_threads.pop(self, None)
            if self.is_late:
                request.close()

    def _resume(self) -> None:
        parked = self.parked
        if parked is not None and not parked.wait.keeps_deadline:
            self.begin()
        self.server.queue_task(self)

    def write_soon(self, data: Any) -> int:
        """Send a part of the answer. Raises ClientDisconnected if the loop has already answered."""
        with self.requests_lock:
            if self.is_late:
                raise ClientDisconnected
            self.deadline = None
        return int(super().write_soon(data))

    def expire(self, now: float) -> None:
        """Answer 503 if the request's time is up. Called by the loop."""
        with self.requests_lock:
            if self.deadline is None or now < self.deadline or self.is_late or not self.requests:
                return
            self.deadline, self.is_late = None, True
            request = self.requests[0]
            has_begun = self in self.server.in_threads
            if not has_begun:
                self.requests = []
        request.free_place()
        if self.parked is not None:
            self.parked.wait.end()
        with suppress(ClientDisconnected):
            super().write_soon(_late_answer(request, has_begun=has_begun))
        self.close_when_flushed = True
        if not has_begun:
            request.close()

    def handle_close(self) -> None:
        super().handle_close()
        if self.request is not None:
            self.request.close()
        if self.parked is not None:
            self.parked.wait.end()


def _late_answer(request: Any, *, has_begun: bool) -> bytes:
    """Return the answer to a request whose time is up. For a change, it says that the outcome is unknown."""
    message = "This request was not begun in time because your other requests are slow; try again later"
    if has_begun:
        message = "The answer took too long, because a file system or a scheduler does not answer"
        if request.command not in ("GET", "HEAD"):
            message += ". It is not known whether the request took effect; check before you repeat it"
    if request.path.startswith("/settings/"):
        kind, body = "text/html; charset=utf-8", error_page(message).encode()
    else:
        kind, body = "application/json", json.dumps({"error": Unavailable.error, "message": message}).encode()
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n"
        f"Retry-After: {LATE_RETRY_S}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + (b"" if request.command == "HEAD" else body)


def equip(server: Any, body_limit: Callable[[str, str], int], verify_assertion: Callable[[str | None], Any]) -> None:
    """Make a waitress server use these connections.

    ``body_limit`` returns the maximum size of a body by method and path. ``verify_assertion`` returns the assertion in
    a header (Access.verify_assertion).
    """
    server.channel_class = Channel
    server.body_limit = body_limit
    server.verify_assertion = verify_assertion
    server.places = threading.Semaphore(MAX_LARGE_BODIES)
    server.in_threads = {}
    queue_task = server.add_task

    def add_task(channel: Channel) -> None:
        channel.begin()
        queue_task(channel)

    server.queue_task = queue_task
    server.add_task = add_task
