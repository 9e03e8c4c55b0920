"""A registrar over a real socket, for tests of what speaks to one."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy_hook import registrar as module
from proxy_hook.accounts import EligibleAccounts
from proxy_hook.browser.sessions import Links
from proxy_hook.config import Limits
from proxy_hook.rate_limits import RateLimits
from proxy_hook.registrar import Registrar
from proxy_hook.token_routes import RouteTable
from spawner.eligible import Rules

USER = pwd.getpwuid(os.geteuid() or pwd.getpwnam("nobody").pw_uid)
"""Whom it takes its callers for: to root's tests it is nobody who asks. Who really asks, tests/system/ sees."""
RULES = Rules(min_uid=1, user_regex=".*", disabled_shells=[], deny_users=[], allow_groups=[], only_uid=None)


def as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has no tokens."""
    if os.geteuid() == 0:
        monkeypatch.setattr(module, "_peer_uid", lambda _: USER.pw_uid)


@contextmanager
def real_registrar(
    path: Path, routes: RouteTable, links: Links | None = None, rules: Rules = RULES
) -> Iterator[Registrar]:
    """A registrar in an event loop of its own, that ends with the block and not before."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    accounts = EligibleAccounts(rules)
    registrar = Registrar(routes, accounts, RateLimits(Limits()), links)
    loop = asyncio.new_event_loop()
    served = loop.create_task(registrar.serve(listener))

    def run() -> None:
        try:
            loop.run_until_complete(served)
        except asyncio.CancelledError:
            pass  # This is how the block ends it.

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield registrar
        assert not served.done(), "the registrar ended by itself"
    finally:
        loop.call_soon_threadsafe(served.cancel)
        thread.join()
        listener.close()
        loop.close()
        accounts.close()
        routes.close()
