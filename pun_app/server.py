"""The main module of a PUN: waitress on the inherited socket, until the PUN is idle. All of it runs as the user.

The listener belongs to the spawner. When this process leaves, it stops accepting, finishes the requests that it has
accepted, and ends. Later connections wait in the kernel for the next PUN.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from setproctitle import getproctitle, setproctitle
from waitress import wasyncore
from waitress.server import UnixWSGIServer, create_server

from pun_app.access import Access
from pun_app.app import App
from pun_app.channel import equip
from pun_app.clusters.load import ClusterFolder
from pun_app.long_poll import MAX_WAITING
from pun_app.pages.auth import Pages
from pun_app.registration import Registration
from pun_app.routes import PAGES
from pun_app.settings import Settings, settings_from
from tokens.assertion import Verifier
from tokens.lifetime import Policy
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarClient
from tokens.store import TokenStore

GROUPS_CHECK_INTERVAL_S = 60.0
SLOW_S = 2.0
"""Time in a thread after which a request counts as slow, and the server starts another thread."""
MAX_EXTRA_THREADS = 16
"""Maximum number of extra threads while requests are slow. A request is slow because a home or a cluster hangs."""
MAX_LEAVE_S = 130
"""Time for the requests in flight when this process leaves: longer than nginx waits for an answer."""

log = logging.getLogger("punway.pun")

# The only call at import. setproctitle finds the place of the title by the first environment, and a forked PUN has
# replaced that one before it sets its title.
getproctitle()


def serve(listener: int, settings_text: str, on_ready: Callable[[], None]) -> None:
    """Serve on a listening descriptor until it is time to leave. ``on_ready`` is called once the server is ready."""
    # Before any thread starts. A peer that hangs up must not end this process. subprocess restores the signal in its
    # children.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    settings = settings_from(settings_text)
    user = pwd.getpwuid(os.geteuid()).pw_name
    _log_to_stderr(user)
    threading.excepthook = leave_on_failure
    setproctitle(f"punway pun: {user}")
    store = TokenStore(os.environ["HOME"])
    access = Access(Verifier(Path(settings.run_dir) / "assertion.pub"), store)
    registrar = RegistrarClient(Path(settings.run_dir) / "register.sock")
    longest = None if settings.token_longest is None else timedelta(seconds=settings.token_longest)
    manager = TokenManager(
        TokenStore(store.home), registrar, Policy(longest, settings.token_never, settings.token_scopes)
    )
    app = App(access, ClusterFolder(Path(settings.clusters)), Pages(PAGES, access, manager, settings), settings)
    registration = Registration(manager, Path(settings.run_dir) / "assertion.pub")
    registration.consider()
    server = Server(app, listener, settings, registration.consider)
    on_ready()
    server.run()


class RateLimit(logging.Filter):
    """A filter that drops log records above a rate, so that no user's PUN fills the portal's log."""

    MAX_RECORDS_PER_MINUTE = 200

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._minute, self._count = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        # Not by the record's own time: if the wall clock were set back, the log would be silent until it caught up.
        if (now := self._clock()) > self._minute + 60:
            self._minute, self._count = now, 0
        self._count += 1
        return self._count <= self.MAX_RECORDS_PER_MINUTE


def _log_to_stderr(user: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RateLimit())
    logging.basicConfig(
        handlers=[handler], level=logging.INFO, format=f"punway pun {user}: %(levelname)s %(message)s", force=True
    )
    logging.getLogger("waitress").setLevel(logging.ERROR)


def leave_on_failure(failure: threading.ExceptHookArgs) -> None:
    """Log the error of a failed thread, and make this process leave. The next request starts a new PUN.

    A PUN without one of its threads would run for hours, and nobody would notice what it no longer does.
    """
    if failure.exc_type is SystemExit or failure.exc_value is None:
        return
    name = failure.thread.name if failure.thread else "?"
    log.critical("the thread %s failed; leaving", name, exc_info=failure.exc_value)
    os.kill(os.getpid(), signal.SIGTERM)


def account_change() -> str | None:
    """Return how the user's account or groups have changed since this process started, or None."""
    try:
        entry = pwd.getpwuid(os.geteuid())
        current = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
    except KeyError:
        return "the user no longer has an account"
    if current != {os.getegid(), *os.getgroups()} or entry.pw_name != os.environ["USER"]:
        return f"the user's account or groups have changed (now: {_names(current)})"
    return None


class Server:
    """A waitress server, which leaves when it is idle or old, or when its user's account has changed.

    ``each_turn`` is called about once a second. ``account_change`` is called in a thread of its own, because the
    directory service may be slow. ``clock`` returns seconds of the monotonic clock. ``is_leaving`` is true once the
    server accepts no more connections.
    """

    def __init__(
        self,
        app: App,
        listener: int,
        settings: Settings,
        each_turn: Callable[[], None] = lambda: None,
        account_change: Callable[[], str | None] = account_change,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._account_change = account_change
        self._settings = settings
        self._each_turn = each_turn
        self._map: Any = {}  # descriptor → waitress's dispatcher
        self.is_leaving = False
        self._born = self._busy = clock()
        self._groups_checked = self._born
        self._groups: threading.Thread | None = None
        server = create_server(
            app,
            map=self._map,
            sockets=[socket.socket(fileno=listener)],
            threads=settings.threads,
            ident="",
            channel_timeout=120,
            # nginx accepts 64 kB from a client and adds the assertion.
            max_request_header_size=80 * 1024,
            # A larger body goes to a temporary file while it is read.
            inbuf_overflow=256 * 1024,
            # A list of 10,000 jobs has 4 MB and must not go through a file.
            outbuf_overflow=32 * 1024 * 1024,
            connection_limit=MAX_WAITING + 200,
            # With lookahead, the server notices that the client of a waiting request has hung up.
            channel_request_lookahead=1,
            asyncore_use_poll=True,
        )
        assert isinstance(server, UnixWSGIServer)
        self._server = server
        self._long_poll = app.long_poll
        self._threads, self._next_look = settings.threads, 0.0
        equip(server, app.body_limit, app.verify_assertion)

    def run(self) -> None:
        """Serve until it is time to leave and no request is in flight."""
        signal.signal(signal.SIGTERM, self.leave)
        # The spawner decides when to leave, not a terminal. SIG_IGN would be inherited by commands and jobs.
        signal.signal(signal.SIGINT, lambda *_: None)
        while not (self.is_leaving and not self._server.active_channels):
            self.turn()

    def turn(self) -> None:
        """Wait for connections for a second at most, and serve those that are ready to be read or written."""
        wasyncore.loop(timeout=self._long_poll.expire(), map=self._map, use_poll=True, count=1)
        self._consider()
        self._each_turn()
        if self.is_leaving:
            self._long_poll.leave()
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 0.5
            self._look_at_requests()

    def _look_at_requests(self) -> None:
        """Answer the requests whose time is up, and adjust the number of threads to the slow requests."""
        now = time.monotonic()
        server: Any = self._server
        for channel in list(server.active_channels.values()):
            channel.expire(now)
        began = list(server.in_threads.values())
        threads = self._settings.threads + min(MAX_EXTRA_THREADS, sum(now - moment > SLOW_S for moment in began))
        if threads != self._threads:
            self._threads = threads
            self._server.task_dispatcher.set_thread_count(threads)

    def leave(self, *_: object) -> None:
        """Accept no more connections. ``run`` returns once the requests in flight are answered. A signal handler."""
        if not self.is_leaving:
            # The default action of SIGALRM ends the process, whatever its threads are stuck in.
            signal.alarm(MAX_LEAVE_S)
        self.is_leaving = True
        self._server.accepting = False
        self._server.pull_trigger()

    def _consider(self) -> None:
        """Leave if the PUN is idle or old, and check the account of a busy PUN once a minute."""
        now = self._clock()
        if self._server.active_channels:
            self._busy = now
            is_due = now > self._groups_checked + GROUPS_CHECK_INTERVAL_S
            # A directory service that hangs must not hold a thread for each minute.
            if is_due and not self.is_leaving and not (self._groups and self._groups.is_alive()):
                self._groups_checked = now
                self._groups = threading.Thread(target=self._check_account, name="groups", daemon=True)
                self._groups.start()
        if now > self._busy + self._settings.idle_timeout or now > self._born + self._settings.max_lifetime:
            self.leave()

    def _check_account(self) -> None:
        """Leave if the user's account has changed. The next PUN has the new groups."""
        if change := self._account_change():
            log.info("%s; leaving", change)
            self.leave()


def _names(gids: set[int]) -> str:
    names = []
    for gid in sorted(gids):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return ", ".join(names)
