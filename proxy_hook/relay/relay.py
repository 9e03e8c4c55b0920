"""The relay between nginx and the users' processes: its loop, and its bounds.

nginx alone would pass what a user's process sends, in part as bytes. The relay bounds how many requests one user has
open, too, so that nobody's stopped process uses up the connections of all.

One thread and an epoll loop. An error in one exchange ends that exchange; any other ends the process, which is started
again by systemd or ``punway serve``.
"""

from __future__ import annotations

import logging
import re
import select
import socket
import time
from collections import Counter

from proxy_hook.relay.exchange import Exchange, Share, Side
from proxy_hook.relay.response_head import ALLOWED, ALLOWED_OF_MCP_SERVER, BadResponse

MAX_REQUESTS_PER_USER = 1000
"""Requests of one user that one process may have open at once: as many connections as a user's process takes."""
SWEEP_INTERVAL_S = 1.0
SHUTDOWN_GRACE_S = 5.0
"""Seconds for open requests when the relay ends."""
LOG_INTERVAL_S = 60.0
"""Seconds between two log lines about one user's process."""

log = logging.getLogger("punway.relay")


class Relay:
    """The loop, and what all exchanges share. ``max_requests`` bounds those of all users together."""

    def __init__(self, listener: socket.socket, run_dir: str, max_requests: int) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._pun_socket = re.compile(re.escape(f"{run_dir}/puns/") + r"(?!\.\.?/)[^/\0]+/pun\.sock")
        self._mcp_socket = f"{run_dir}/mcp.sock"
        self._max_requests = max_requests
        # However small the whole is, a user has a part of it.
        self._max_of_a_user = min(MAX_REQUESTS_PER_USER, max_requests // 4)
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._by_descriptor: dict[int, Exchange] = {}
        self._exchanges: set[Exchange] = set()
        self._open: Counter[Share] = Counter()
        self._closed: list[socket.socket] = []
        self._logged: dict[str, float] = {}
        self._leave_at: float | None = None

    def leave(self, *_: object) -> None:
        """End soon; a signal's handler."""
        self._leave_at = time.monotonic() + SHUTDOWN_GRACE_S

    def run(self) -> None:
        """Serve until ``leave``."""
        swept = 0.0
        while self._leave_at is None or (self._exchanges and time.monotonic() < self._leave_at):
            for descriptor, events in self._epoll.poll(SWEEP_INTERVAL_S):
                if descriptor == self._listener.fileno():
                    self._accept()
                elif exchange := self._by_descriptor.get(descriptor):
                    self._handle(exchange, descriptor, events)
            # Not before: in the events of one poll, a descriptor's number must mean one connection.
            for connection in self._closed:
                connection.close()
            self._closed.clear()
            if (now := time.monotonic()) > swept + SWEEP_INTERVAL_S:
                swept = now
                for exchange in [each for each in self._exchanges if each.deadline < now]:
                    exchange.fail("it took too long")

    def _accept(self) -> None:
        for _ in range(64):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            if self._leave_at is not None or len(self._exchanges) >= self._max_requests:
                self.complain("all users", f"{len(self._exchanges)} requests are open")
                connection.close()
                continue
            exchange = Exchange(self, connection)
            self._exchanges.add(exchange)
            # nginx writes the request as soon as it has connected.
            self._handle(exchange, connection.fileno(), select.EPOLLIN)

    def _handle(self, exchange: Exchange, descriptor: int, events: int) -> None:
        try:
            exchange.handle(descriptor, events)
        except Exception:
            log.exception("an exchange failed")
            exchange.close()

    def adopt(self, connection: socket.socket, exchange: Exchange) -> Side:
        """Return the side of an exchange that a connection is."""
        connection.setblocking(False)
        self._by_descriptor[connection.fileno()] = exchange
        return Side(connection, self._epoll)

    def drop(self, side: Side) -> None:
        """Close a side, once the events of this poll are over."""
        side.watch(None)
        del self._by_descriptor[side.connection.fileno()]
        self._closed.append(side.connection)

    def connect(self, share: Share, exchange: Exchange) -> Side:
        """Return the side to a user's process, or to the MCP server. Raises BadResponse, OSError."""
        path = share[0]
        if path != self._mcp_socket and not self._pun_socket.fullmatch(path):
            raise BadResponse("it is no socket of this portal")
        if self._open[share] >= self._max_of_a_user:
            raise BadResponse(f"the user has {self._max_of_a_user} open requests")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # A unix socket connects or fails at once; it fails where the listener's queue is full.
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        self._open[share] += 1
        return self.adopt(connection, exchange)

    def release(self, share: Share) -> None:
        self._open[share] -= 1
        if not self._open[share]:
            del self._open[share]

    def forget(self, exchange: Exchange) -> None:
        self._exchanges.discard(exchange)

    def allowed_from(self, path: str) -> dict[bytes, re.Pattern[bytes]]:
        return ALLOWED_OF_MCP_SERVER if path == self._mcp_socket else ALLOWED

    def complain(self, path: str, reason: str) -> None:
        """Log why a request has no response. No user fills the log with it."""
        now = time.monotonic()
        if now - self._logged.get(path, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
            return
        if len(self._logged) > 10_000:
            self._logged.clear()
        self._logged[path] = now
        log.warning("%s: no response: %s", path[:200], reason)
