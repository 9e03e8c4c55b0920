"""An exchange: one request that the relay passes on to a user's process, and the response.

Each connection carries one request. Requests are passed on as bytes, and responses are parsed. A response that
response_head.py rejects never reaches nginx: the relay closes the connection, nginx treats that as a 502, and its
error_page turns it into the portal's 503.

One side is read only while the other side has no unsent data, so an exchange holds at most one read per direction.
"""

from __future__ import annotations

import re
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from proxy_hook.relay.response_head import MAX_HEAD_BYTES, BadResponse, parse_head

if TYPE_CHECKING:
    from proxy_hook.relay.relay import Relay

MAX_REQUEST_HEAD_BYTES = 64 * 1024
READ_BYTES = 128 * 1024

_DESTINATION = re.compile(rb"\r\nX-Pun-Socket: ([^\r\n]*)\r\nX-Pun-User: ([^\r\n]*)")
_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


@dataclass(frozen=True)
class Timeouts:
    """The timeouts of an exchange, in seconds."""

    request_head_s: float = 10.0
    """From the connection to the end of the request's head."""
    idle_s: float = 340.0
    """Without any byte. It is longer than nginx waits, and longer than a request may take (pun_app/long_poll.py)."""
    response_head_s: float = 30.0
    """From the first byte of the response to the end of its head."""
    linger_s: float = 10.0
    """From the end of the response until nginx closes the connection. The rest of the request is discarded until then.
    If the relay closed the connection first, nginx would fail to write the request, and not read the response."""


class Destination(NamedTuple):
    """The socket that a request is for, and the user who sent it. Each destination has a limited number of requests."""

    path: str
    user: bytes


class Side:
    """A connection of an exchange, with the data that could not be sent yet."""

    __slots__ = ("_epoll", "_events", "connection", "unsent")

    def __init__(self, connection: socket.socket, epoll: select.epoll) -> None:
        self.connection = connection
        self.unsent = b""
        self._epoll = epoll
        self._events: int | None = None

    def send(self, data: bytes) -> None:
        """Send as much as the kernel accepts, and keep the rest in ``unsent``. Raises OSError."""
        try:
            sent = self.connection.send(data)
        except BlockingIOError:
            sent = 0
        self.unsent = data[sent:]

    def watch(self, events: int | None) -> None:
        """Wait for these events. None means no events at all, not even the end of the connection."""
        if events == self._events:
            return
        if events is None:
            self._epoll.unregister(self.connection)
        elif self._events is None:
            self._epoll.register(self.connection, events)
        else:
            self._epoll.modify(self.connection, events)
        self._events = events


class Exchange:
    """A request and its response. ``downstream`` is nginx's connection, ``upstream`` that to the user's process."""

    def __init__(self, relay: Relay, connection: socket.socket) -> None:
        self._relay = relay
        self._timeouts = relay.timeouts
        self._downstream = relay.adopt(connection, self)
        self._upstream: Side | None = None
        self._destination = Destination("", b"")
        # The beginning of the head that is being received: first that of the request, then that of the response.
        self._head = b""
        self._to_head_request = False
        # The number of response bytes that are still missing; None before the end of the head.
        self._remaining: int | None = None
        self._closed = False
        self.deadline = 0.0
        self._expect_within(self._timeouts.request_head_s)

    def handle(self, descriptor: int, events: int) -> None:
        """Handle the events of one side."""
        if descriptor == self._downstream.connection.fileno():
            self._handle_downstream(events)
        elif self._upstream:
            self._handle_upstream(self._upstream, events)
        if not self._closed:
            self._watch()

    def _expect_within(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def _watch(self) -> None:
        """Wait for data from each side whose other side has no unsent data."""
        down, up = self._downstream, self._upstream
        down.watch((_OUT if down.unsent else 0) | (0 if up and up.unsent else _IN))
        if up:
            # After the other end is closed, the kernel reports that again and again, unless no event is requested.
            up.watch((_OUT if up.unsent else 0) | (0 if down.unsent else _IN) or None)

    def _handle_downstream(self, events: int) -> None:
        try:
            if events & _OUT:
                self._downstream.send(self._downstream.unsent)
            data = self._downstream.connection.recv(READ_BYTES) if events & _IN else None
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if events & _GONE or data == b"":
            # nginx's client hung up, or nginx has the complete response.
            self.close()
        elif data and self._upstream:
            self._send_upstream(self._upstream, data)
        elif data and self._remaining is None:
            self._head += data
            self._read_request_head()

    def _read_request_head(self) -> None:
        """Connect to the request's destination and send the request, once its head is complete."""
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > MAX_REQUEST_HEAD_BYTES:
                self.fail("the head of the request is too large")
            return
        match = _DESTINATION.search(self._head, 0, end)
        if not match:
            self.fail("nginx did not name a destination")
            return
        self._destination = Destination(match[1].decode("latin-1"), match[2])
        try:
            self._upstream = self._relay.connect(self._destination, self)
        except (BadResponse, OSError) as error:
            self.fail(str(error))
            return
        request, self._head = self._head[: match.start()] + self._head[match.end() :], b""
        self._to_head_request = request.startswith(b"HEAD ")
        self._send_upstream(self._upstream, request)

    def _send_upstream(self, upstream: Side, data: bytes) -> None:
        if not self._head:
            self._expect_within(self._timeouts.idle_s)
        try:
            upstream.send(data)
        except OSError:
            # The process no longer reads. It may have responded before.
            upstream.unsent = b""

    def _handle_upstream(self, upstream: Side, events: int) -> None:
        if events & _GONE:
            upstream.unsent = b""
        elif events & _OUT:
            self._send_upstream(upstream, upstream.unsent)
        if self._downstream.unsent or not events & (_IN | _GONE):
            return
        try:
            data = upstream.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.fail("it ended early")
            return
        if self._remaining is None:
            data = self._read_response_head(data)
        else:
            data = data[: self._remaining]
            self._remaining -= len(data)
            self._expect_within(self._timeouts.idle_s)
        if not data:
            return
        try:
            self._downstream.send(data)
        except OSError:
            self.close()
            return
        if self._remaining == 0:
            self._end_upstream(upstream)
            self._expect_within(self._timeouts.linger_s)

    def _read_response_head(self, data: bytes) -> bytes:
        """Return what nginx gets of the response: nothing until the head is complete."""
        if not self._head:
            self._expect_within(self._timeouts.response_head_s)
        self._head += data
        end = self._head.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._head) >= MAX_HEAD_BYTES:
                self.fail(f"its head is larger than {MAX_HEAD_BYTES} bytes")
            return b""
        try:
            head = parse_head(
                self._head[:end],
                to_head_request=self._to_head_request,
                allowed=self._relay.allowed_from(self._destination.path),
            )
        except BadResponse as error:
            self.fail(str(error))
            return b""
        body = self._head[end + 4 : end + 4 + head.body_bytes]
        self._remaining = head.body_bytes - len(body)
        self._head = b""
        self._expect_within(self._timeouts.idle_s)
        return head.text + body

    def fail(self, reason: str) -> None:
        """End the exchange. nginx sees no response, or an incomplete one."""
        if self._remaining != 0:
            self._relay.log_failure(self._destination.path, reason)
        self.close()

    def close(self) -> None:
        """Close both sides."""
        if self._closed:
            return
        self._closed = True
        if self._upstream:
            self._end_upstream(self._upstream)
        self._relay.drop(self._downstream)
        self._relay.forget(self)

    def _end_upstream(self, upstream: Side) -> None:
        self._relay.drop(upstream)
        self._relay.release(self._destination)
        self._upstream = None
