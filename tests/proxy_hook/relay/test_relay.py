"""proxy_hook/relay/relay.py and exchange.py, on real sockets: what passes, the limits, and the timeouts."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_hook.relay import exchange as relay_exchange
from proxy_hook.relay.exchange import Timeouts
from proxy_hook.relay.relay import Relay

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class LocalRelay:
    """A relay in a thread, and the users' processes behind it, each with a listener."""

    def __init__(self, folder: Path, max_requests: int = 100, **options: Any) -> None:
        self.folder = folder
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "relay.sock"))
        listener.listen(100)
        self.relay = Relay(listener, str(folder), max_requests, sweep_interval_s=0.05, **options)
        self.failed: list[BaseException] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.listener = listener
        self.puns: dict[str, socket.socket] = {}

    def _run(self) -> None:
        try:
            self.relay.run()
        except BaseException as error:
            self.failed.append(error)

    def pun(self, user: str) -> str:
        """Create the listener of a user's process. Return its path."""
        path = self.folder / "puns" / user / "pun.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.puns[user] = listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(60)
        listener.bind(str(path))
        listener.listen(100)
        return str(path)

    def accept(self, user: str) -> socket.socket:
        connection, _ = self.puns[user].accept()
        connection.settimeout(60)
        return connection

    def ask(self, path: str, user: str = "u", line: str = "GET /", body: bytes = b"") -> socket.socket:
        """Connect and send a request, as nginx does. Return the connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(self.folder / "relay.sock"))
        head = f"{line} HTTP/1.1\r\nX-Pun-Socket: {path}\r\nX-Pun-User: {user}\r\nHost: x\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection

    def end(self) -> None:
        self.relay.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.relay.close()
        for connection in (self.listener, *self.puns.values()):
            connection.close()


@contextmanager
def running(max_requests: int = 8, **options: Any) -> Iterator[LocalRelay]:
    """Run a relay, with the given options, until the block ends."""
    # The folder's name is short, because a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pw-") as folder:
        relay = LocalRelay(Path(folder), max_requests, **options)
        try:
            yield relay
        finally:
            relay.end()
        assert not relay.failed


@pytest.fixture
def relay() -> Iterator[LocalRelay]:
    with running() as local:
        yield local


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def everything(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
    connection.close()
    return received


def is_served(relay: LocalRelay, path: str, user: str) -> bool:
    """Send a request to a user's process that responds. Return whether the response arrives."""
    with relay.ask(path, user) as connection:
        relay.puns[user].settimeout(0.2)
        with suppress(TimeoutError, BrokenPipeError, ConnectionResetError), relay.accept(user) as pun:
            pun.sendall(GOOD)
            return connection.recv(65_536) == GOOD
    return False


def test_a_request_arrives_without_the_headers_for_the_relay(relay: LocalRelay) -> None:
    path = relay.pun("u")
    with relay.ask(path, body=b"body") as connection, relay.accept("u") as pun:
        assert pun.recv(65_536) == b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody"
        pun.sendall(GOOD)
        assert connection.recv(65_536) == GOOD


def test_large_bodies_pass_both_ways(relay: LocalRelay) -> None:
    """They are larger than the kernel's buffers, and the readers are slow. Nothing is lost or reordered."""
    sent = bytes(range(256)) * 16_384
    path = relay.pun("u")
    got = []

    def serve() -> None:
        with relay.accept("u") as pun:
            request = b""
            while len(request) < len(sent):
                request += pun.recv(10_000)
            got.append(request)
            pun.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent)

    thread = threading.Thread(target=serve)
    thread.start()
    connection = relay.ask(path, line="POST /", body=sent)
    received = b""
    while not received.endswith(sent):
        received += connection.recv(10_000)
    connection.close()
    thread.join(60)
    assert got[0].endswith(sent)
    assert received == b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent


@pytest.mark.parametrize(
    "path",
    ["{run}/hook.sock", "{run}/spawner.sock", "{run}/register.sock", "{run}/puns/../pun.sock", "{run}/puns/./pun.sock",
     "{run}/puns/a/../../hook.sock", "{run}/puns/u/other.sock", "/run/docker.sock", "{run}/puns/u/pun.sock/x", "", "pun.sock"],
)  # fmt: skip
def test_it_connects_to_users_processes_alone(relay: LocalRelay, path: str) -> None:
    """Whatever nginx names, the relay connects to no other socket of the portal or of the host."""
    named = path.format(run=relay.folder)
    reached = None
    if path.startswith("{run}") and path.endswith(".sock"):
        (relay.folder / "puns" / "a").mkdir(parents=True)
        place = Path(named).resolve()
        place.parent.mkdir(exist_ok=True)
        reached = socket.socket(socket.AF_UNIX)
        reached.bind(str(place))
        reached.listen()
        reached.setblocking(False)
    assert everything(relay.ask(named)) == b""
    if reached:
        with pytest.raises(BlockingIOError):
            reached.accept()
        reached.close()


def test_the_limit_of_a_user_is_below_the_total(relay: LocalRelay) -> None:
    """A stopped process takes only a part of the connections. Other users' requests still pass."""
    stopped, other = relay.pun("u"), relay.pun("v")
    waiting = [relay.ask(stopped) for _ in range(2)]
    assert everything(relay.ask(stopped)) == b"", "the third one is refused"
    with relay.ask(other, "v") as connection, relay.accept("v") as pun:
        pun.sendall(GOOD)
        assert connection.recv(65_536) == GOOD
    for connection in waiting:
        connection.close()
    for _ in waiting:
        relay.accept("u").close()
    until(lambda: is_served(relay, stopped, "u"))


def test_requests_beyond_the_total_are_refused_at_once(relay: LocalRelay) -> None:
    """Silent connections count too."""
    silent = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for connection in silent:
        connection.connect(str(relay.folder / "relay.sock"))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(relay.folder / "relay.sock"))
        assert connection.recv(1) == b""
    for connection in silent:
        connection.close()
    path = relay.pun("u")
    until(lambda: is_served(relay, path, "u"))


def test_a_client_that_hangs_up_is_noticed(relay: LocalRelay) -> None:
    """That is so even while its upload waits for a process that does not read. The process sees the end."""
    path = relay.pun("u")
    with relay.ask(path) as connection:
        pun = relay.accept("u")
        connection.setblocking(False)
        blocked = 0

        def is_stuck() -> bool:
            nonlocal blocked
            try:
                connection.send(b"x" * 65_536)
                blocked = 0
            except BlockingIOError:
                blocked += 1
            return blocked == 30

        until(is_stuck)
    assert everything(pun).startswith(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nxxx")


def test_a_head_that_does_not_end_is_refused(relay: LocalRelay) -> None:
    """It is refused as soon as it is too large, long before its timeout, so it cannot fill the memory."""
    connection = relay.ask(relay.pun("u"))
    with relay.accept("u") as pun:
        pun.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: " + b"a" * 8192)
        assert everything(connection) == b""


def test_bytes_beyond_the_length_are_cut(relay: LocalRelay) -> None:
    """That is so even if they come later."""
    path = relay.pun("u")
    with relay.ask(path) as connection, relay.accept("u") as pun:
        pun.sendall(GOOD[:-1])
        assert connection.recv(65_536) == GOOD[:-1]
        pun.sendall(b"}evil")
        assert connection.recv(65_536) == b"}"
    with relay.ask(path) as connection, relay.accept("u") as pun:
        pun.sendall(GOOD + b"evil")
        assert connection.recv(65_536) == GOOD


@pytest.mark.parametrize("timeout", ["response_head_s", "idle_s", "request_head_s"])
def test_nobody_is_waited_for_for_ever(timeout: str) -> None:
    """Timeouts end a head that does not end, a response that does not come, and a request that is not sent."""
    with running(timeouts=replace(Timeouts(), **{timeout: 0.1})) as relay:
        path = relay.pun("u")
        if timeout == "request_head_s":
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(60)
            connection.connect(str(relay.folder / "relay.sock"))
        else:
            connection = relay.ask(path)
            pun = relay.accept("u")
            if timeout == "response_head_s":
                pun.sendall(b"HTTP/1.1 200 OK\r\n")
        assert everything(connection) == b""
        if timeout != "request_head_s":
            pun.close()


def test_a_response_whose_connection_stays_open_ends() -> None:
    """It ends by its length. The relay closes nginx's connection soon if nginx does not."""
    with running(timeouts=Timeouts(linger_s=0.1)) as relay:
        connection = relay.ask(relay.pun("u"))
        with relay.accept("u") as pun:
            pun.sendall(GOOD)
            assert everything(connection) == GOOD


def test_an_error_in_an_exchange_ends_that_one_and_is_logged(
    relay: LocalRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = relay.pun("u")
    with monkeypatch.context() as patch:
        patch.setattr(relay_exchange, "_DESTINATION", None)
        assert everything(relay.ask(path)) == b""
    assert "an exchange failed" in caplog.text and "AttributeError" in caplog.text
    with relay.ask(path) as connection, relay.accept("u") as pun:
        pun.sendall(GOOD)
        assert connection.recv(65_536) == GOOD


def test_an_error_of_the_loop_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not continue without its listener. Whatever started it restarts it."""
    monkeypatch.setattr(Relay, "_accept", lambda _: os.close(-1))
    with tempfile.TemporaryDirectory(prefix="pw-") as folder:
        relay = LocalRelay(Path(folder))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{folder}/relay.sock")
            relay.thread.join(60)
        relay.end()
    assert isinstance(relay.failed[0], OSError)


def test_what_is_logged_is_bounded(relay: LocalRelay, caplog: pytest.LogCaptureFixture) -> None:
    """Each process gets one line a minute, which says what was wrong and has no control characters."""
    caplog.set_level(logging.WARNING)
    path = relay.pun("u")
    for _ in range(3):
        connection = relay.ask(path)
        with relay.accept("u") as pun:
            pun.sendall(b"HTTP/1.1 200 \x1b[2J\r\n\r\n")
            assert everything(connection) == b""
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and path in lines[0] and lines[0].isprintable()
    relay.relay.log_failure("x" * 10_000, "y")
    assert len(caplog.records[-1].getMessage()) < 300


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from(
            [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n", b"Content-Length: 3\r\n",
             b"Content-Length: 0\r\n", b"\r\n", b"\r\n\r\n", b"abc", b"Set-Cookie: evil=1\r\n", b"ETag: a\r\n",
             b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", GOOD]
        ),
    ),
    max_size=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[LocalRelay, str]]:
    with tempfile.TemporaryDirectory(prefix="pw-") as folder:
        relay = LocalRelay(Path(folder))
        yield relay, relay.pun("u")
        relay.end()
        assert not relay.failed


@given(PIECES)
@settings(deadline=None)
def test_any_bytes_are_one_response_or_none(shared: tuple[LocalRelay, str], pieces: list[bytes]) -> None:
    """However the bytes are split, nginx gets nothing, or one valid head with at most as many bytes as it announces."""
    relay, path = shared
    connection = relay.ask(path)
    with relay.accept("u") as pun, suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            pun.sendall(piece)
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
            head, end, body = received.partition(b"\r\n\r\n")
            if end and len(body) >= int(dict(line.split(b": ") for line in head.split(b"\r\n")[1:])[b"Content-Length"]):
                break
    connection.close()
    if not received:
        return
    head, end, body = received.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first == b"HTTP/1.1 200 OK" and end
    names = [line.split(b": ")[0] for line in lines]
    assert set(names) <= {b"Content-Length", b"Etag"} and len(set(names)) == len(names)
    assert len(body) <= int(dict(line.split(b": ") for line in lines)[b"Content-Length"])
