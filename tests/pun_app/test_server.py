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
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pun_app import server as module
from pun_app.long_poll import LongPoll
from pun_app.server import RateLimit, Server
from tests.pun_app.pun import settings

ROOT = Path(__file__).parents[2]
SETTINGS = settings(Path("/run/x"), idle_timeout=1000, max_lifetime=10_000)


class Ok:
    """An app that answers every request."""

    def __init__(self) -> None:
        self.long_poll = LongPoll(1000)

    def verify_assertion(self, _header: str | None) -> None:
        return None

    def body_limit(self, _method: str, _path: str) -> int:
        return 0

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def clock() -> list[float]:
    """The server's clock, in seconds; a test sets its only element."""
    return [1_000_000.0]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> Iterator[Server]:
    monkeypatch.setattr(module.signal, "alarm", lambda _: 0)
    monkeypatch.setenv("USER", module.pwd.getpwuid(os.geteuid()).pw_name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    server = Server(Ok(), listener.detach(), SETTINGS, clock=lambda: clock[0])  # type: ignore[arg-type]
    yield server
    server._server.task_dispatcher.shutdown()
    server._server.close()


def test_it_stays_while_it_is_young_and_not_idle(server: Server) -> None:
    server._consider()
    assert not server._leaving


@pytest.mark.parametrize(("is_busy", "seconds"), [(False, 1001), (True, 10_001)], ids=["idle", "old"])
def test_it_leaves_when_idle_or_old(server: Server, clock: list[float], is_busy: bool, seconds: int) -> None:
    """It leaves idle_timeout after the last request, and max_lifetime after its start even if it is busy."""
    if is_busy:
        server._server.active_channels[0] = object()
    clock[0] += seconds - 2
    server._consider()
    assert not server._leaving
    clock[0] += 2
    server._consider()
    server._server.active_channels.clear()
    assert server._leaving
    assert not server._server.readable()  # It accepts no more connections. The kernel keeps them for the next PUN.


def test_it_leaves_when_the_directory_gives_its_user_other_groups(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server._check_account()
    assert not server._leaving
    monkeypatch.setattr(module.os, "getgrouplist", lambda _name, gid: [gid, 54_321])
    server._check_account()
    assert server._leaving


def test_it_leaves_when_its_user_is_gone_or_renamed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "former-name")
    server._check_account()
    assert server._leaving
    server._leaving = False

    def gone(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(module.pwd, "getpwuid", gone)
    server._check_account()
    assert server._leaving


def test_it_checks_the_groups_of_a_busy_pun_once_a_minute(
    server: Server, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []
    monkeypatch.setattr(server, "_check_account", lambda: checked.append(True))
    server._server.active_channels[0] = object()
    for elapsed in (0, 61, 0, 61):
        clock[0] += elapsed
        server._consider()
        for thread in module.threading.enumerate():
            if thread.name == "groups":
                thread.join()
    server._server.active_channels.clear()
    assert checked == [True, True]


def test_a_directory_service_that_hangs_holds_one_thread(
    server: Server, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not hold another thread for each minute."""
    begun: list[bool] = []
    go = threading.Event()

    def hang() -> None:
        begun.append(True)
        assert go.wait(60)

    monkeypatch.setattr(server, "_check_account", hang)
    server._server.active_channels[0] = object()
    for _ in range(3):
        clock[0] += 61
        server._consider()
    server._server.active_channels.clear()
    go.set()
    assert server._groups
    server._groups.join()
    assert begun == [True]


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
