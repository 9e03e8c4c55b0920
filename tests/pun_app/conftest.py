"""Fixtures of the tests of pun_app: one user's app in this process, and the registrar behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_hook.token_routes import RouteTable
from pun_app.adapters.local.queue import DONE, LocalJob, LocalQueue
from tests.proxy_hook.local_registrar import local_registrar
from tests.pun_app.pun import Pun


@pytest.fixture
def pun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registrar: RouteTable) -> Pun:
    """Return one user's app, with the registrar behind it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return Pun(tmp_path)


@pytest.fixture
def registrar(tmp_path: Path) -> Iterator[RouteTable]:
    """The front's route table behind a real registrar."""
    (tmp_path / "state").mkdir()
    routes = RouteTable.in_folder(tmp_path / "state")
    with local_registrar(tmp_path / "register.sock", routes):
        yield routes


@pytest.fixture
def listed(pun: Pun, tmp_path: Path) -> list[str]:
    """Twelve jobs; their ids, the latest first, which is not the order of their digits."""
    queue = LocalQueue(tmp_path / ".local" / "share" / "punway" / "local" / "box")
    now = int(time.time())
    for _ in range(12):
        queue.add(
            "#!/bin/sh\n",
            lambda number: LocalJob(
                number, "x", "/", "o", "e", None, DONE, 1, 2, now - 5, outcome="succeeded", exit_code=0
            ),
        )
    return [str(number) for number in range(12, 0, -1)]
