"""The hook's client of the spawner, over RUN/spawner.sock. It never blocks the event loop.

Runs as the hook's user. The protocol is in spawner/wire.py: one JSON object per datagram of a SOCK_SEQPACKET socket.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy_hook.accounts import UnixAccount
from proxy_hook.errors import HttpError, forbidden, unavailable
from proxy_hook.lru_cache import LruCache

MAX_MESSAGE_BYTES = 64 * 1024
START_DEADLINE_S = 115.0
"""How long a request waits for a PUN to start. The spawner gives each PUN 10 s, and thousands may be queued."""
PING_DEADLINE_S = 2.0
SOCKET_TTL_S = 1.0
"""How long the path of a socket is cached. A user whom a changed rule refuses still has access for this long."""
MAX_CACHED_SOCKETS = 10_000
ALIVE_TTL_S = 1.0
"""How long the spawner's health is cached, unless the connection ends earlier."""


class SpawnerClient:
    """A connection to the spawner, which many requests share.

    Sending and receiving are callbacks of the event loop on one socket, so a request that is cancelled does not affect
    the others: its message is removed from the queue, or was sent completely (SOCK_SEQPACKET), and its response is
    ignored.
    """

    def __init__(
        self,
        path: Path,
        *,
        start_deadline_s: float = START_DEADLINE_S,
        max_cached_sockets: int = MAX_CACHED_SOCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._start_deadline_s = start_deadline_s
        self._clock = clock
        self._connection: socket.socket | None = None
        self._unsent: dict[int, bytes] = {}
        self._responses: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._alive_lock = asyncio.Lock()
        self._alive = 0.0, False
        self._sockets: LruCache[UnixAccount, tuple[float, str]] = LruCache(max_cached_sockets)
        self._starting: dict[UnixAccount, asyncio.Task[str]] = {}

    async def socket_of(self, account: UnixAccount) -> str:
        """Return the path of the account's PUN socket, after starting the PUN if it is not running.

        Raises HttpError: 403 with the rule that refuses the account, 503 with ``retry_after``.
        """
        cached = self._sockets.get(account)
        if cached and cached[0] > self._clock():
            return cached[1]
        # Simultaneous requests of one user share one request to the spawner.
        starting = self._starting.get(account)
        if starting is None:
            starting = self._starting[account] = asyncio.create_task(self._ensure(account))
            starting.add_done_callback(lambda task: self._ended(account, task))
        return await asyncio.shield(starting)

    def _ended(self, account: UnixAccount, task: asyncio.Task[str]) -> None:
        del self._starting[account]
        if not task.cancelled():
            # If all callers have left, nobody retrieves the exception, and asyncio would log that. So retrieve it here.
            task.exception()

    async def alive(self) -> bool:
        """Return whether the spawner responds.

        Anybody may request the portal's health, so the result is cached: the spawner gets at most one such request in
        ALIVE_TTL_S.
        """
        async with self._alive_lock:
            until, alive = self._alive
            if self._clock() >= until:
                try:
                    await self._ask({"ask": "ping"}, PING_DEADLINE_S)
                    alive = True
                except HttpError:
                    alive = False
                self._alive = self._clock() + ALIVE_TTL_S, alive
        return alive

    async def _ensure(self, account: UnixAccount) -> str:
        request = {"ask": "ensure", "uid": account.uid, "name": account.name}
        response = await self._ask(request, self._start_deadline_s)
        if "refused" in response:
            raise forbidden(f"The portal cannot start a process for you: {response['refused']}")
        if "socket" not in response:
            raise unavailable(
                f"The portal cannot start a process for you: {response['unavailable']}", response["retry_after"]
            )
        self._sockets.put(account, (self._clock() + SOCKET_TTL_S, response["socket"]))
        return str(response["socket"])

    async def _ask(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Send a request and return its response, both within ``deadline`` seconds. Raises HttpError (503)."""
        self._number += 1
        number = self._number
        response = self._responses[number] = asyncio.get_running_loop().create_future()
        self._unsent[number] = json.dumps({"id": number, **request}).encode()
        try:
            self._connect()
            self._send()
            return await asyncio.wait_for(response, deadline)
        except (OSError, asyncio.TimeoutError) as error:
            raise unavailable("The portal cannot start processes at the moment; try again") from error
        finally:
            del self._responses[number]
            self._unsent.pop(number, None)

    def _connect(self) -> None:
        """Connect, unless a connection exists. Raises OSError."""
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.setblocking(False)
            try:
                connection.connect(str(self._path))  # It succeeds or fails immediately, see unix(7).
            except OSError:
                connection.close()
                raise
            self._connection = connection
            asyncio.get_running_loop().add_reader(connection, self._receive)

    def _send(self) -> None:
        """Send as much as the kernel accepts now, and the rest as soon as it accepts more."""
        if self._connection is None:
            return
        loop = asyncio.get_running_loop()
        try:
            for number, message in list(self._unsent.items()):
                self._connection.send(message)
                del self._unsent[number]
            loop.remove_writer(self._connection)
        except BlockingIOError:
            loop.add_writer(self._connection, self._send)
        except OSError:
            self.close()

    def _receive(self) -> None:
        """Receive one message, or the end of the connection."""
        assert self._connection is not None
        try:
            data = self._connection.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.close()
        message = json.loads(data)
        response = self._responses.get(message["id"])
        if response and not response.done():
            response.set_result(message)

    def close(self) -> None:
        """Close the connection. All pending requests fail."""
        self._alive = 0.0, False
        connection, self._connection = self._connection, None
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(connection)
        loop.remove_writer(connection)
        connection.close()
        self._sockets.clear()
        self._unsent.clear()
        for response in self._responses.values():
            if not response.done():
                response.set_exception(ConnectionResetError("the spawner closed the connection"))
