"""A registrar on a real socket, for tests of its clients."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy_hook.accounts import EligibleAccounts
from proxy_hook.browser.sessions import Links
from proxy_hook.config_keys import Limits
from proxy_hook.rate_limits import MAX_REGISTRAR_REQUESTS_PER_MINUTE, RateLimits
from proxy_hook.registrar import Registrar
from proxy_hook.token_routes import RouteTable
from spawner.eligible import Rules

USER = pwd.getpwuid(os.geteuid() or pwd.getpwnam("nobody").pw_uid)
"""The user that all clients of the registrar are taken for.

Root has no tokens, so tests that run as root use nobody. tests/system/ tests the real identification.
"""
RULES = Rules(min_uid=1, user_regex=".*", disabled_shells=[], deny_users=[], allow_groups=[], only_uid=None)


@contextmanager
def local_registrar(
    path: Path,
    routes: RouteTable,
    links: Links | None = None,
    rules: Rules = RULES,
    *,
    uid_of: Callable[[socket.socket], int] = lambda _: USER.pw_uid,
    requests_per_minute: int = MAX_REGISTRAR_REQUESTS_PER_MINUTE,
    **options: Any,
) -> Iterator[Registrar]:
    """Run a registrar in an event loop of its own until the block ends. ``options`` are those of Registrar."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    accounts = EligibleAccounts(rules)
    limits = RateLimits(Limits(), registrar_requests=requests_per_minute)
    registrar = Registrar(routes, accounts, limits, links, uid_of=uid_of, **options)
    loop = asyncio.new_event_loop()
    served = loop.create_task(registrar.serve(listener))

    def run() -> None:
        try:
            loop.run_until_complete(served)
        except asyncio.CancelledError:
            pass  # The end of the block cancels the task.

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield registrar
        assert not served.done(), "the registrar ended unexpectedly"
    finally:
        loop.call_soon_threadsafe(served.cancel)
        thread.join()
        listener.close()
        loop.close()
        accounts.close()
        routes.close()
