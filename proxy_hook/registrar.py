"""The registrar, a server in the hook with which users' processes register and revoke the hashes of their own tokens.

They also request one-time links from it. It is a task in the hook's event loop. Every local user may connect to
RUN/register.sock. The kernel tells the registrar which user connects (SO_PEERCRED), and no message can claim another
user. Request and response are one JSON line each; the client is tokens/registrar_client.py.

No user can block it. Each connection has a deadline, and the number of connections per uid is limited. A uid that may
not have a PUN is refused before its request is read. Other threads access the disk and the name service.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from proxy_hook import audit
from proxy_hook.accounts import EligibleAccounts, UnixAccount
from proxy_hook.browser.sessions import Links
from proxy_hook.browser.sign_in import LINK_PATH
from proxy_hook.errors import HttpError
from proxy_hook.rate_limits import RateLimits
from proxy_hook.token_routes import RouteTable
from tokens.registrar_client import AUDIT_INFO_KEYS, MAX_MESSAGE_BYTES
from tokens.token import is_sha256

DEADLINE_S = 5.0
"""How long a connection may take, from accepting it to sending the response."""
MAX_CONNECTIONS, MAX_CONNECTIONS_PER_UID = 256, 2
ACCEPTS_PER_ROUND, ROUND_PAUSE_S = 50, 0.01
"""Accepted connections before the event loop pauses for nginx's requests. A local user who connects in a loop then
takes only a fraction of the hook's time, and others get their turn within a fraction of a second."""
ACCEPT_RETRY_S = 0.1
MAX_HASHES = 500
"""The maximum number of hashes in one request."""
MAX_AUDIT_VALUE_LENGTH = 400
"""The maximum length of each text in ``audit_info``, in characters."""

_BUSY = b'{"ok": false, "busy": true, "message": "too many requests at once; try again"}\n'

log = logging.getLogger("punway.hook")


@dataclass(frozen=True)
class Request:
    """A valid request. ``audit_info`` is None unless the client creates or revokes a token."""

    action: str
    hashes: list[str]
    audit_info: dict[str, str] | None


class BadRequest(Exception):
    """The error for a malformed request. The message is for the client."""


def peer_uid(connection: socket.socket) -> int:
    """Return the uid of the process that connected, as the kernel knows it (SO_PEERCRED)."""
    credentials = struct.Struct("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(raw)[1])


class Registrar:
    """The server of the registrar's socket. If ``links`` is None, it issues no one-time links."""

    def __init__(
        self,
        routes: RouteTable,
        accounts: EligibleAccounts,
        limits: RateLimits,
        links: Links | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        max_connections: int = MAX_CONNECTIONS,
        uid_of: Callable[[socket.socket], int] = peer_uid,
    ) -> None:
        self._routes = routes
        self._accounts = accounts
        self._limits = limits
        self._links = links
        self._deadline_s = deadline_s
        self._max_connections = max_connections
        self._uid_of = uid_of
        self._connections: set[asyncio.Task[None]] = set()
        self._connections_of: Counter[int] = Counter()
        # One thread is enough: SQLite has one writer at a time.
        # Each account has at most MAX_CONNECTIONS_PER_UID requests queued here.
        self._writer = ThreadPoolExecutor(1, "registrar")

    async def serve(self, listener: socket.socket) -> None:
        """Serve connections until the task is cancelled. Raises OSError if the listener is closed."""
        listener.setblocking(False)
        accepted = 0
        try:
            while True:
                connection = await self._accept(listener)
                self._admit(connection)
                accepted += 1
                if accepted % ACCEPTS_PER_ROUND == 0:
                    await asyncio.sleep(ROUND_PAUSE_S)
        finally:
            open_connections = list(self._connections)
            for task in open_connections:
                task.cancel()
            await asyncio.gather(*open_connections, return_exceptions=True)
            self._writer.shutdown()

    async def _accept(self, listener: socket.socket) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                if listener.fileno() < 0:
                    raise
                # The error is temporary, such as a lack of file descriptors.
                log.error("failed to accept a connection to the registrar; retrying: %s", error)
                await asyncio.sleep(ACCEPT_RETRY_S)
            else:
                return connection

    def _admit(self, connection: socket.socket) -> None:
        """Serve a connection in a task of its own, or refuse it if there are too many in total or of its uid."""
        connection.setblocking(False)
        uid = self._uid_of(connection)
        if len(self._connections) >= self._max_connections or self._connections_of[uid] >= MAX_CONNECTIONS_PER_UID:
            _refuse(connection)
            return
        self._connections_of[uid] += 1
        task = asyncio.get_running_loop().create_task(self._handle(connection, uid))
        self._connections.add(task)
        task.add_done_callback(lambda done: self._ended(done, uid))

    def _ended(self, task: asyncio.Task[None], uid: int) -> None:
        self._connections.discard(task)
        self._connections_of[uid] -= 1
        if not self._connections_of[uid]:
            del self._connections_of[uid]
        if not task.cancelled() and (error := task.exception()):
            log.error("a connection from uid %d failed with an unexpected error", uid, exc_info=error)

    async def _handle(self, connection: socket.socket, uid: int) -> None:
        with connection:
            try:
                await asyncio.wait_for(self._respond(connection, uid), self._deadline_s)
            except (OSError, asyncio.TimeoutError):
                pass  # The client closed the connection or was too slow. Only its own request is lost.

    async def _respond(self, connection: socket.socket, uid: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            account = await self._accounts.with_uid(uid)
            self._limits.count_registrar_request(uid)
        except HttpError as error:
            response: dict[str, Any] = {"ok": False, "busy": error.status == 503, "message": error.message}
        else:
            line = await _read_line(connection)
            response = await loop.run_in_executor(self._writer, self._perform, account, line)
        await loop.sock_sendall(connection, json.dumps(response).encode() + b"\n")

    def _perform(self, account: UnixAccount, line: bytes) -> dict[str, Any]:
        try:
            request = _parse(line)
            return {"ok": True, **ACTIONS[request.action](self, account, request)}
        except BadRequest as error:
            return {"ok": False, "message": str(error)}
        except Exception:
            log.exception("a request of uid %d to the registrar failed with an unexpected error", account.uid)
            return {"ok": False, "message": "the portal cannot use its table of tokens at the moment; try again later"}

    def _add(self, account: UnixAccount, request: Request) -> dict[str, Any]:
        """Register hashes. A new hash without ``audit_info`` belongs to a token that another program created."""
        added = self._routes.add(account.uid, account.name, request.hashes)
        action, audit_info = ("token.made", request.audit_info) if request.audit_info else ("token.found", {})
        for sha256, reason in added.refused.items():
            audit.record(action, "refused", account.name, reason=reason, sha256=sha256[:12], **audit_info)
        if request.audit_info and not added.refused:
            audit.record(action, "ok", account.name, **audit_info)
        elif not request.audit_info:
            for sha256 in added.new:
                audit.record(action, "ok", account.name, sha256=sha256[:12])
        return {"refused": [f"{sha256[:12]}…: {reason}" for sha256, reason in added.refused.items()]}

    def _revoke(self, account: UnixAccount, request: Request) -> dict[str, Any]:
        self._routes.revoke(account.uid, request.hashes)
        audit.record("token.revoked", "ok", account.name, **(request.audit_info or {}))
        return {}

    def _release_others(self, account: UnixAccount, request: Request) -> dict[str, Any]:
        self._routes.release_others(account.uid, request.hashes)
        return {}

    def _list(self, account: UnixAccount, _request: Request) -> dict[str, Any]:
        return {"hashes": self._routes.hashes(account.uid)}

    def _login(self, account: UnixAccount, _request: Request) -> dict[str, Any]:
        if self._links is None:
            raise BadRequest(
                "this portal does not offer sign-in links; open its address in a browser and sign in there"
            )
        return {"path": LINK_PATH + self._links.make(account)}


ACTIONS: dict[str, Callable[[Registrar, UnixAccount, Request], dict[str, Any]]] = {
    "add": Registrar._add,
    "revoke": Registrar._revoke,
    "release_others": Registrar._release_others,
    "list": Registrar._list,
    "login": Registrar._login,
}


def _parse(line: bytes) -> Request:
    """Parse a request. Raises BadRequest."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRequest("a request must be one line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("action"), str) or request["action"] not in ACTIONS:
        raise BadRequest(f"action must be one of {', '.join(ACTIONS)}")
    hashes, audit_info = request.get("hashes"), request.get("audit_info")
    if not isinstance(hashes, list) or len(hashes) > MAX_HASHES or not all(map(is_sha256, hashes)):
        raise BadRequest(f"hashes must be an array of at most {MAX_HASHES} SHA-256 hashes in lower-case hex")
    if audit_info is not None and not _is_audit_info(audit_info):
        raise BadRequest(
            f"audit_info must be an object with some of {', '.join(AUDIT_INFO_KEYS)} "
            f"as texts of at most {MAX_AUDIT_VALUE_LENGTH} characters"
        )
    return Request(request["action"], hashes, audit_info)


def _is_audit_info(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key in AUDIT_INFO_KEYS and isinstance(text, str) and len(text) <= MAX_AUDIT_VALUE_LENGTH
        for key, text in value.items()
    )


async def _read_line(connection: socket.socket) -> bytes:
    """Return the bytes up to the first newline, the end of the stream, or MAX_MESSAGE_BYTES."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while b"\n" not in received and len(received) < MAX_MESSAGE_BYTES:
        piece = await loop.sock_recv(connection, MAX_MESSAGE_BYTES - len(received))
        if not piece:
            break
        received += piece
    return bytes(received)


def _refuse(connection: socket.socket) -> None:
    with connection:
        try:
            # Such a short line fits into the socket's buffer, so this does not block.
            connection.send(_BUSY)
        except OSError:
            pass  # The client has closed the connection already and needs no response.
