"""pid ↔ account: the PUNs that there are, how each is doing, and when the next one starts. Runs as root.

One Pun for each uid that was asked for; it keeps its listener while processes come and go:

    starting ──ready──▶ running ──ended──▶ resting ──a connection──▶ starting
        └─refused, failed, too late──▶ refused: its socket taken away, and the same answer for a while
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from proxy_hook.spawner import launch, wire
from proxy_hook.spawner.eligible import Refused, check_name
from proxy_hook.spawner.launch import LAST_STAGE, STOP_TIME, Preloader, Settings

START_TIME = 10.0
"""Seconds in which a PUN must have become its user; a name service or a home that hangs takes longer."""
REFUSAL_TIME, LONGEST_WAIT = 2.0, 60.0
"""Seconds for which a refusal, and at most a failure, is repeated without another try."""
SHORT_LIFE, SHORT_LIVES = 1.0, 5
"""A PUN that ends in so many seconds has failed; so many failures in a row make the next one wait."""
LOG_BYTES, LOG_TIME = 64 * 1024, 60.0
"""What a PUN may write to the portal's log in so many seconds."""
WAITS_FOR = {"look-up": "the name service", "user": "the home directory"}
"""What a child that is stuck after a stage waits for."""

Reply = Callable[[wire.Message], None]
log = logging.getLogger("punway.spawner")


@dataclass(eq=False)
class Pun:
    """One user's PUN. Times are of the monotonic clock; a descriptor is -1 when it is closed."""

    uid: int
    name: str
    listener: socket.socket | None = None
    state: str = "resting"
    pid: int = 0
    parent: Preloader | None = None
    since: float = 0.0
    kill_at: float | None = None
    failures: int = 0
    refusal: wire.Message = field(default_factory=dict)
    refused_until: float = 0.0
    waiting: list[Reply] = field(default_factory=list)
    report: int = -1
    news: bytes = b""
    log: int = -1
    logged: int = 0
    log_since: float = 0.0

    def told(self, key: str) -> list[str]:
        """What the child has reported under a key, in order."""
        return [item[key] for item in map(json.loads, self.news.splitlines()) if key in item]


class Children:
    """All PUNs, driven by the selector's events and by ``tick``."""

    def __init__(self, settings: Settings, selector: selectors.BaseSelector) -> None:
        self.settings = settings
        self.puns: dict[int, Pun] = {}
        self._selector = selector
        self._retired: list[Preloader] = []
        self._starting: dict[int, Pun] = {}
        self._number = 0
        self._preloader_since = 0.0
        self._preloader: Preloader | None = None
        self._preload()

    def ensure(self, uid: int, name: str, reply: Reply) -> None:
        """See to it that the user's socket answers, and ``reply`` with its path or with a refusal."""
        now = time.monotonic()
        pun = self.puns.get(uid)
        if pun and pun.state == "refused" and pun.name == name and now < pun.refused_until:
            return reply(self._refusal(pun))
        try:
            check_name(name, self.settings.rules)
            if any(p.name == name and p.uid != uid and p.listener for p in self.puns.values()):
                raise Refused(f"{name} is another user's name by now")
            if pun and pun.listener and pun.name != name:
                if pun.state != "resting":
                    raise Refused(f"uid {uid} is served here as {pun.name}, not as {name}")
                self._close_listener(pun)  # The account may have another name by now; the child will see.
            if pun is None or pun.listener is None:
                failures = pun.failures if pun else 0
                pun = self.puns[uid] = Pun(uid, name, launch.bind(self.settings, name), failures=failures)
                self._start(pun)
        except Refused as refusal:
            return reply({"refused": str(refusal)})
        except OSError as error:
            log.error("no socket for %s: %s", name, error)
            return reply({"unavailable": "the portal cannot make the user's socket", "retry_after": 10})
        if pun.state == "starting":
            pun.waiting.append(reply)
        else:
            reply(self._refusal(pun) if pun.state == "refused" else {"socket": self._path(pun)})

    def stop(self, pun: Pun) -> None:
        """Tell a PUN to leave after what is in flight; STOP_TIME later it is killed."""
        pun.kill_at = time.monotonic() + STOP_TIME
        self._signal(pun, signal.SIGTERM)

    def reload(self) -> None:
        """New code for every PUN: a new preloader, and each PUN leaves after what is in flight."""
        if self._preloader:
            self._retired.append(self._preloader)
        self._preload()
        for pun in self.puns.values():
            self._signal(pun, signal.SIGTERM)

    def end(self) -> None:
        """At the spawner's end: no PUN stays, no socket."""
        for pun in self.puns.values():
            self._close_listener(pun)
        for preloader in filter(None, [*self._retired, self._preloader]):
            preloader.close()

    def tick(self) -> float:
        """Do what is due; the seconds until something may be due again."""
        now = time.monotonic()
        for pun in self.puns.values():
            if pun.state == "starting" and now > pun.since + START_TIME:
                stage = (pun.told("stage") or [""])[-1]
                self._signal(pun, signal.SIGKILL)
                self._fail(pun, f"{WAITS_FOR.get(stage, 'the new process')} does not answer")
            if pun.kill_at is not None and now > pun.kill_at:
                pun.kill_at = None
                self._signal(pun, signal.SIGKILL)
        return 0.5 if any(p.state == "starting" or p.kill_at for p in self.puns.values()) else 30.0

    def _start(self, pun: Pun) -> None:
        assert pun.listener is not None
        pun.state, pun.since, pun.news, pun.kill_at = "starting", time.monotonic(), b"", None
        self._close(pun, "log")
        pun.report, report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pun.log, log_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(pun.report, selectors.EVENT_READ, lambda: self._read_report(pun))
        self._selector.register(pun.log, selectors.EVENT_READ, lambda: self._read_log(pun))
        try:
            if self._preloader is None:
                self._preload()
            assert self._preloader is not None
            self._number += 1
            self._starting[self._number] = pun
            pun.parent = self._preloader
            ticket = self.settings.ticket(pun.name, pun.uid)
            pun.parent.start(self._number, ticket, (pun.listener.fileno(), log_end, report))
        except (OSError, wire.Malformed) as error:
            log.error("no process for %s: %s", pun.name, error)
            self._fail(pun, "the portal cannot start processes just now")
        finally:
            os.close(report)
            os.close(log_end)

    def _preload(self) -> None:
        now = time.monotonic()
        if self._preloader is None and self._preloader_since and now < self._preloader_since + 1.0:
            raise OSError("the preloader ends as soon as it starts")
        preloader = Preloader(self.settings)
        self._preloader, self._preloader_since = preloader, now
        self._selector.register(preloader.channel, selectors.EVENT_READ, lambda: self._hear(preloader))

    def _hear(self, preloader: Preloader) -> None:
        """Take one message of a preloader."""
        try:
            received = wire.receive(preloader.channel)
        except (OSError, wire.Malformed) as error:
            log.error("the preloader is not understood: %s", error)
            received = None
        if received is None:
            self._lose(preloader)
        elif "started" in received[0]:
            pun = self._starting.pop(received[0]["started"])
            pun.pid = received[0]["pid"]
            preloader.pids.add(pun.pid)
        else:
            preloader.pids.discard(received[0]["ended"])
            for pun in self.puns.values():
                if pun.pid == received[0]["ended"] and pun.parent is preloader:
                    self._ended(pun, os.waitstatus_to_exitcode(received[0]["status"]))
            if preloader in self._retired and not preloader.pids:
                self._let_go(preloader)

    def _lose(self, preloader: Preloader) -> None:
        """A preloader has ended unasked; the kernel has told its PUNs to leave (PR_SET_PDEATHSIG)."""
        log.error("the preloader has ended; the next PUN starts another")
        self._let_go(preloader)
        for pun in self.puns.values():
            if pun.parent is preloader and pun.state == "starting":
                self._fail(pun, "the portal cannot start processes just now")
            elif pun.parent is preloader and pun.state == "running":
                self._ended(pun, 0)

    def _let_go(self, preloader: Preloader) -> None:
        self._selector.unregister(preloader.channel)
        if preloader in self._retired:
            self._retired.remove(preloader)
        else:
            self._preloader = None
        preloader.close()

    def _read_report(self, pun: Pun) -> None:
        if data := os.read(pun.report, 4096):
            pun.news += data
            return
        self._close(pun, "report")
        if pun.told("refused"):
            log.warning("no PUN for %s: %s", pun.name, pun.told("refused")[0])
            self._refuse(pun, {"refused": pun.told("refused")[0]}, REFUSAL_TIME)
        elif LAST_STAGE in pun.told("stage"):
            pun.state, pun.since = "running", time.monotonic()
            self._answer(pun, {"socket": self._path(pun)})
        else:
            self._fail(pun, "the user's process could not be started")

    def _read_log(self, pun: Pun) -> None:
        """Pass on what a PUN says, a bounded amount of it, in one line each and in plain ASCII."""
        data, now = os.read(pun.log, 16 * 1024), time.monotonic()
        if not data:
            return self._close(pun, "log")
        if now > pun.log_since + LOG_TIME:
            pun.log_since, pun.logged = now, 0
        pun.logged += len(data)
        if pun.logged - len(data) > LOG_BYTES:
            return
        for line in data.decode("utf-8", "replace").splitlines():
            log.info("pun %s: %s", pun.name, line.encode("unicode_escape").decode("ascii"))
        if pun.logged > LOG_BYTES:
            log.warning("pun %s writes too much; what follows in this minute is dropped", pun.name)

    def _ended(self, pun: Pun, code: int) -> None:
        now = time.monotonic()
        pun.pid, pun.parent, pun.kill_at = 0, None, None
        if pun.state != "running":
            return  # It never was the user's process; the end of its report tells how that went.
        if code:
            log.warning("the PUN of %s ended with %s after %.1f s", pun.name, code, now - pun.since)
        pun.failures = pun.failures + 1 if code and now < pun.since + SHORT_LIFE else 0
        if pun.failures >= SHORT_LIVES:
            return self._fail(pun, "the user's process ends as soon as it starts")
        pun.state, pun.since = "resting", now
        assert pun.listener is not None
        self._selector.register(pun.listener, selectors.EVENT_READ, lambda: self._wake(pun))

    def _wake(self, pun: Pun) -> None:
        """A connection came while no process was there."""
        assert pun.listener is not None
        self._selector.unregister(pun.listener)
        self._start(pun)

    def _fail(self, pun: Pun, why: str) -> None:
        pun.failures += 1
        wait = min(LONGEST_WAIT, 2.0**pun.failures)
        log.error("no PUN for %s: %s; the next try in %d s", pun.name, why, wait)
        self._refuse(pun, {"unavailable": why}, wait)

    def _refuse(self, pun: Pun, refusal: wire.Message, seconds: float) -> None:
        """Answer those who wait, take the socket away, and say the same for some seconds."""
        self._close(pun, "report")
        self._close_listener(pun)
        pun.state, pun.refusal, pun.refused_until = "refused", refusal, time.monotonic() + seconds
        self._answer(pun, self._refusal(pun))

    def _refusal(self, pun: Pun) -> wire.Message:
        return {**pun.refusal, "retry_after": max(1, round(pun.refused_until - time.monotonic()))}

    def _answer(self, pun: Pun, message: wire.Message) -> None:
        waiting, pun.waiting = pun.waiting, []
        for reply in waiting:
            reply(message)

    def _signal(self, pun: Pun, number: int) -> None:
        if pun.pid and pun.parent:
            with suppress(OSError):
                pun.parent.signal(pun.pid, number)

    def _path(self, pun: Pun) -> str:
        return str(self.settings.folder(pun.name) / "pun.sock")

    def _close(self, pun: Pun, pipe: str) -> None:
        descriptor = getattr(pun, pipe)
        if descriptor >= 0:
            self._selector.unregister(descriptor)
            os.close(descriptor)
            setattr(pun, pipe, -1)

    def _close_listener(self, pun: Pun) -> None:
        if pun.listener is None:
            return
        if pun.state == "resting":
            self._selector.unregister(pun.listener)
        pun.listener.close()
        pun.listener = None
        try:
            launch.remove(self.settings.folder(pun.name))
        except OSError as error:
            log.error("the socket of %s stays: %s", pun.name, error)
