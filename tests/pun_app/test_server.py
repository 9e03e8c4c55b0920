"""Tests of pun_app/server.py: when a PUN leaves, and what it logs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from waitress import wasyncore

from pun_app import server as module
from pun_app.long_poll import LongPoll
from pun_app.server import RateLimit, Server, account_change
from tests.pun_app.pun import settings

ROOT = Path(__file__).parents[2]
SETTINGS = settings(Path("/run/x"), idle_timeout=1000, max_lifetime=10_000)


class NoWaits(LongPoll):
    """A long poll without requests, for which no turn of the server waits."""

    def expire(self) -> float:
        return 0.01


class Ok:
    """An app that answers every request."""

    def __init__(self) -> None:
        self.long_poll = NoWaits(1000)

    def verify_assertion(self, _header: str | None) -> None:
        return None

    def body_limit(self, _method: str, _path: str) -> int:
        return 0

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


class Account:
    """The user's account. It has changed once a test sets ``change``, and the look at it hangs without ``answers``."""

    def __init__(self) -> None:
        self.change: str | None = None
        self.looks = 0
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self) -> str | None:
        self.looks += 1
        assert self.answers.wait(60)
        return self.change


class Running:
    """A server whose turns, clock and account a test controls, and whose path a client connects to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.now = 1_000_000.0
        self.account = Account()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        self.server = Server(
            Ok(), listener.detach(), SETTINGS, account_change=self.account, clock=lambda: self.now  # type: ignore[arg-type]
        )  # fmt: skip

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep a request in flight: a client that has sent half of it."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)
            client.sendall(b"GET / HTTP/1.1\r\n")
            for _ in range(2):  # One turn accepts the connection, and one reads from it.
                self.server.turn()
            yield

    def after(self, seconds: float) -> bool:
        """Let some seconds pass. Return True if the server then leaves."""
        self.now += seconds
        self.server.turn()
        return self.leaves()

    def leaves(self) -> bool:
        """Return True if the server leaves. Wait for a look at the account to end, unless it hangs."""
        for thread in threading.enumerate():
            if thread.name == "groups" and self.account.answers.is_set():
                thread.join(60)
        return self.server.is_leaving


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(module.signal, "alarm", lambda _: 0)
    running = Running(str(tmp_path / "s"))
    yield running
    running.account.answers.set()
    running.server._server.task_dispatcher.shutdown()
    wasyncore.close_all(running.server._map)


def test_it_stays_while_it_is_young_and_not_idle(running: Running) -> None:
    assert not running.after(0)


def test_it_leaves_when_idle(running: Running) -> None:
    """It leaves idle_timeout after the last request."""
    with running.busy():
        assert not running.after(2000)
    assert not running.after(0)  # This turn reads that the client has hung up.
    assert not running.after(SETTINGS.idle_timeout - 1)
    assert running.after(2)


def test_it_leaves_when_old(running: Running) -> None:
    """It leaves max_lifetime after its start even if it is busy."""
    with running.busy():
        assert not running.after(SETTINGS.max_lifetime - 1)
        assert running.after(2)


def test_a_server_that_leaves_accepts_no_more_connections(running: Running) -> None:
    """The kernel keeps them for the next PUN. A client that was accepted before gets its answer."""
    with socket.socket(socket.AF_UNIX) as before, socket.socket(socket.AF_UNIX) as later:
        before.connect(running.path)
        running.server.turn()
        running.server.leave()
        later.connect(running.path)
        for client in (before, later):
            client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            client.settimeout(0.1)
        answer = b""
        while not answer:
            running.server.turn()
            with suppress(TimeoutError):
                answer = before.recv(100)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(TimeoutError):
            later.recv(100)


def test_it_leaves_when_the_account_has_changed(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """A busy PUN looks at the account, and says in the log why it leaves."""
    running.account.change = "the user no longer has an account"
    with caplog.at_level(logging.INFO), running.busy():
        assert not running.after(0)
        assert running.after(61)
    assert "the user no longer has an account; leaving" in caplog.text


def test_it_checks_the_account_of_a_busy_pun_once_a_minute(running: Running) -> None:
    looks = []
    with running.busy():
        for elapsed in (0, 61, 0, 61):
            assert not running.after(elapsed)
            looks.append(running.account.looks)
    assert looks == [0, 1, 1, 2]


def test_a_directory_service_that_hangs_holds_one_thread(running: Running) -> None:
    """It does not hold another thread for each minute."""
    running.account.answers.clear()
    with running.busy():
        for _ in range(3):
            assert not running.after(61)
    assert running.account.looks == 1
    assert sum(thread.name == "groups" for thread in threading.enumerate()) == 1


def test_the_account_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", module.pwd.getpwuid(os.geteuid()).pw_name)
    assert account_change() is None


def test_other_groups_are_a_change_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text names the new groups, by number if they have no name."""
    monkeypatch.setenv("USER", module.pwd.getpwuid(os.geteuid()).pw_name)
    monkeypatch.setattr(module.os, "getgrouplist", lambda _name, gid: [gid, 54_321])
    change = account_change()
    assert change and "groups have changed" in change and "54321" in change


def test_another_name_is_a_change_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "former-name")
    assert account_change()


def test_a_deleted_account_is_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(module.pwd, "getpwuid", gone)
    assert account_change() == "the user no longer has an account"


def test_the_log_has_a_limit_for_each_minute() -> None:
    """The minute passes even if the wall clock is set back by a day."""
    now = [1000.0]
    limit = RateLimit(lambda: now[0])
    record = logging.makeLogRecord({"created": 1e6})
    assert sum(limit.filter(record) for _ in range(1000)) == RateLimit.MAX_RECORDS_PER_MINUTE
    now[0] += 65
    assert limit.filter(logging.makeLogRecord({"created": 1e6 - 86_400}))


@pytest.mark.parametrize("thread", ["register", "long-poll"])
def test_a_thread_that_fails_ends_the_process(tmp_path: Path, thread: str) -> None:
    """Its traceback is in the log. No thread ends silently."""
    broken = {
        "register": "Registration._register = lambda *_: 1 / 0",
        "long-poll": "Registration._register = lambda *_: threading.Thread(target=lambda: 1 / 0, name='long-poll').start()",
    }[thread]
    program = f"import sys, threading; from pun_app import server; from pun_app.registration import Registration; {broken}; server.serve(int(sys.argv[1]), sys.argv[2], lambda: None)"
    given = msgspec.json.encode(settings(tmp_path)).decode()
    (tmp_path / "assertion.pub").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        done = subprocess.run(
            [sys.executable, "-c", program, str(listener.fileno()), given], pass_fds=[listener.fileno()], check=False,
            env={"HOME": str(tmp_path), "USER": "x", "PATH": "/usr/bin:/bin"}, cwd=ROOT, timeout=60, capture_output=True,
            text=True,
        )  # fmt: skip
    assert done.returncode in (0, -signal.SIGTERM)
    assert f"the thread {thread} failed; leaving" in done.stderr and "ZeroDivisionError" in done.stderr
