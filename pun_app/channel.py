"""waitress's connections, with what a PUN's need besides: requests that wait without a thread, bodies that are bounded
by route and in number, errors in the API's form, and an answer in time whatever a thread is stuck in.

A thread that reads a file on a server that hangs cannot be interrupted. So the loop answers in its stead once the
request's time is up (Channel.expire), and the server starts another thread for it (server.py).
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

LARGE_BODIES = 2
"""Bodies beyond BODY_LIMIT that one PUN has at once; others are not read until one of these is answered."""

LATE_RETRY_S = 10


class NoRoom(Error):
    """The body could not be kept while it was read: the disk of temporary files is full, say."""

    code = 503
    reason = "Service Unavailable"


class Parser(HTTPRequestParser):
    """One request, while it is read and until it is answered."""

    command: Any
    path: str

    def __init__(
        self,
        adj: Adjustments,
        limit_of: Callable[[str, str], int],
        places: threading.Semaphore,
        check: Callable[[str | None], Any],
    ) -> None:
        super().__init__(adj)
        self._limit_of = limit_of
        self._check = check
        self.assertion: Any = None
        self._limit = 0
        self._places = places
        self._needs_place = False
        self._has_place = False

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        self.assertion = self._check(self.headers.get("X_PUN_ASSERTION"))
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
        self.free_place()

    def free_place(self) -> None:
        """Let another large body be read."""
        if self._has_place:
            self._needs_place = self._has_place = False
            self._places.release()


class Task(WSGITask):
    """A call of the app; the second one for a request that has waited."""

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
    requests: Any
    requests_lock: threading.Lock
    task_class = Task
    error_task_class = Refusal
    parked: Parked | None = None
    arrived = 0.0
    """When the request had been read, or when its wait for a job was over."""
    deadline: float | None = None
    """When the loop answers; None while there is no request, while one waits for a job, and once one is answered."""
    is_late = False
    """Whether the loop has answered. What a thread has to say after that is dropped."""

    def parser_class(self, adj: Adjustments) -> Parser:  # type: ignore[override]
        return Parser(adj, self.server.body_limit, self.server.places, self.server.check_assertion)

    def readable(self) -> bool:
        request = self.request
        return bool(super().readable()) and (request is None or request.may_be_read())

    def begin(self) -> None:
        """Take note that a request begins to wait for a thread. Called with the lock of the requests."""
        request = self.requests[0]
        self.arrived = time.monotonic()
        if not request.error:
            self.deadline = self.arrived + time_limit(request.command, request.path) + GRACE_S

    def service(self) -> None:
        """Serve a request. One that waits is put aside, and is the first to be served when its wait is over."""
        with self.requests_lock:
            if self.is_late:
                return
            request = self.requests[0]
            self.server.in_threads[self] = time.monotonic()
        try:
            super().service()
        except Parked as parked:
            # Its frames hold all of the request's environment.
            self.parked = parked.with_traceback(None)
            if not parked.wait.keeps_deadline:
                self.deadline = None
            parked.wait.park(self._resume)
            if self.is_late or not self.connected:
                parked.wait.end()
            # The loop has to know of a new deadline.
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
        """Send a part of the answer, unless the loop has answered."""
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
    """Return the answer to a request whose time is up. It says nothing of what is not known."""
    message = "This request was not begun in time, as your other requests take long; try again"
    if has_begun:
        message = "The answer took too long: a file system or a scheduler does not answer"
        if request.command not in ("GET", "HEAD"):
            message += ". It is not known whether the request took effect: look before you repeat it"
    if request.path.startswith("/settings/"):
        kind, body = "text/html; charset=utf-8", error_page(message).encode()
    else:
        kind, body = "application/json", json.dumps({"error": Unavailable.error, "message": message}).encode()
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n"
        f"Retry-After: {LATE_RETRY_S}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + (b"" if request.command == "HEAD" else body)


def equip(server: Any, body_limit: Callable[[str, str], int], check_assertion: Callable[[str | None], Any]) -> None:
    """Have a waitress server use these connections. ``body_limit`` tells a body's by method and path,
    ``check_assertion`` what a note says (Access.arrived).
    """
    server.channel_class = Channel
    server.body_limit = body_limit
    server.check_assertion = check_assertion
    server.places = threading.Semaphore(LARGE_BODIES)
    server.in_threads = {}
    queue_task = server.add_task

    def add_task(channel: Channel) -> None:
        channel.begin()
        queue_task(channel)

    server.queue_task = queue_task
    server.add_task = add_task
