"""The registrar: a user's processes register and forget their own token hashes. A thread of the hook.

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
from typing import Any

from proxy_hook.routes import RouteTable
from tokens.register import MESSAGE_SIZE
from tokens.token import is_sha256

TIMEOUT = 5.0
"""Seconds that a connection has for its request and its answer."""
THREADS, EACH = 8, 2
"""Connections served at once, and of one uid at once."""

audit = logging.getLogger("punway.audit")


class Malformed(Exception):
    """A request that is not of the form. The message is for the caller."""


class Registrar:
    """Serves an inherited listening socket until the process ends."""

    def __init__(self, listener: socket.socket, routes: RouteTable) -> None:
        self._listener = listener
        self._routes = routes
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
                connection.sendall(b'{"ok": false, "message": "too many requests at once; try again"}\n')
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
            do, hashes = _request(line)
            if uid == 0:
                raise Malformed("root has no tokens: run this as an ordinary user")
            return {"ok": True, **DO[do](self, uid, hashes)}
        except Malformed as error:
            return {"ok": False, "message": str(error)}
        except Exception:
            logging.getLogger("punway.hook").exception("the registrar could not answer uid %d", uid)
            return {"ok": False, "message": "the portal's route table cannot be used just now"}

    def _add(self, uid: int, hashes: list[str]) -> dict[str, Any]:
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            raise Malformed(f"uid {uid} has no account on this host") from None
        refused = self._routes.add(uid, name, hashes)
        for sha256, reason in refused.items():
            audit.warning(json.dumps({"action": "register", "uid": uid, "sha256": sha256[:12], "refused": reason}))
        return {"refused": [f"{sha256[:12]}…: {reason}" for sha256, reason in refused.items()]}

    def _drop(self, uid: int, hashes: list[str]) -> dict[str, Any]:
        self._routes.drop(uid, hashes)
        return {}

    def _keep(self, uid: int, hashes: list[str]) -> dict[str, Any]:
        self._routes.keep(uid, hashes)
        return {}

    def _list(self, uid: int, _hashes: list[str]) -> dict[str, Any]:
        return {"hashes": self._routes.hashes(uid)}


DO: dict[str, Callable[[Registrar, int, list[str]], dict[str, Any]]] = {
    "add": Registrar._add,
    "drop": Registrar._drop,
    "keep": Registrar._keep,
    "list": Registrar._list,
}


def _request(line: bytes) -> tuple[str, list[str]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise Malformed("a request is one line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str) or request["do"] not in DO:
        raise Malformed(f"a request does one of {', '.join(DO)}")
    hashes = request.get("hashes")
    if not isinstance(hashes, list) or len(hashes) > 500 or not all(map(is_sha256, hashes)):
        raise Malformed("hashes is an array of at most 500 SHA-256 hashes in hex")
    return request["do"], hashes


def _peer_uid(connection: socket.socket) -> int:
    credentials = struct.Struct("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(raw)[1])
