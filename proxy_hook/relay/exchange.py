"""One request that the relay passes on, and its response: bytes to the process that answers, parsed on the way back.

One connection carries one request. A response that response_head.py refuses never reaches nginx: the relay closes the
connection instead, nginx takes that for a 502, and its error_page makes the portal's 503 of it.

One side is read only while the other has taken everything, so an exchange holds at most one read of each direction.
"""

from __future__ import annotations

import re
import select
import socket
import time
from typing import TYPE_CHECKING

from proxy_hook.relay.response_head import MAX_HEAD_BYTES, BadResponse, parse_head

if TYPE_CHECKING:
    from proxy_hook.relay.relay import Relay

MAX_REQUEST_HEAD_BYTES = 64 * 1024
READ_BYTES = 128 * 1024
REQUEST_HEAD_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 340.0
"""Seconds without a byte: longer than nginx waits, and than a request may (pun_app/long_poll.py)."""
RESPONSE_HEAD_TIMEOUT_S = 30.0
"""Seconds from the first byte of a response to the end of its head."""
LINGER_TIMEOUT_S = 10.0
"""Seconds that nginx has to close its connection after a response. Until then the rest of the request is discarded:
on a connection that is closed, nginx would fail to write it, and not read the response."""

_DESTINATION = re.compile(rb"\r\nX-Pun-Socket: ([^\r\n]*)\r\nX-Pun-User: ([^\r\n]*)")
_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR

Share = tuple[str, bytes]
"""A socket's path and a user: what the bound is for."""


class Side:
    """One connection of an exchange, and what it has not taken yet."""

    __slots__ = ("_epoll", "_events", "connection", "unsent")

    def __init__(self, connection: socket.socket, epoll: select.epoll) -> None:
        self.connection = connection
        self.unsent = b""
        self._epoll = epoll
        self._events: int | None = None

    def send(self, data: bytes) -> None:
        """Send what the kernel takes, and keep the rest. Raises OSError."""
        try:
            sent = self.connection.send(data)
        except BlockingIOError:
            sent = 0
        self.unsent = data[sent:]

    def watch(self, events: int | None) -> None:
        """Wait for these events; None is for none at all, not even for the end of the connection."""
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
    """One request and its response: ``front`` is nginx's connection, ``back`` the one to the process that answers."""

    def __init__(self, relay: Relay, connection: socket.socket) -> None:
        self._relay = relay
        self._front = relay.adopt(connection, self)
        self._back: Side | None = None
        self._share: Share = ("", b"")
        # Of the request, and then of the response, until it is whole.
        self._head = b""
        self._to_head_request = False
        # Bytes of the response that are still to come; None before its head.
        self._left: int | None = None
        self._closed = False
        self.deadline = time.monotonic() + REQUEST_HEAD_TIMEOUT_S

    def handle(self, descriptor: int, events: int) -> None:
        """Do what the events of one side allow."""
        if descriptor == self._front.connection.fileno():
            self._handle_front(events)
        elif self._back:
            self._handle_back(self._back, events)
        if not self._closed:
            self._watch()

    def _watch(self) -> None:
        """Read from a side while the other has taken everything."""
        front, back = self._front, self._back
        front.watch((_OUT if front.unsent else 0) | (0 if back and back.unsent else _IN))
        if back:
            # Where the other end is closed, the kernel says so again and again, unless it is not asked at all.
            back.watch((_OUT if back.unsent else 0) | (0 if front.unsent else _IN) or None)

    def _handle_front(self, events: int) -> None:
        try:
            if events & _OUT:
                self._front.send(self._front.unsent)
            data = self._front.connection.recv(READ_BYTES) if events & _IN else None
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if events & _GONE or data == b"":
            # Its client hung up, or has the whole response.
            self.close()
        elif data and self._back:
            self._send_back(self._back, data)
        elif data and self._left is None:
            self._head += data
            self._read_request_head()

    def _read_request_head(self) -> None:
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > MAX_REQUEST_HEAD_BYTES:
                self.fail("the head of the request is too large")
            return
        to = _DESTINATION.search(self._head, 0, end)
        if not to:
            self.fail("nginx did not say where to")
            return
        self._share = (to[1].decode("latin-1"), to[2])
        try:
            self._back = self._relay.connect(self._share, self)
        except (BadResponse, OSError) as error:
            self.fail(str(error))
            return
        request, self._head = self._head[: to.start()] + self._head[to.end() :], b""
        self._to_head_request = request.startswith(b"HEAD ")
        self._send_back(self._back, request)

    def _send_back(self, back: Side, data: bytes) -> None:
        if not self._head:
            self.deadline = time.monotonic() + IDLE_TIMEOUT_S
        try:
            back.send(data)
        except OSError:
            # It reads no more. It may have answered before.
            back.unsent = b""

    def _handle_back(self, back: Side, events: int) -> None:
        if events & _GONE:
            back.unsent = b""
        elif events & _OUT:
            self._send_back(back, back.unsent)
        if self._front.unsent or not events & (_IN | _GONE):
            return
        try:
            data = back.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.fail("it ended before it was whole")
            return
        if self._left is None:
            data = self._read_response_head(data)
        else:
            data = data[: self._left]
            self._left -= len(data)
            self.deadline = time.monotonic() + IDLE_TIMEOUT_S
        if not data:
            return
        try:
            self._front.send(data)
        except OSError:
            self.close()
            return
        if self._left == 0:
            self._end_back(back)
            self.deadline = time.monotonic() + LINGER_TIMEOUT_S

    def _read_response_head(self, data: bytes) -> bytes:
        """Return what of a response goes to nginx, once its head is whole."""
        if not self._head:
            self.deadline = time.monotonic() + RESPONSE_HEAD_TIMEOUT_S
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
                allowed=self._relay.allowed_from(self._share[0]),
            )
        except BadResponse as error:
            self.fail(str(error))
            return b""
        body = self._head[end + 4 : end + 4 + head.body_bytes]
        self._left = head.body_bytes - len(body)
        self._head = b""
        self.deadline = time.monotonic() + IDLE_TIMEOUT_S
        return head.text + body

    def fail(self, reason: str) -> None:
        """End the exchange: nginx sees that there is no response, or that it is not whole."""
        if self._left != 0:
            self._relay.complain(self._share[0], reason)
        self.close()

    def close(self) -> None:
        """Close both sides."""
        if self._closed:
            return
        self._closed = True
        if self._back:
            self._end_back(self._back)
        self._relay.drop(self._front)
        self._relay.forget(self)

    def _end_back(self, back: Side) -> None:
        self._relay.drop(back)
        self._relay.release(self._share)
        self._back = None
