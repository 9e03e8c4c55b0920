"""pun_app/server.py: when a PUN leaves."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pun_app import server as module
from pun_app.server import Bounded, Server
from pun_app.waiting import Waiters
from tests.pun_app.pun import settings

SETTINGS = settings(Path("/run/x"), idle_timeout=1000, max_lifetime=10_000)


class Ok:
    """An app that has an answer."""

    def __init__(self) -> None:
        self.waiters = Waiters()

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module.signal, "alarm", lambda _: 0)
    monkeypatch.setenv("USER", module.pwd.getpwuid(os.geteuid()).pw_name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    server = Server(Ok(), listener.detach(), SETTINGS)  # type: ignore[arg-type]
    yield server
    server._server.task_dispatcher.shutdown()
    server._server.close()


def test_it_stays_while_it_is_young_and_not_idle(server: Server) -> None:
    server._consider()
    assert not server._leaving


@pytest.mark.parametrize("what", ["_busy", "_born"])
def test_it_leaves_when_idle_or_old(server: Server, what: str) -> None:
    """idle_timeout after the last request, max_lifetime after its birth."""
    setattr(server, what, getattr(server, what) - 20_000)
    server._consider()
    assert server._leaving
    assert not server._server.readable()  # it accepts nothing more; the kernel keeps what comes


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


def test_it_checks_the_groups_of_a_busy_pun_once_a_minute(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bool] = []
    monkeypatch.setattr(server, "_check_account", lambda: checked.append(True))
    server._server.active_channels[0] = object()
    for elapsed in (0, 61, 0, 61):
        server._groups_checked -= elapsed
        server._consider()
        for thread in module.threading.enumerate():
            if thread.name == "groups":
                thread.join()
    server._server.active_channels.clear()
    assert checked == [True, True]


def test_the_log_takes_so_much_a_minute() -> None:
    bounded = Bounded()
    record = logging.makeLogRecord({"created": 1000.0})
    assert sum(bounded.filter(record) for _ in range(1000)) == Bounded.A_MINUTE
    assert bounded.filter(logging.makeLogRecord({"created": 1061.0}))


def test_who_waits_has_a_thread_beside_the_others(server: Server) -> None:
    """As many more as wait, and as many as before when they have been answered; and all are when it leaves."""
    dispatcher = server._server.task_dispatcher
    before = len(dispatcher.threads) - dispatcher.stop_count
    server._waiters.resized(5)
    assert len(dispatcher.threads) - dispatcher.stop_count == before + 5
    server._waiters.resized(0)
    assert len(dispatcher.threads) - dispatcher.stop_count == before
    server._leave()
    assert server._waiters._leaving.is_set()
