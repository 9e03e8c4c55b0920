"""waitress on the inherited socket; leaves when idle. Runs as the user from its first line.

The listener belongs to the spawner. When this process leaves, it stops accepting, finishes what it has
accepted, and ends; connections that come meanwhile wait in the kernel for the next one.
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

GROUPS_CHECKED_EVERY = 60.0
SLOW_S = 2.0
"""Seconds in a thread after which a request counts as slow: another thread takes the place of this one."""
MAX_SLOW = 16
"""Threads more than usual while requests are slow. What hangs, a home or a cluster, is slow; what computes is not."""
LEAVE_TIME = 130
"""Seconds for what is in flight when this process leaves: longer than nginx waits for an answer."""

log = logging.getLogger("punway.pun")

# The one call at import: setproctitle finds a title's place by the first environment, and a PUN that is
# forked has replaced that one before it names itself.
getproctitle()


def serve(listener: int, settings_text: str, serving: Callable[[], None]) -> None:
    """Serve on a listening descriptor until it is time to leave. ``serving`` is called once it is served."""
    # Before any thread starts: a peer that hangs up must not end this process. subprocess sets it back in its children.
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
    serving()
    server.run()


class Bounded(logging.Filter):
    """Lets so many records a minute through: no user's PUN fills the portal's log."""

    A_MINUTE = 200

    def __init__(self) -> None:
        super().__init__()
        self._minute, self._count = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        # Not by the record's own time: a clock that is set back would silence the log until it is there again.
        if (now := time.monotonic()) > self._minute + 60:
            self._minute, self._count = now, 0
        self._count += 1
        return self._count <= self.A_MINUTE


def _log_to_stderr(user: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Bounded())
    logging.basicConfig(
        handlers=[handler], level=logging.INFO, format=f"punway pun {user}: %(levelname)s %(message)s", force=True
    )
    logging.getLogger("waitress").setLevel(logging.ERROR)


def leave_on_failure(failure: threading.ExceptHookArgs) -> None:
    """Log what ended a thread, and have this process leave. The next request starts another one, which is whole.

    A PUN without one of its threads would go on for hours, and nobody would know what it no longer does.
    """
    if failure.exc_type is SystemExit or failure.exc_value is None:
        return
    name = failure.thread.name if failure.thread else "?"
    log.critical("the thread %s failed; leaving", name, exc_info=failure.exc_value)
    os.kill(os.getpid(), signal.SIGTERM)


class Server:
    """One waitress server and the question when it should leave. ``each_turn`` is called about once a second."""

    def __init__(
        self, app: App, listener: int, settings: Settings, each_turn: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._each_turn = each_turn
        self._map: Any = {}  # descriptor → waitress's dispatcher
        self._leaving = False
        self._born = self._busy = time.monotonic()
        self._groups_checked = self._born
        self._groups: threading.Thread | None = None
        server = create_server(
            app,
            map=self._map,
            sockets=[socket.socket(fileno=listener)],
            threads=settings.threads,
            ident="",
            channel_timeout=120,
            # nginx takes 64 kB from a client, and adds the assertion.
            max_request_header_size=80 * 1024,
            # A larger body is kept in a temporary file while it is read.
            inbuf_overflow=256 * 1024,
            # A list of 10,000 jobs is 4 MB: not by way of a file.
            outbuf_overflow=32 * 1024 * 1024,
            connection_limit=MAX_WAITING + 200,
            # So that it is seen when the client of a request that waits hangs up.
            channel_request_lookahead=1,
            asyncore_use_poll=True,
        )
        assert isinstance(server, UnixWSGIServer)
        self._server = server
        self._long_poll = app.long_poll
        self._threads, self._next_look = settings.threads, 0.0
        equip(server, app.body_limit, app.arrived)

    def run(self) -> None:
        """Serve; returns when nothing is in flight and it is time to leave."""
        signal.signal(signal.SIGTERM, self._leave)
        # The spawner tells when to leave, a terminal does not. Not SIG_IGN, which commands and jobs would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)
        while not (self._leaving and not self._server.active_channels):
            self.turn()

    def turn(self) -> None:
        """Serve what there is to read and write, and wait for it for a second at most."""
        wasyncore.loop(timeout=self._long_poll.expire(), map=self._map, use_poll=True, count=1)
        self._consider()
        self._each_turn()
        if self._leaving:
            self._long_poll.leave()
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 0.5
            self._look_at_requests()

    def _look_at_requests(self) -> None:
        """Answer those whose time is up, and have threads enough for those that do not hang."""
        now = time.monotonic()
        server: Any = self._server
        for channel in list(server.active_channels.values()):
            channel.expire(now)
        began = list(server.in_threads.values())
        threads = self._settings.threads + min(MAX_SLOW, sum(now - moment > SLOW_S for moment in began))
        if threads != self._threads:
            self._threads = threads
            self._server.task_dispatcher.set_thread_count(threads)

    def _leave(self, *_: object) -> None:
        if not self._leaving:
            # By its default this signal ends the process, whatever its threads are stuck in.
            signal.alarm(LEAVE_TIME)
        self._leaving = True
        self._server.accepting = False
        self._server.pull_trigger()

    def _consider(self) -> None:
        now = time.monotonic()
        if self._server.active_channels:
            self._busy = now
            is_due = now > self._groups_checked + GROUPS_CHECKED_EVERY
            # One that is still waiting for the directory is enough.
            if is_due and not self._leaving and not (self._groups and self._groups.is_alive()):
                self._groups_checked = now
                self._groups = threading.Thread(target=self._check_account, name="groups", daemon=True)
                self._groups.start()
        if now > self._busy + self._settings.idle_timeout or now > self._born + self._settings.max_lifetime:
            self._leave()

    def _check_account(self) -> None:
        """Leave when the directory no longer has this user as this process has it; the next start decides.

        In a thread, as a directory server may take its time.
        """
        try:
            entry = pwd.getpwuid(os.geteuid())
            current = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
        except KeyError:
            log.info("the user has no account any more; leaving")
            self._leave()
            return
        if current != {os.getegid(), *os.getgroups()} or entry.pw_name != os.environ["USER"]:
            log.info("the user's account or groups have changed (now %s); leaving", _names(current))
            self._leave()


def _names(gids: set[int]) -> str:
    names = []
    for gid in sorted(gids):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return ", ".join(names)
