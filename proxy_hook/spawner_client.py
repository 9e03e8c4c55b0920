"""Asks the spawner over RUN/spawner.sock: for the hook, without blocking.

Runs as the hook's user. The protocol is in spawner/wire.py: one JSON object a
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
from proxy_hook.errors import HttpError, forbidden, unavailable

MAX_MESSAGE_BYTES = 64 * 1024
START_DEADLINE_S = 115.0
"""For a first request: the spawner gives a PUN 10 s to start once its turn has come, and thousands may be queued."""
SOCKET_TTL_S = 1.0
"""Seconds for which an answer is used again: longer, and a refused user would be let on for longer."""
MAX_CACHED_SOCKETS = 10_000
ALIVE_TTL_S = 1.0
"""How long it is used again whether the spawner answers, unless the conversation ends before."""


class SpawnerClient:
    """The hook's one conversation with the spawner, with many requests under way at once.

    Sending and receiving are callbacks of the event loop on one socket, so that a request which is given up takes
    nothing with it: its message leaves the queue, or has been sent whole (SOCK_SEQPACKET), and its answer is dropped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self._unsent: dict[int, bytes] = {}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._alive_lock = asyncio.Lock()
        self._alive = 0.0, False
        self._sockets: dict[UnixAccount, tuple[float, str]] = {}
        self._asking: dict[UnixAccount, asyncio.Task[str]] = {}

    async def socket_of(self, account: UnixAccount) -> str:
        """The path of the account's PUN socket. Raises HttpError: 403 with the rule, 503 with Retry-After."""
        fresh = self._sockets.get(account)
        if fresh and fresh[0] > time.monotonic():
            return fresh[1]
        # A hundred first requests at once are one question.
        asking = self._asking.get(account)
        if asking is None:
            asking = self._asking[account] = asyncio.create_task(self._ensure(account))
            asking.add_done_callback(lambda task: self._asked(account, task))
        return await asyncio.shield(asking)

    def _asked(self, account: UnixAccount, task: asyncio.Task[str]) -> None:
        del self._asking[account]
        if not task.cancelled():
            task.exception()  # Everybody who waited may have left; asyncio would log that nobody looked.

    async def alive(self) -> bool:
        """Whether the spawner answers.

        Anybody may ask for the portal's health, so it is asked once in ALIVE_TTL_S at most, however many do.
        """
        async with self._alive_lock:
            until, alive = self._alive
            if time.monotonic() >= until:
                try:
                    await self._ask({"ask": "ping"}, 2.0)
                    alive = True
                except HttpError:
                    alive = False
                self._alive = time.monotonic() + ALIVE_TTL_S, alive
        return alive

    async def _ensure(self, account: UnixAccount) -> str:
        answer = await self._ask({"ask": "ensure", "uid": account.uid, "name": account.name}, START_DEADLINE_S)
        if "refused" in answer:
            raise forbidden(f"No process for this user: {answer['refused']}")
        if "socket" not in answer:
            raise unavailable(f"No process for this user: {answer['unavailable']}", answer["retry_after"])
        self._sockets.pop(account, None)  # So that the first entry is always the oldest.
        if len(self._sockets) >= MAX_CACHED_SOCKETS:
            del self._sockets[next(iter(self._sockets))]
        self._sockets[account] = (time.monotonic() + SOCKET_TTL_S, answer["socket"])
        return str(answer["socket"])

    async def _ask(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Send one request and return its answer, both within ``deadline`` seconds. Raises HttpError."""
        self._number += 1
        number = self._number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._unsent[number] = json.dumps({"id": number, **request}).encode()
        try:
            self._connect()
            self._send()
            return await asyncio.wait_for(answer, deadline)
        except (OSError, asyncio.TimeoutError) as error:
            raise unavailable("The portal cannot start processes just now; try again") from error
        finally:
            del self._answers[number]
            self._unsent.pop(number, None)

    def _connect(self) -> None:
        """Begin the conversation, if there is none. Raises OSError."""
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.setblocking(False)
            try:
                connection.connect(str(self._path))  # At once or not at all, as unix(7) has it.
            except OSError:
                connection.close()
                raise
            self._connection = connection
            asyncio.get_running_loop().add_reader(connection, self._receive)

    def _send(self) -> None:
        """Send what the kernel takes now; the rest when it takes more."""
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
        """Take one message of the spawner, or notice its end."""
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
        answer = self._answers.get(message["id"])
        if answer and not answer.done():
            answer.set_result(message)

    def close(self) -> None:
        """End the conversation, and say so to all who wait."""
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
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the spawner ended the conversation"))
