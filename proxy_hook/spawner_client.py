"""Asks the spawner over RUN/spawner.sock: for the hook, without blocking.

Runs as the hook's user. The protocol is in proxy_hook/spawner/wire.py: one JSON object a
datagram of a SOCK_SEQPACKET socket.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

from proxy_hook.accounts import UnixAccount
from proxy_hook.denied import Denied, forbidden, unavailable

_MESSAGE_SIZE = 64 * 1024
_PATIENCE = 12.0
"""Seconds; the spawner itself gives a PUN 10 to start."""
_FRESH = 1.0
"""Seconds for which an answer is used again: longer, and a refused user would be let on for longer."""


class SpawnerClient:
    """The hook's one conversation with the spawner, with many requests under way at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._sockets: dict[UnixAccount, tuple[float, str]] = {}
        self._asking: dict[UnixAccount, asyncio.Task[str]] = {}

    async def socket_of(self, account: UnixAccount) -> str:
        """The path of the account's PUN socket. Raises Denied: 403 with the rule, 503 with Retry-After."""
        fresh = self._sockets.get(account)
        if fresh and fresh[0] > time.monotonic():
            return fresh[1]
        # A hundred first requests at once are one question.
        asking = self._asking.get(account)
        if asking is None:
            asking = self._asking[account] = asyncio.create_task(self._ensure(account))
            asking.add_done_callback(lambda _: self._asking.pop(account, None))
        return await asyncio.shield(asking)

    async def alive(self) -> bool:
        """Whether the spawner answers."""
        try:
            await self._ask({"ask": "ping"}, 2.0)
        except Denied:
            return False
        return True

    async def _ensure(self, account: UnixAccount) -> str:
        answer = await self._ask({"ask": "ensure", "uid": account.uid, "name": account.name}, _PATIENCE)
        if "refused" in answer:
            raise forbidden(f"No process for this user: {answer['refused']}")
        if "socket" not in answer:
            raise unavailable(f"No process for this user: {answer['unavailable']}", answer["retry_after"])
        if len(self._sockets) > 10_000:
            self._sockets.clear()
        self._sockets[account] = (time.monotonic() + _FRESH, answer["socket"])
        return str(answer["socket"])

    async def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        try:
            connection = await self._connected(loop)
            self._number += 1
            number = self._number
            answer = self._waiting[number] = loop.create_future()
            try:
                await loop.sock_sendall(connection, json.dumps({"id": number, **request}).encode())
                return await asyncio.wait_for(answer, patience)
            finally:
                self._waiting.pop(number, None)
        except (OSError, asyncio.TimeoutError) as error:
            raise unavailable("The portal cannot start processes just now; try again") from error

    async def _connected(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, str(self._path))
            except OSError:
                connection.close()
                raise
            if self._connection is not None:
                connection.close()  # Another request was quicker.
                return self._connection
            self._connection = connection
            self._reader = asyncio.create_task(self._read(loop, connection))
        return self._connection

    async def _read(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        try:
            while data := await loop.sock_recv(connection, _MESSAGE_SIZE):
                message = json.loads(data)
                waiting = self._waiting.get(message["id"])
                if waiting and not waiting.done():
                    waiting.set_result(message)
        except OSError:
            pass  # The same as its end: it is told to all who wait.
        finally:
            self._connection = None
            self._sockets.clear()
            connection.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError("the spawner ended the conversation"))
