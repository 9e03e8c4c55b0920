"""The spawner: everything that root will do, who may ask it, and the function that answers, in one table.

Runs as root, one thread, as ``python -I -m spawner.main`` with its Settings as JSON on standard input
(``punway spawner`` starts it so). Its own log is standard error; standard output is the PUNs', and it writes nothing
there. A conversation is messages over RUN/spawner.sock (wire.py): ``{"id": N, "ask": NAME, …}`` and ``{"id": N, …}``.
Whoever is neither root nor the hook is not heard; an unknown or malformed request ends the conversation.
"""

import json
import logging
import os
import resource
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from spawner import launch, wire
from spawner.children import TICK, Children
from spawner.launch import Settings

CONVERSATIONS = 64  # Greatest number at once.
MAX_UNSENT = 10_000  # Greatest number of answers that wait for a peer to read.

log = logging.getLogger("punway.spawner")


# A request: its fields with their types, whether the hook may ask it, and what answers it.
ANSWERS: dict[str, tuple[dict[str, type], bool, Callable[..., None]]] = {
    "ensure": ({"uid": int, "name": str}, True, Children.ensure),
    "ping": ({}, True, Children.ping),
    "ps": ({}, False, Children.ps),
    "stop": ({"name": str}, False, Children.stop),
    "reload": ({}, False, Children.reload),
}


class Spawner:
    """The event loop: conversations in, PUNs out."""

    def __init__(self, settings: Settings) -> None:
        # One descriptor for each user who was there lately. A PUN has its own limit (become.py).
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if len(json.dumps(settings.birth)) > wire.MESSAGE_SIZE // 2:
            raise SystemExit("punway spawner: pun.environment is too large for a message to the preloader")
        self.settings = settings
        self._selector = selectors.DefaultSelector()
        self._conversations: dict[socket.socket, deque[wire.Message]] = {}  # With the answers that are not sent yet.
        self._leaving = False
        launch.prepare_folder(settings)
        self._path = Path(settings.run_dir) / "spawner.sock"
        self._socket = launch.listen(self._path, socket.SOCK_SEQPACKET, 0o600, settings.hook_uid, -1)
        self._children = Children(settings, self._selector)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then no PUN stays."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_leaving", True))
        self._selector.register(woken, selectors.EVENT_READ, lambda: None)
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        log.info("ready")
        while not self._leaving:
            self._children.advance()
            for key, _ in self._selector.select(TICK):
                # A descriptor may have been closed by an answer earlier in this round.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
        self._children.end()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        uid = wire.peer_uid(connection)
        if uid not in (0, os.geteuid(), self.settings.hook_uid) or len(self._conversations) >= CONVERSATIONS:
            log.warning("uid %d was not heard", uid)
            connection.close()
            return
        connection.setblocking(False)
        self._conversations[connection] = deque()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._serve(connection, uid))

    def _serve(self, connection: socket.socket, uid: int) -> None:
        """Send what waits; only then take the next request, so that a peer that does not read asks no more."""
        if self._conversations[connection]:
            self._flush(connection)
        else:
            self._read(connection, uid)

    def _read(self, connection: socket.socket, uid: int) -> None:
        try:
            received = wire.receive(connection)
            if received is None:
                return self._close(connection)
            self._answer(connection, uid, received[0])
        except (wire.Malformed, OSError) as error:
            log.warning("a conversation with uid %d ended: %s", uid, error)
            self._close(connection)

    def _answer(self, connection: socket.socket, uid: int, message: wire.Message) -> None:
        number, asked = message.pop("id", None), message.pop("ask", None)
        if not isinstance(asked, str) or asked not in ANSWERS or type(number) is not int:
            raise wire.Malformed("an unknown request")
        fields, for_hook, do = ANSWERS[asked]
        if uid not in (0, os.geteuid()) and not for_hook:
            raise wire.Malformed(f"{asked} is not for uid {uid}")
        if {key: type(value) for key, value in message.items()} != fields:
            raise wire.Malformed(f"{asked} with other fields than its own")
        do(self._children, lambda said: self._send(connection, {"id": number, **said}), **message)

    def _send(self, connection: socket.socket, message: wire.Message) -> None:
        """Send an answer, or have it wait for a peer that does not read just now; one that is gone gets none."""
        if connection in self._conversations:
            self._conversations[connection].append(message)
            self._flush(connection)

    def _flush(self, connection: socket.socket) -> None:
        unsent = self._conversations[connection]
        try:
            while unsent:
                wire.send(connection, unsent[0])
                unsent.popleft()
        except BlockingIOError:
            if len(unsent) > MAX_UNSENT:
                return self._close(connection)
        except (OSError, wire.Malformed):
            return self._close(connection)
        key = self._selector.get_key(connection)
        self._selector.modify(connection, selectors.EVENT_WRITE if unsent else selectors.EVENT_READ, key.data)

    def _close(self, connection: socket.socket) -> None:
        if connection in self._conversations:
            del self._conversations[connection]
            self._selector.unregister(connection)
            connection.close()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway spawner: %(message)s")
    Spawner(Settings(**json.load(sys.stdin))).run()
