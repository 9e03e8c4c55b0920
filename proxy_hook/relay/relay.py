"""The relay between nginx and the users' processes: its event loop and its limits.

Without it, nginx would pass on some of what a user's process sends as plain bytes. The relay also limits the open
requests of each user, so that one user's stopped process cannot use up everybody's connections.

It is one thread with an epoll loop. An error in an exchange ends only that exchange. Any other error ends the process,
which systemd or ``punway serve`` restarts.
"""

from __future__ import annotations

import logging
import re
import select
import socket
import time
from collections import Counter

from proxy_hook.relay.exchange import Destination, Exchange, Side, Timeouts
from proxy_hook.relay.response_head import ALLOWED, ALLOWED_OF_MCP_SERVER, BadResponse

MAX_REQUESTS_PER_USER = 1000
"""The maximum number of open requests of a user to one process. A user's process accepts as many connections."""
SWEEP_INTERVAL_S = 1.0
"""How often the relay looks for exchanges that have timed out."""
SHUTDOWN_GRACE_S = 5.0
"""How long open requests may take after the relay was asked to stop."""
LOG_INTERVAL_S = 60.0
"""The minimum time between two log lines about one user's process."""
ACCEPTS_PER_ROUND = 64
MAX_LOGGED_PATHS = 10_000
DEFAULT_TIMEOUTS = Timeouts()

log = logging.getLogger("punway.relay")


class Relay:
    """The event loop and the shared state of all exchanges. ``max_requests`` limits the open requests of all users."""

    def __init__(
        self,
        listener: socket.socket,
        run_dir: str,
        max_requests: int,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        sweep_interval_s: float = SWEEP_INTERVAL_S,
    ) -> None:
        listener.setblocking(False)
        self.timeouts = timeouts
        self._sweep_interval_s = sweep_interval_s
        self._listener = listener
        self._pun_socket = re.compile(re.escape(f"{run_dir}/puns/") + r"(?!\.\.?/)[^/\0]+/pun\.sock")
        self._mcp_socket = f"{run_dir}/mcp.sock"
        self._max_requests = max_requests
        # However small the total is, one user gets only a part of it.
        self._max_requests_per_user = min(MAX_REQUESTS_PER_USER, max_requests // 4)
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._by_descriptor: dict[int, Exchange] = {}
        self._exchanges: set[Exchange] = set()
        self._open: Counter[Destination] = Counter()
        self._closed: list[socket.socket] = []
        self._logged: dict[str, float] = {}
        self._stop_at: float | None = None

    def stop(self, *_: object) -> None:
        """Stop soon. This is a signal handler."""
        self._stop_at = time.monotonic() + SHUTDOWN_GRACE_S

    def run(self) -> None:
        """Serve until ``stop`` is called."""
        swept = 0.0
        while self._stop_at is None or (self._exchanges and time.monotonic() < self._stop_at):
            for descriptor, events in self._epoll.poll(self._sweep_interval_s):
                if descriptor == self._listener.fileno():
                    self._accept()
                elif exchange := self._by_descriptor.get(descriptor):
                    self._handle(exchange, descriptor, events)
            # Close connections only now: among the events of one poll, a descriptor must mean one connection.
            for connection in self._closed:
                connection.close()
            self._closed.clear()
            if (now := time.monotonic()) > swept + self._sweep_interval_s:
                swept = now
                for exchange in [each for each in self._exchanges if each.deadline < now]:
                    exchange.fail("it took too long")

    def close(self) -> None:
        """Close all connections and the epoll object, after ``run`` has returned or failed."""
        for exchange in tuple(self._exchanges):
            exchange.close()
        for connection in self._closed:
            connection.close()
        self._epoll.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_ROUND):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            if self._stop_at is not None or len(self._exchanges) >= self._max_requests:
                self.log_failure("all users", f"{len(self._exchanges)} requests are open")
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
            log.exception("an exchange failed with an unexpected error")
            exchange.close()

    def adopt(self, connection: socket.socket, exchange: Exchange) -> Side:
        """Make a connection a side of an exchange. Return the side."""
        connection.setblocking(False)
        self._by_descriptor[connection.fileno()] = exchange
        return Side(connection, self._epoll)

    def drop(self, side: Side) -> None:
        """Close a side after the events of this poll have been handled."""
        side.watch(None)
        del self._by_descriptor[side.connection.fileno()]
        self._closed.append(side.connection)

    def connect(self, destination: Destination, exchange: Exchange) -> Side:
        """Connect to a user's process or to the MCP server. Return the side. Raises BadResponse or OSError."""
        path = destination.path
        if path != self._mcp_socket and not self._pun_socket.fullmatch(path):
            raise BadResponse("the destination is not a socket of this portal")
        if self._open[destination] >= self._max_requests_per_user:
            raise BadResponse(f"the user has {self._max_requests_per_user} open requests, the maximum")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Connecting to a Unix socket succeeds or fails at once. It fails if the listener's queue is full.
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        self._open[destination] += 1
        return self.adopt(connection, exchange)

    def release(self, destination: Destination) -> None:
        """Count one open request less for a destination."""
        self._open[destination] -= 1
        if not self._open[destination]:
            del self._open[destination]

    def forget(self, exchange: Exchange) -> None:
        """Remove an exchange that has ended."""
        self._exchanges.discard(exchange)

    def allowed_from(self, path: str) -> dict[bytes, re.Pattern[bytes]]:
        """Return the response headers that the process at ``path`` may send."""
        return ALLOWED_OF_MCP_SERVER if path == self._mcp_socket else ALLOWED

    def log_failure(self, path: str, reason: str) -> None:
        """Log why a request got no response, but not so often that a user could fill the log."""
        now = time.monotonic()
        if now - self._logged.get(path, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
            return
        if len(self._logged) > MAX_LOGGED_PATHS:
            self._logged.clear()
        self._logged[path] = now
        log.warning("%s: no response: %s", path[:200], reason)
