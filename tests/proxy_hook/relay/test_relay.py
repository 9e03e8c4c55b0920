"""proxy_hook/relay/relay.py and exchange.py, on real sockets: what passes, what is bounded, and what is noticed."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_hook.relay import exchange as relay_exchange
from proxy_hook.relay import relay as relay_module
from proxy_hook.relay.relay import Relay

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Front:
    """A relay that runs in a thread, and the users' processes behind it: one listener for each."""

    def __init__(self, folder: Path, max_requests: int = 100) -> None:
        self.folder = folder
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "relay.sock"))
        listener.listen(100)
        self.relay = Relay(listener, str(folder), max_requests)
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
        """The path of a user's process, which is made."""
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
        """A connection as nginx makes one, on which a request was sent."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(self.folder / "relay.sock"))
        head = f"{line} HTTP/1.1\r\nX-Pun-Socket: {path}\r\nX-Pun-User: {user}\r\nHost: x\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection

    def end(self) -> None:
        self.relay.leave()
        self.thread.join(60)
        assert not self.thread.is_alive()
        for exchange in tuple(self.relay._exchanges):
            exchange.close()
        for connection in (*self.relay._closed, self.listener, *self.puns.values()):
            connection.close()


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    monkeypatch.setattr(relay_module, "SWEEP_INTERVAL_S", 0.05)
    # Short: a socket's path has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pw-") as folder:
        front = Front(Path(folder), max_requests=8)
        yield front
        front.end()
        assert not front.failed


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def everything(connection: socket.socket) -> bytes:
    said = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            said += part
    connection.close()
    return said


def test_a_request_arrives_without_what_was_for_the_relay(front: Front) -> None:
    path = front.pun("u")
    with front.ask(path, body=b"body") as connection, front.accept("u") as pun:
        assert pun.recv(65_536) == b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody"
        pun.sendall(GOOD)
        assert connection.recv(65_536) == GOOD


def test_large_bodies_pass_both_ways(front: Front) -> None:
    """More than the kernel's buffers hold, while the readers are slow; and nothing is lost or swapped."""
    sent = bytes(range(256)) * 16_384
    path = front.pun("u")
    got = []

    def serve() -> None:
        with front.accept("u") as pun:
            request = b""
            while len(request) < len(sent):
                request += pun.recv(10_000)
            got.append(request)
            pun.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent)

    thread = threading.Thread(target=serve)
    thread.start()
    connection = front.ask(path, line="POST /", body=sent)
    said = b""
    while not said.endswith(sent):
        said += connection.recv(10_000)
    connection.close()
    thread.join(60)
    assert got[0].endswith(sent)
    assert said == b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent


@pytest.mark.parametrize(
    "path",
    ["{run}/hook.sock", "{run}/spawner.sock", "{run}/register.sock", "{run}/puns/../pun.sock", "{run}/puns/./pun.sock",
     "{run}/puns/a/../../hook.sock", "{run}/puns/u/other.sock", "/run/docker.sock", "{run}/puns/u/pun.sock/x", "", "pun.sock"],
)  # fmt: skip
def test_it_connects_to_users_processes_alone(front: Front, path: str) -> None:
    """Whatever nginx says: no other socket of the portal or of the host is reached."""
    named = path.format(run=front.folder)
    reached = None
    if path.startswith("{run}") and path.endswith(".sock"):
        (front.folder / "puns" / "a").mkdir(parents=True)
        place = Path(named).resolve()
        place.parent.mkdir(exist_ok=True)
        reached = socket.socket(socket.AF_UNIX)
        reached.bind(str(place))
        reached.listen()
        reached.setblocking(False)
    assert everything(front.ask(named)) == b""
    if reached:
        with pytest.raises(BlockingIOError):
            reached.accept()
        reached.close()


def test_a_users_share_is_smaller_than_the_whole(front: Front) -> None:
    """A stopped process has a part of the connections; other users have theirs, and so has the user, elsewhere."""
    stopped, other = front.pun("u"), front.pun("v")
    waiting = [front.ask(stopped) for _ in range(2)]
    until(lambda: len(front.relay._open) == 1 and sum(front.relay._open.values()) == 2)
    assert everything(front.ask(stopped)) == b""
    with front.ask(other, "v") as connection, front.accept("v") as pun:
        pun.sendall(GOOD)
        assert connection.recv(65_536) == GOOD
    for connection in waiting:
        connection.close()
    until(lambda: not front.relay._open)
    for _ in waiting:
        front.accept("u").close()
    with front.ask(stopped) as connection, front.accept("u") as pun:
        pun.sendall(GOOD)
        assert connection.recv(65_536) == GOOD


def test_beyond_the_whole_nobody_waits(front: Front) -> None:
    """Connections that say nothing count, too, and end by themselves."""
    silent = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for connection in silent:
        connection.connect(str(front.folder / "relay.sock"))
    until(lambda: len(front.relay._exchanges) == 8)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(front.folder / "relay.sock"))
        assert connection.recv(1) == b""
    for connection in silent:
        connection.close()
    until(lambda: not front.relay._exchanges)


def test_a_client_that_hangs_up_is_noticed(front: Front) -> None:
    """Also while its upload waits for a process that does not read: the process sees the end."""
    path = front.pun("u")
    with front.ask(path) as connection:
        pun = front.accept("u")
        connection.setblocking(False)
        (exchange,) = front.relay._exchanges

        def is_stuck() -> bool:
            with suppress(BlockingIOError):
                connection.send(b"x" * 65_536)
            return bool(exchange._back and exchange._back.unsent)

        until(is_stuck)
    until(lambda: not front.relay._exchanges)
    assert everything(pun).startswith(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nxxx")


def test_a_head_that_does_not_end_is_refused(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is too large, and not when its time is up: it takes no memory meanwhile."""
    monkeypatch.setattr(relay_exchange, "RESPONSE_HEAD_TIMEOUT_S", 10**6)
    connection = front.ask(front.pun("u"))
    with front.accept("u") as pun:
        pun.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: " + b"a" * 8192)
        assert everything(connection) == b""


def test_bytes_beyond_the_length_are_cut(front: Front) -> None:
    """Also those that come later."""
    path = front.pun("u")
    with front.ask(path) as connection, front.accept("u") as pun:
        pun.sendall(GOOD[:-1])
        assert connection.recv(65_536) == GOOD[:-1]
        pun.sendall(b"}evil")
        assert connection.recv(65_536) == b"}"
    with front.ask(path) as connection, front.accept("u") as pun:
        pun.sendall(GOOD + b"evil")
        assert connection.recv(65_536) == GOOD


@pytest.mark.parametrize("constant", ["RESPONSE_HEAD_TIMEOUT_S", "IDLE_TIMEOUT_S", "REQUEST_HEAD_TIMEOUT_S"])
def test_nobody_is_waited_for_for_ever(front: Front, monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    """A head that does not end, an answer that does not come, a request that is not sent."""
    monkeypatch.setattr(relay_exchange, constant, 0.1)
    path = front.pun("u")
    if constant == "REQUEST_HEAD_TIMEOUT_S":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(front.folder / "relay.sock"))
    else:
        connection = front.ask(path)
        pun = front.accept("u")
        if constant == "RESPONSE_HEAD_TIMEOUT_S":
            pun.sendall(b"HTTP/1.1 200 OK\r\n")
    assert everything(connection) == b""
    if constant != "REQUEST_HEAD_TIMEOUT_S":
        pun.close()


def test_a_response_whose_connection_stays_open_ends(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its length; the connection to nginx is closed soon, should nginx not do so."""
    monkeypatch.setattr(relay_exchange, "LINGER_TIMEOUT_S", 0.1)
    connection = front.ask(front.pun("u"))
    with front.accept("u") as pun:
        pun.sendall(GOOD)
        assert everything(connection) == GOOD


def test_an_error_in_an_exchange_ends_that_one_and_is_logged(
    front: Front, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = front.pun("u")
    with monkeypatch.context() as patch:
        patch.setattr(relay_exchange, "_DESTINATION", None)
        assert everything(front.ask(path)) == b""
    assert "an exchange failed" in caplog.text and "AttributeError" in caplog.text
    with front.ask(path) as connection, front.accept("u") as pun:
        pun.sendall(GOOD)
        assert connection.recv(65_536) == GOOD


def test_an_error_of_the_loop_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not go on without its listener; what started it starts it again."""
    monkeypatch.setattr(Relay, "_accept", lambda _: os.close(-1))
    with tempfile.TemporaryDirectory(prefix="pw-") as folder:
        front = Front(Path(folder))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{folder}/relay.sock")
            front.thread.join(60)
        front.end()
    assert isinstance(front.failed[0], OSError)


def test_what_is_logged_is_bounded(
    front: Front, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a minute for each process, with what was wrong and without control characters."""
    caplog.set_level(logging.WARNING)
    path = front.pun("u")
    for _ in range(3):
        connection = front.ask(path)
        with front.accept("u") as pun:
            pun.sendall(b"HTTP/1.1 200 \x1b[2J\r\n\r\n")
            assert everything(connection) == b""
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and path in lines[0] and lines[0].isprintable()
    monkeypatch.setattr(relay_module, "LOG_INTERVAL_S", 0)
    front.relay.complain("x" * 10_000, "y")
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
def shared() -> Iterator[tuple[Front, str]]:
    with tempfile.TemporaryDirectory(prefix="pw-") as folder:
        front = Front(Path(folder))
        yield front, front.pun("u")
        front.end()
        assert not front.failed


@given(PIECES)
@settings(deadline=None)
def test_any_bytes_are_one_response_or_none(shared: tuple[Front, str], pieces: list[bytes]) -> None:
    """However they are cut: nginx gets nothing, or one head that is known with no more bytes than it says."""
    front, path = shared
    connection = front.ask(path)
    with front.accept("u") as pun, suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            pun.sendall(piece)
    said = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            said += part
            head, end, body = said.partition(b"\r\n\r\n")
            if end and len(body) >= int(dict(line.split(b": ") for line in head.split(b"\r\n")[1:])[b"Content-Length"]):
                break
    connection.close()
    if not said:
        return
    head, end, body = said.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first == b"HTTP/1.1 200 OK" and end
    names = [line.split(b": ")[0] for line in lines]
    assert set(names) <= {b"Content-Length", b"Etag"} and len(set(names)) == len(names)
    assert len(body) <= int(dict(line.split(b": ") for line in lines)[b"Content-Length"])
