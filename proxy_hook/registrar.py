"""The registrar: a user's processes register and forget their own token hashes, and ask for a one-time link to
sign a browser in. A task in the hook's event loop.

Every local user may connect to RUN/register.sock; the kernel says who it is (SO_PEERCRED), and no message can. One
JSON line goes each way (tokens/registrar_client.py is the client). Nobody can hold it up: a conversation has one
deadline, a
uid has a share of the connections, an account that may not have a PUN is refused before a line is read, and what
the disk or the name service takes its time for is done in other threads.
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
"""How long a conversation may take, from the accepted connection to the sent answer."""
MAX_CONNECTIONS, MAX_CONNECTIONS_PER_UID = 256, 2
"""Conversations at once: of all uids together, and of one."""
ACCEPTS_PER_ROUND, ROUND_PAUSE_S = 50, 0.01
"""Accepted connections before the event loop turns to nginx's questions for a moment. A local user who connects in a
loop costs the hook a fraction of its time, and others their turn within a fraction of a second."""
ACCEPT_RETRY_S = 0.1

MAX_AUDIT_VALUE_LENGTH = 400
"""Greatest length of each text in a note, in characters."""

_BUSY = b'{"ok": false, "busy": true, "message": "too many requests at once; try again"}\n'

log = logging.getLogger("punway.hook")


@dataclass(frozen=True)
class Request:
    """``note`` says which token is made or revoked, for the audit log: None for hashes that are only told again."""

    do: str
    hashes: list[str]
    note: dict[str, str] | None


class BadRequest(Exception):
    """A request that is not of the form. The message is for the caller."""


class Registrar:
    """Answers on a listening socket. Without ``links`` there are no one-time links."""

    def __init__(
        self, routes: RouteTable, accounts: EligibleAccounts, rates: RateLimits, links: Links | None = None
    ) -> None:
        self._routes = routes
        self._accounts = accounts
        self._rates = rates
        self._links = links
        self._conversations: set[asyncio.Task[None]] = set()
        self._of_uid: Counter[int] = Counter()
        # One thread is enough: SQLite has one writer at a time.
        # Each account has at most MAX_CONNECTIONS_PER_UID requests queued here.
        self._writer = ThreadPoolExecutor(1, "registrar")

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until the task is cancelled. Raises OSError when the listener is closed."""
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
            conversations = list(self._conversations)
            for conversation in conversations:
                conversation.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)
            self._writer.shutdown()

    async def _accept(self, listener: socket.socket) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                if listener.fileno() < 0:
                    raise
                # For example, no descriptors are left. That passes.
                log.error("the registrar could not accept a connection, retrying: %s", error)
                await asyncio.sleep(ACCEPT_RETRY_S)
            else:
                return connection

    def _admit(self, connection: socket.socket) -> None:
        """Begin a conversation, or refuse it at once if its uid or all together have their share already."""
        connection.setblocking(False)
        uid = _peer_uid(connection)
        if len(self._conversations) >= MAX_CONNECTIONS or self._of_uid[uid] >= MAX_CONNECTIONS_PER_UID:
            _refuse(connection)
            return
        self._of_uid[uid] += 1
        conversation = asyncio.get_running_loop().create_task(self._converse(connection, uid))
        self._conversations.add(conversation)
        conversation.add_done_callback(lambda done: self._ended(done, uid))

    def _ended(self, conversation: asyncio.Task[None], uid: int) -> None:
        self._conversations.discard(conversation)
        self._of_uid[uid] -= 1
        if not self._of_uid[uid]:
            del self._of_uid[uid]
        if not conversation.cancelled() and (error := conversation.exception()):
            log.error("a conversation with uid %d failed with an unexpected error", uid, exc_info=error)

    async def _converse(self, connection: socket.socket, uid: int) -> None:
        with connection:
            try:
                await asyncio.wait_for(self._serve(connection, uid), DEADLINE_S)
            except (OSError, asyncio.TimeoutError):
                pass  # The caller hung up, or was too slow; it has lost its own request alone.

    async def _serve(self, connection: socket.socket, uid: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            account = await self._accounts.with_uid(uid)
            self._rates.spend_at_registrar(uid)
        except HttpError as no:
            answer: dict[str, Any] = {"ok": False, "busy": no.status == 503, "message": no.message}
        else:
            line = await _read_line(connection)
            answer = await loop.run_in_executor(self._writer, self._answer, account, line)
        await loop.sock_sendall(connection, json.dumps(answer).encode() + b"\n")

    def _answer(self, account: UnixAccount, line: bytes) -> dict[str, Any]:
        try:
            request = _request(line)
            return {"ok": True, **ACTIONS[request.do](self, account, request)}
        except BadRequest as error:
            return {"ok": False, "message": str(error)}
        except Exception:
            log.exception("the registrar could not answer uid %d", account.uid)
            return {"ok": False, "message": "the portal's route table cannot be used just now; try again later"}

    def _add(self, account: UnixAccount, request: Request) -> dict[str, Any]:
        """Register hashes. Without a note, one that is new was put into the file by something else than Punway."""
        added = self._routes.add(account.uid, account.name, request.hashes)
        action, note = ("token.made", request.note) if request.note else ("token.found", {})
        for sha256, reason in added.refused.items():
            audit.record(action, "refused", account.name, reason=reason, sha256=sha256[:12], **note)
        if request.note and not added.refused:
            audit.record(action, "ok", account.name, **note)
        elif not request.note:
            for sha256 in added.new:
                audit.record(action, "ok", account.name, sha256=sha256[:12])
        return {"refused": [f"{sha256[:12]}…: {reason}" for sha256, reason in added.refused.items()]}

    def _drop(self, account: UnixAccount, request: Request) -> dict[str, Any]:
        self._routes.drop(account.uid, request.hashes)
        audit.record("token.revoked", "ok", account.name, **(request.note or {}))
        return {}

    def _keep(self, account: UnixAccount, request: Request) -> dict[str, Any]:
        self._routes.keep(account.uid, request.hashes)
        return {}

    def _list(self, account: UnixAccount, _request: Request) -> dict[str, Any]:
        return {"hashes": self._routes.hashes(account.uid)}

    def _login(self, account: UnixAccount, _request: Request) -> dict[str, Any]:
        if self._links is None:
            raise BadRequest("this portal does not sign in by links; open its address in a browser")
        return {"path": LINK_PATH + self._links.make(account)}


ACTIONS: dict[str, Callable[[Registrar, UnixAccount, Request], dict[str, Any]]] = {
    "add": Registrar._add,
    "drop": Registrar._drop,
    "keep": Registrar._keep,
    "list": Registrar._list,
    "login": Registrar._login,
}


def _request(line: bytes) -> Request:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRequest("a request is one line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str) or request["do"] not in ACTIONS:
        raise BadRequest(f"a request does one of {', '.join(ACTIONS)}")
    hashes, note = request.get("hashes"), request.get("note")
    if not isinstance(hashes, list) or len(hashes) > 500 or not all(map(is_sha256, hashes)):
        raise BadRequest("hashes is an array of at most 500 SHA-256 hashes in hex")
    if note is not None and not _is_note(note):
        raise BadRequest(f"a note has short texts for some of {', '.join(AUDIT_INFO_KEYS)}")
    return Request(request["do"], hashes, note)


def _is_note(note: Any) -> bool:
    return isinstance(note, dict) and all(
        key in AUDIT_INFO_KEYS and isinstance(value, str) and len(value) <= MAX_AUDIT_VALUE_LENGTH
        for key, value in note.items()
    )


async def _read_line(connection: socket.socket) -> bytes:
    """Return what comes until the first newline, MAX_MESSAGE_BYTES bytes, or the end."""
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
            # So short a line fits the socket's buffer; it does not block.
            connection.send(_BUSY)
        except OSError:
            pass  # The caller has hung up already, and needs no answer.


def _peer_uid(connection: socket.socket) -> int:
    credentials = struct.Struct("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(raw)[1])
