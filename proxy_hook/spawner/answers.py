"""Everything that root will do, who may ask it, and the function that answers: one table.

Runs as root. A conversation is messages over RUN/spawner.sock (wire.py): ``{"id": N, "ask": NAME, …}`` and
``{"id": N, …}``. Whoever is neither root nor the hook is not heard; an unknown or malformed request
ends the conversation.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy_hook.spawner import launch, wire
from proxy_hook.spawner.children import Children, Reply
from proxy_hook.spawner.launch import Settings

CONVERSATIONS = 64
"""Greatest number of conversations at once."""

log = logging.getLogger("punway.spawner")


@dataclass(frozen=True)
class Answer:
    """A request that is answered: its fields with their types, whether the hook may ask it, by what."""

    fields: dict[str, type]
    for_hook: bool
    do: Callable[..., None]


def ensure(children: Children, reply: Reply, uid: int, name: str) -> None:
    """The path of the user's socket, behind which a PUN of that user is or will be; or why not."""
    children.ensure(uid, name, reply)


def ping(_children: Children, reply: Reply) -> None:
    """That the spawner answers."""
    reply({"pong": True})


def ps(children: Children, reply: Reply) -> None:
    """The PUNs that there are: name, uid, pid, state, and its seconds in that state."""
    now = time.monotonic()
    rows = [
        {"name": p.name, "uid": p.uid, "pid": p.pid, "state": p.state, "seconds": round(now - p.since)}
        for p in children.puns.values()
        if p.pid
    ]
    # A message holds some 600 rows; the count tells when there are more.
    reply({"puns": rows[:500], "count": len(rows)})


def stop(children: Children, reply: Reply, name: str) -> None:
    """End a user's PUN after what is in flight; whether there was one."""
    found = [pun for pun in children.puns.values() if pun.name == name and pun.pid]
    for pun in found:
        children.stop(pun)
    reply({"stopped": bool(found)})


def reload(children: Children, reply: Reply) -> None:
    """New code for every PUN, as each falls idle."""
    children.reload()
    reply({"reloaded": True})


ANSWERS = {
    "ensure": Answer({"uid": int, "name": str}, True, ensure),
    "ping": Answer({}, True, ping),
    "ps": Answer({}, False, ps),
    "stop": Answer({"name": str}, False, stop),
    "reload": Answer({}, False, reload),
}


class Spawner:
    """The event loop: conversations in, PUNs out."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._selector = selectors.DefaultSelector()
        self._conversations: set[socket.socket] = set()
        self._leaving = False
        launch.prepare_folder(settings)
        self._socket = self._listen(Path(settings.run_dir) / "spawner.sock")
        self._children = Children(settings, self._selector)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then no PUN stays."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
        self._selector.register(woken, selectors.EVENT_READ, lambda: None)
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        log.info("ready")
        while not self._leaving:
            for key, _ in self._selector.select(self._children.tick()):
                # A descriptor may have been closed by an answer earlier in this round.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
        self._children.end()
        (Path(self.settings.run_dir) / "spawner.sock").unlink(missing_ok=True)

    def _leave(self, *_: object) -> None:
        self._leaving = True

    def _listen(self, path: Path) -> socket.socket:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        umask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        if not self.settings.single_user:
            os.chown(path, self.settings.hook_uid, -1, follow_symlinks=False)
        listener.listen(CONVERSATIONS)
        listener.setblocking(False)
        return listener

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        uid = wire.peer_uid(connection)
        if uid not in (os.geteuid(), self.settings.hook_uid) or len(self._conversations) >= CONVERSATIONS:
            log.warning("uid %d was not heard", uid)
            connection.close()
            return
        connection.setblocking(False)
        self._conversations.add(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection, uid))

    def _read(self, connection: socket.socket, uid: int) -> None:
        try:
            received = wire.receive(connection)
            if received is None:
                self._close(connection)
                return
            message, descriptors = received
            if descriptors:
                for descriptor in descriptors:
                    os.close(descriptor)
                raise wire.Malformed("descriptors are not taken")
            self._answer(connection, uid, message)
        except (wire.Malformed, OSError) as error:
            log.warning("a conversation with uid %d ended: %s", uid, error)
            self._close(connection)

    def _answer(self, connection: socket.socket, uid: int, message: wire.Message) -> None:
        number, asked = message.pop("id", None), message.pop("ask", None)
        answer = ANSWERS.get(asked) if isinstance(asked, str) else None
        if answer is None or type(number) is not int:
            raise wire.Malformed("an unknown request")
        if uid != os.geteuid() and not answer.for_hook:
            raise wire.Malformed(f"{asked} is not for uid {uid}")
        if {key: type(value) for key, value in message.items()} != answer.fields:
            raise wire.Malformed(f"{asked} with other fields than its own")
        answer.do(self._children, lambda said: self._send(connection, {"id": number, **said}), **message)

    def _send(self, connection: socket.socket, message: wire.Message) -> None:
        """Send an answer; a peer that is gone, or that does not read, has ended the conversation."""
        try:
            if connection in self._conversations:
                wire.send(connection, message)
        except (OSError, wire.Malformed):
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        if connection in self._conversations:
            self._conversations.remove(connection)
            self._selector.unregister(connection)
            connection.close()
