"""The spawner's event loop, and the table of the requests that it accepts from the hook and from root.

Runs as root with one thread, as ``python -I -m spawner.main`` with its Settings as JSON on standard input; ``punway
spawner`` starts it. Its own log is standard error. Standard output is the PUNs' log, and the spawner writes nothing to
it. Clients exchange messages over RUN/spawner.sock (wire.py): ``{"id": N, "ask": NAME, …}`` and ``{"id": N, …}``.
Connections are accepted from root and the hook only. An unknown or malformed request closes the connection.
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
from spawner.children import TICK_S, Children
from spawner.launch import Settings

MAX_CONNECTIONS = 64
MAX_UNSENT_ANSWERS = 10_000  # The maximum for one connection. Beyond it, the peer does not read, and is disconnected.

log = logging.getLogger("punway.spawner")

# For each request: its fields and their types, whether the hook may make it too, and the function that answers it.
REQUESTS: dict[str, tuple[dict[str, type], bool, Callable[..., None]]] = {
    "ensure": ({"uid": int, "name": str}, True, Children.ensure),
    "ping": ({}, True, Children.ping),
    "ps": ({}, False, Children.ps),
    "stop": ({"name": str}, False, Children.stop),
    "reload": ({}, False, Children.reload),
}


class Spawner:
    """The event loop that reads requests, and starts and ends PUNs."""

    def __init__(self, settings: Settings) -> None:
        # The spawner has a listener for each recent user, so it needs many descriptors. PUNs have their own limit
        # (become.py).
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if len(json.dumps(settings.spawn_settings)) > wire.MAX_MESSAGE_BYTES // 2:
            raise SystemExit("punway spawner: pun.environment is too large; make it smaller than 32 kB")
        self.settings = settings
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, deque[wire.Message]] = {}  # With the unsent answers of each.
        self._stopping = False
        launch.prepare_folder(settings)
        self._path = Path(settings.run_dir) / "spawner.sock"
        self._socket = launch.listen(self._path, socket.SOCK_SEQPACKET, 0o600, settings.hook_uid, -1)
        self._children = Children(settings, self._selector)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then end all PUNs."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_stopping", True))
        self._selector.register(woken, selectors.EVENT_READ, lambda: None)
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        log.info("ready")
        while not self._stopping:
            self._children.advance()
            for key, _ in self._selector.select(TICK_S):
                # An earlier event of this round may have closed this descriptor.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
        self._children.end()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        """Accept a connection, unless its peer is neither root nor the hook or there are too many."""
        connection, _ = self._socket.accept()
        uid = wire.peer_uid(connection)
        if uid not in (0, os.geteuid(), self.settings.hook_uid) or len(self._connections) >= MAX_CONNECTIONS:
            log.warning("rejected a connection from uid %d", uid)
            connection.close()
            return
        connection.setblocking(False)
        self._connections[connection] = deque()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._serve(connection, uid))

    def _serve(self, connection: socket.socket, uid: int) -> None:
        """Send the unsent answers first, so that a peer that does not read them can make no further requests."""
        if self._connections[connection]:
            self._flush(connection)
        else:
            self._read(connection, uid)

    def _read(self, connection: socket.socket, uid: int) -> None:
        """Read and answer one request. Close the connection when it has ended or the request is malformed."""
        try:
            received = wire.receive(connection)
            if received is None:
                return self._close(connection)
            self._answer(connection, uid, received[0])
        except (wire.Malformed, OSError) as error:
            log.warning("closed a connection of uid %d: %s", uid, error)
            self._close(connection)

    def _answer(self, connection: socket.socket, uid: int, message: wire.Message) -> None:
        """Check a request against the table and call its function, which answers it. Raises Malformed."""
        number, name = message.pop("id", None), message.pop("ask", None)
        if not isinstance(name, str) or name not in REQUESTS or type(number) is not int:
            raise wire.Malformed("unknown request")
        fields, for_hook, do = REQUESTS[name]
        if uid not in (0, os.geteuid()) and not for_hook:
            raise wire.Malformed(f"only root may request {name}")
        if {key: type(value) for key, value in message.items()} != fields:
            raise wire.Malformed(f"wrong fields for {name}")
        do(self._children, lambda answer: self._send(connection, {"id": number, **answer}), **message)

    def _send(self, connection: socket.socket, message: wire.Message) -> None:
        """Send an answer, or queue it while the peer does not read. Drop it if the connection is closed."""
        if connection in self._connections:
            self._connections[connection].append(message)
            self._flush(connection)

    def _flush(self, connection: socket.socket) -> None:
        """Send unsent answers. Close the connection when there are too many of them."""
        unsent = self._connections[connection]
        try:
            while unsent:
                wire.send(connection, unsent[0])
                unsent.popleft()
        except BlockingIOError:
            if len(unsent) > MAX_UNSENT_ANSWERS:
                return self._close(connection)
        except (OSError, wire.Malformed):
            return self._close(connection)
        key = self._selector.get_key(connection)
        self._selector.modify(connection, selectors.EVENT_WRITE if unsent else selectors.EVENT_READ, key.data)

    def _close(self, connection: socket.socket) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._selector.unregister(connection)
            connection.close()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway spawner: %(message)s")
    Spawner(Settings(**json.load(sys.stdin))).run()
