"""A registrar over a real socket, for tests of what speaks to one."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy_hook import registrar as module
from proxy_hook.registrar import Registrar
from proxy_hook.routes import RouteTable
from proxy_hook.sessions import Links

USER = pwd.getpwuid(os.geteuid() or pwd.getpwnam("nobody").pw_uid)
"""Whom it takes its callers for: to root's tests it is nobody who asks. Who really asks, tests/system/ sees."""


def as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has no tokens."""
    if os.geteuid() == 0:
        monkeypatch.setattr(module, "_peer_uid", lambda _: USER.pw_uid)


@contextmanager
def real_registrar(path: Path, routes: RouteTable, links: Links | None = None) -> Iterator[None]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    registrar = Registrar(listener, routes, links)
    registrar.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        registrar._pool.shutdown()
        routes.close()
