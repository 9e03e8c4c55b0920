"""The registrar: a user's processes register and forget their own token hashes, and ask for a one-time link to
sign a browser in. A thread of the hook.

Every local user may connect to RUN/register.sock; the kernel says who it is (SO_PEERCRED), and no message
can. One JSON line each way (tokens/register.py is the client). Nobody can hold it up: a connection has
TIMEOUT seconds, and a uid so many at once.
"""

from __future__ import annotations

import json
import logging
import pwd
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from proxy_hook import audit
from proxy_hook.accounts import UnixAccount
from proxy_hook.denied import Denied
from proxy_hook.routes import RouteTable
from proxy_hook.sessions import Links
from proxy_hook.sign_in import ONCE
from tokens.register import MESSAGE_SIZE, NOTE_KEYS
from tokens.token import is_sha256

TIMEOUT = 5.0
"""Seconds that a connection has for its request and its answer."""
THREADS, EACH = 8, 2
"""Connections served at once, and of one uid at once."""

NOTE_LENGTH = 400
"""Greatest length of each text in a note, in characters."""


@dataclass(frozen=True)
class Request:
    """``note`` says which token is made or revoked, for the audit log: None for hashes that are only told again."""

    do: str
    hashes: list[str]
    note: dict[str, str] | None


class Malformed(Exception):
    """A request that is not of the form. The message is for the caller."""


class Registrar:
    """Serves an inherited listening socket until the process ends. Without ``links`` there are no one-time links."""

    def __init__(self, listener: socket.socket, routes: RouteTable, links: Links | None = None) -> None:
        self._listener = listener
        self._routes = routes
        self._links = links
        self._busy: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, "registrar")

    def start(self) -> None:
        threading.Thread(target=self._accept, name="registrar", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._listener.fileno() < 0:
                    return
                # Out of descriptors, say: that passes, and nobody else would start this thread again.
                logging.getLogger("punway.hook").error("the registrar could not accept: %s", error)
                time.sleep(0.1)
                continue
            uid = _peer_uid(connection)
            with self._lock:
                free = self._busy[uid] < EACH
                self._busy[uid] += free
            if free:
                self._pool.submit(self._serve, connection, uid)
            else:
                # So short a line fits the socket's buffer; it cannot block.
                connection.sendall(b'{"ok": false, "busy": true, "message": "too many requests at once; try again"}\n')
                connection.close()

    def _serve(self, connection: socket.socket, uid: int) -> None:
        try:
            with connection:
                connection.settimeout(TIMEOUT)
                with connection.makefile("rb") as lines:
                    answer = self._answer(uid, lines.readline(MESSAGE_SIZE))
                connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass  # The caller hung up, or was too slow; it has lost its own request alone.
        finally:
            with self._lock:
                self._busy[uid] -= 1
                if not self._busy[uid]:
                    del self._busy[uid]

    def _answer(self, uid: int, line: bytes) -> dict[str, Any]:
        try:
            request = _request(line)
            if uid == 0:
                raise Malformed("root has no tokens: run this as an ordinary user")
            try:
                account = UnixAccount(uid, pwd.getpwuid(uid).pw_name)
            except KeyError:
                raise Malformed(f"uid {uid} has no account on this host") from None
            return {"ok": True, **DO[request.do](self, account, request)}
        except (Malformed, Denied) as error:
            return {"ok": False, "message": str(error)}
        except Exception:
            logging.getLogger("punway.hook").exception("the registrar could not answer uid %d", uid)
            return {"ok": False, "message": "the portal's route table cannot be used just now"}

    def _add(self, account: UnixAccount, request: Request) -> dict[str, Any]:
        refused = self._routes.add(account.uid, account.name, request.hashes)
        for sha256, reason in refused.items():
            note = {"sha256": sha256[:12], **(request.note or {})}
            audit.record("token.made" if request.note else "token.told", "refused", account.name, reason=reason, **note)
        if request.note and not refused:
            audit.record("token.made", "ok", account.name, **request.note)
        return {"refused": [f"{sha256[:12]}…: {reason}" for sha256, reason in refused.items()]}

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
            raise Malformed("this portal does not sign in by links; open its address in a browser")
        return {"path": ONCE + self._links.make(account)}


DO: dict[str, Callable[[Registrar, UnixAccount, Request], dict[str, Any]]] = {
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
        raise Malformed("a request is one line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str) or request["do"] not in DO:
        raise Malformed(f"a request does one of {', '.join(DO)}")
    hashes, note = request.get("hashes"), request.get("note")
    if not isinstance(hashes, list) or len(hashes) > 500 or not all(map(is_sha256, hashes)):
        raise Malformed("hashes is an array of at most 500 SHA-256 hashes in hex")
    if note is not None and not _is_note(note):
        raise Malformed(f"a note has short texts for some of {', '.join(NOTE_KEYS)}")
    return Request(request["do"], hashes, note)


def _is_note(note: Any) -> bool:
    return isinstance(note, dict) and all(
        key in NOTE_KEYS and isinstance(value, str) and len(value) <= NOTE_LENGTH for key, value in note.items()
    )


def _peer_uid(connection: socket.socket) -> int:
    credentials = struct.Struct("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(raw)[1])
