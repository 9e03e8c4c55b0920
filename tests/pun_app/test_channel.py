"""Tests of pun_app/channel.py in a real waitress on its own socket: waits, bodies, and errors before the app."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from waitress import buffers, wasyncore

from pun_app import channel as module
from pun_app import long_poll, routes
from pun_app import server as server_module
from pun_app.adapters.model import COMPLETED, QUEUED, Job
from pun_app.app import ARRIVED, PARKED_CALL
from pun_app.long_poll import LongPoll, Parked, Wait
from pun_app.server import Server
from tests.pun_app.pun import settings
from tests.system.slurm import wait_for

LARGE = 5 * 1024 * 1024
CLIENT_TIMEOUT_S = 20.0
"""Seconds for an answer that comes at once, or in a second: without it, a test fails before what is stuck goes on."""


class Scheduler:
    """A scheduler where every job is ``now``."""

    def __init__(self) -> None:
        self.now = Job("1", status=QUEUED)

    def poll(self, job_ids: set[str]) -> tuple[dict[str, Job], float]:
        return dict.fromkeys(job_ids, self.now), 0.0

    def last_look(self, _job_id: str, _known: Any) -> tuple[Job, float]:
        return self.now, 0.0


class App:
    """An app with a waiting request at /wait. Elsewhere it returns the length of the body once ``go`` is set."""

    def __init__(self) -> None:
        self.long_poll = LongPoll(1000)
        self.scheduler: Any = Scheduler()
        self.go = threading.Event()
        self.go.set()
        self.busy = self.most = 0
        self.lock = threading.Lock()
        self.calls: list[str] = []
        self.waits: list[Wait] = []
        self.assertions: list[str | None] = []

    def waiting(self) -> int:
        """Return how many requests wait for the job."""
        return sum(not wait.is_over for wait in self.waits)

    def verify_assertion(self, header: str | None) -> None:
        self.assertions.append(header)

    def body_limit(self, _method: str, path: str) -> int:
        return LARGE if path == "/large" else 1000

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.calls.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/wait":
            wait = environ.get(PARKED_CALL)
            if wait is None:
                until = environ[ARRIVED] + int(environ["QUERY_STRING"] or 300)
                parked = Parked(
                    self.long_poll.wait_for(self.scheduler, "1", lambda job: job.status == COMPLETED, until)
                )
                parked.call = parked.wait
                assert isinstance(parked.wait, Wait)
                self.waits.append(parked.wait)
                raise parked
            answer = wait.job()[0].status.encode()
        else:
            with self.lock:
                self.busy += 1
                self.most = max(self.most, self.busy)
            assert self.go.wait(60)
            answer = str(len(environ["wsgi.input"].read())).encode()
            with self.lock:
                self.busy -= 1
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]


class Running:
    """A server in a thread of this process, with methods to send requests to it."""

    def __init__(self, folder: Path) -> None:
        self.app = App()
        self.path = str(folder / "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        given = settings(Path("/run/x"), threads=4)
        self.server = Server(self.app, listener.detach(), given)  # type: ignore[arg-type]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while not self._over.is_set():
            self.server.turn()

    def stop(self) -> None:
        self.app.go.set()
        self._over.set()
        self.server._server.pull_trigger()
        self._thread.join()
        self.server._server.task_dispatcher.shutdown()
        wasyncore.close_all(self.server._map)

    def threads(self) -> int:
        """Return how many threads serve requests."""
        return len(self.server._server.task_dispatcher.threads)

    def begun(self) -> int:
        """Return how many requests have a thread."""
        return len(self.server._server.in_threads)

    def connect(self, head: str, body: bytes = b"") -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(CLIENT_TIMEOUT_S)
        connection.connect(self.path)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        send(connection, f"{head} HTTP/1.1\r\nConnection: close\r\n{length}\r\n".encode() + body)
        return connection

    def ask(self, head: str, body: bytes = b"") -> tuple[int, str, bytes]:
        return answer_of(self.connect(head, body))


def send(connection: socket.socket, data: bytes) -> None:
    """Send the data, or the part that the server accepts before it rejects the request."""
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def answer_of(connection: socket.socket) -> tuple[int, str, bytes]:
    """Return the status, the head and the body."""
    answer = b""
    try:
        while part := connection.recv(65_536):
            answer += part
    except ConnectionResetError:
        pass  # It was closed before all that was sent had been read.
    except TimeoutError:
        pytest.fail(f"no answer within {CLIENT_TIMEOUT_S:.0f} s")
    finally:
        connection.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[9:12]), head.decode(), body


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(long_poll, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(server_module.signal, "alarm", lambda _: 0)
    running = Running(tmp_path)
    yield running
    running.app.long_poll.leave()
    running.stop()


def test_requests_that_wait_have_no_thread(running: Running) -> None:
    """More requests than threads wait, others are answered, and each waiting request gets one answer from a second call."""
    connections = [running.connect("GET /wait") for _ in range(50)]
    wait_for("all to wait", lambda: running.app.waiting() == 50)
    assert running.threads() == 4
    assert running.ask("GET /quick")[2] == b"0"
    running.app.scheduler.now = Job("1", status=COMPLETED)
    assert {answer_of(connection)[::2] for connection in connections} == {(200, b"completed")}
    assert running.app.calls.count("/wait") == 100
    assert running.app.waiting() == 0


def test_a_wait_whose_time_is_up_is_answered(running: Running) -> None:
    assert running.ask("GET /wait?1")[::2] == (200, b"queued")


def test_a_client_that_hangs_up_waits_no_longer(running: Running) -> None:
    """Its place is free at once, and the app is not called again."""
    connection = running.connect("GET /wait")
    wait_for("it to wait", lambda: running.app.waiting() == 1)
    connection.close()
    wait_for("its wait to end", lambda: running.app.waiting() == 0)
    assert running.ask("GET /quick")[0] == 200
    assert running.app.calls.count("/wait") == 1


def test_a_pun_that_leaves_answers_the_waiting_requests(running: Running) -> None:
    connections = [running.connect("GET /wait") for _ in range(5)]
    wait_for("all to wait", lambda: running.app.waiting() == 5)
    running.server.leave()
    assert {answer_of(connection)[::2] for connection in connections} == {(200, b"queued")}


@pytest.mark.parametrize("way", ["length", "chunked"])
def test_the_limit_of_a_body_depends_on_its_address(running: Running, way: str) -> None:
    """A larger body is a 413 in the API's form, with or without Content-Length, and the app is not called."""

    def post(path: str, size: int) -> tuple[int, str, bytes]:
        if way == "length":
            return running.ask(f"POST {path}", b"x" * size)
        connection = running.connect(f"POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: x")
        send(connection, f"{size:x}\r\n".encode() + b"x" * size + b"\r\n0\r\n\r\n")
        return answer_of(connection)

    assert post("/small", 1000)[::2] == (200, b"1000")
    assert post("/large", LARGE)[::2] == (200, str(LARGE).encode())
    before = len(running.app.calls)
    for path, limit in (("/small", 1000), ("/large", LARGE)):
        status, head, body = post(path, limit + 1)
        assert (status, json.loads(body)["error"]) == (413, "payload_too_large")
        assert f"larger than {limit} bytes" in json.loads(body)["message"] and "application/json" in head
    assert len(running.app.calls) == before


def test_at_most_two_large_bodies_are_held_at_once(running: Running) -> None:
    """Further large bodies are read after one was answered or its client hung up. Small ones are read at once."""
    body = b"x" * (routes.BODY_LIMIT + 1)
    slow = running.connect("POST /large HTTP/1.1\r\nContent-Length: 2000000\r\nX: x", b"")
    slow.sendall(b"x")
    running.app.go.clear()
    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(running.ask, "POST /large", body) for _ in range(6)]
        wait_for("one to be served", lambda: running.app.busy == module.MAX_LARGE_BODIES - 1)
        small = running.connect("POST /small", b"x")
        wait_for("the small one to be served", lambda: running.app.busy == module.MAX_LARGE_BODIES)
        slow.close()
        wait_for("another to be served", lambda: running.app.busy == module.MAX_LARGE_BODIES + 1)
        running.app.go.set()
        assert {other.result(60)[::2] for other in others} == {(200, str(len(body)).encode())}
        assert answer_of(small)[2] == b"1"
    assert running.app.most == module.MAX_LARGE_BODIES + 1


def test_a_body_that_cannot_be_stored_is_503(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk of temporary files is a 503 that says so, and the next request is served."""

    def full() -> None:
        raise OSError(28, os.strerror(28))

    whole: Callable[..., Any] = buffers.TempfileBasedBuffer.newfile
    monkeypatch.setattr(buffers.TempfileBasedBuffer, "newfile", lambda _self: full())
    status, head, body = running.ask("POST /large", b"x" * 2_000_000)
    assert status == 503 and "Retry-After: 10" in head
    assert "No space left" in json.loads(body)["message"]
    monkeypatch.setattr(buffers.TempfileBasedBuffer, "newfile", whole)
    for _ in range(module.MAX_LARGE_BODIES + 1):
        assert running.ask("POST /large", b"x" * 2_000_000)[0] == 200


@pytest.mark.parametrize(
    ("request_line", "status", "error"),
    [
        (f"GET /{'x' * 100_000}", 431, "headers_too_large"),
        ("GET /quick HTTP/1.1\r\nno colon", 400, "bad_request"),
        ("POST /small HTTP/1.1\r\nTransfer-Encoding: gzip", 501, "not_implemented"),
    ],
    ids=["large", "broken", "encoding"],
)
def test_an_error_before_the_app_has_the_apis_form(
    running: Running, request_line: str, status: int, error: str
) -> None:
    answered, _, body = running.ask(request_line)
    assert (answered, json.loads(body)["error"], set(json.loads(body))) == (status, error, {"error", "message"})
    assert running.app.calls == []


def late(monkeypatch: pytest.MonkeyPatch, seconds: float, threads: int = 0) -> None:
    """Make requests late after some seconds and slow at once, with a number of extra threads."""
    monkeypatch.setattr(module, "time_limit", lambda _method, _path: seconds)
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    monkeypatch.setattr(server_module, "SLOW_S", 0.0)
    monkeypatch.setattr(server_module, "MAX_EXTRA_THREADS", threads)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_is_stuck_is_answered_in_time(
    running: Running, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It gets one answer, whatever its thread returns later. The answer to a change says that the outcome is not known."""
    late(monkeypatch, 0.5)
    running.app.go.clear()
    status, head, body = running.ask(f"{method} /stuck")
    assert (status, json.loads(body)["error"]) == (503, "service_unavailable")
    assert "Retry-After: 10" in head and f"Content-Length: {len(body)}" in head
    assert ("not known whether" in json.loads(body)["message"]) == (method == "POST")
    running.app.go.set()
    wait_for("the thread to be free", lambda: running.begun() == 0)
    assert running.ask("GET /quick")[::2] == (200, b"0")


def test_a_late_page_is_answered_with_a_page(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    late(monkeypatch, 0.5)
    running.app.go.clear()
    status, head, body = running.ask("GET /settings/api_tokens")
    assert status == 503 and "text/html" in head and b"took too long" in body
    assert b".." not in body


def test_a_request_that_waits_too_long_for_a_thread_is_not_begun(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets an error that says so, and the request is not executed later."""
    late(monkeypatch, 1.0)
    running.app.go.clear()
    stuck = [running.connect("POST /stuck") for _ in range(4)]
    wait_for("all threads to be stuck", lambda: running.app.busy == 4, CLIENT_TIMEOUT_S)
    status, _, body = running.ask("POST /queued")
    assert (status, "not begun" in json.loads(body)["message"]) == (503, True)
    running.app.go.set()
    assert {answer_of(connection)[0] for connection in stuck} == {503}
    assert running.ask("GET /quick")[0] == 200
    assert "/queued" not in running.app.calls


def test_requests_that_are_slow_leave_threads_to_others(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other requests are answered in the meantime, and afterwards the number of threads is the same as before."""
    late(monkeypatch, 100.0, threads=8)
    running.app.go.clear()
    stuck = [running.connect("POST /stuck") for _ in range(6)]
    wait_for("six to be stuck", lambda: running.app.busy == 6, CLIENT_TIMEOUT_S)
    running.app.scheduler.now = Job("1", status=COMPLETED)
    assert running.ask("GET /wait")[::2] == (200, b"completed")
    running.app.go.set()
    assert {answer_of(connection)[0] for connection in stuck} == {200}
    wait_for("four threads", lambda: running.threads() == 4)


def test_a_client_that_hangs_up_before_the_late_answer(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on after the client has hung up."""
    late(monkeypatch, 0.5)
    running.app.go.clear()
    connection = running.connect("POST /stuck")
    wait_for("it to be begun", lambda: running.app.busy == 1)
    connection.close()
    running.app.go.set()
    wait_for("its end", lambda: running.begun() == 0)
    monkeypatch.setattr(module, "time_limit", lambda _method, _path: 100.0)
    assert running.ask("GET /quick")[0] == 200


def test_the_assertion_is_verified_when_the_head_has_been_read(running: Running) -> None:
    """The assertion may have expired by the time a thread is free."""
    connection = running.connect("POST /small HTTP/1.1\r\nX-Pun-Assertion: signed\r\nContent-Length: 5\r\nX: x")
    wait_for("the head to be read", lambda: running.app.assertions == ["signed"], CLIENT_TIMEOUT_S)
    assert running.app.calls == []
    connection.sendall(b"12345")
    assert answer_of(connection)[::2] == (200, b"5")
    assert running.app.assertions == ["signed"]
