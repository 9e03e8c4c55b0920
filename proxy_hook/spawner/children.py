"""pid ↔ account: the PUNs that there are, how each is doing, and when the next one starts. Runs as root.

One Pun for each uid that was asked for; it keeps its listener while processes come and go:

    starting ──ready──▶ running ──ended──▶ resting ──a connection──▶ starting
        └─refused, failed, too late─▶ refused for a while, its socket taken away
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
from dataclasses import dataclass, field

from proxy_hook.spawner import launch, wire
from proxy_hook.spawner.birth import LAST_STAGE
from proxy_hook.spawner.eligible import Refused, check_name
from proxy_hook.spawner.launch import Preloader, Settings

START_TIME = 10.0
"""Seconds in which a PUN must have become its user; a name service or a home that hangs takes longer."""
REFUSAL_TIME = 2.0
"""Seconds for which a refusal is repeated without asking the name service again."""
SHORT_LIFE, SHORT_LIVES = 1.0, 5
"""A PUN that ends within so many seconds has failed; so many failures in a row make the next one wait."""
LONGEST_WAIT = 60.0
STOP_TIME = 15.0
"""Seconds that a PUN has for what is in flight when it is told to leave."""
LOG_LINE, LOG_BYTES, LOG_TIME = 2048, 64 * 1024, 60.0
"""A PUN may write so many bytes a line, and so many in so many seconds, to the portal's log."""

Reply = Callable[[wire.Message], None]
log = logging.getLogger("punway.spawner")


@dataclass
class Pun:
    """One user's PUN. Times are of the monotonic clock."""

    uid: int
    name: str
    listener: socket.socket | None = None
    state: str = "resting"
    pid: int = 0
    parent: Preloader | None = None
    since: float = 0.0
    stage: str = ""
    news: bytes = b""
    report: int = -1
    log: int = -1
    logged: int = 0
    log_since: float = 0.0
    kill_at: float | None = None
    failures: int = 0
    refusal: wire.Message | None = None
    refused_until: float = 0.0
    waiting: list[Reply] = field(default_factory=list)


class Children:
    """All PUNs, driven by the selector's events and by ``tick``."""

    def __init__(self, settings: Settings, selector: selectors.BaseSelector) -> None:
        self.settings = settings
        self.puns: dict[int, Pun] = {}
        self._selector = selector
        self._preloader: Preloader | None = None
        self._retired: list[Preloader] = []
        self._preloader_at = 0.0
        self._numbers: dict[int, Pun] = {}
        self._number = 0
        if settings.spawn == "fork":
            self._preload()

    # What is asked of it

    def ensure(self, uid: int, name: str, reply: Reply) -> None:
        """See to it that the user's socket answers, and ``reply`` with its path or with a refusal."""
        pun = self.puns.get(uid)
        now = time.monotonic()
        if pun and pun.name != name:
            return reply({"refused": f"uid {uid} is served here as {pun.name}, not as {name}"})
        if pun and pun.refusal and now < pun.refused_until:
            return reply(self._again(pun, now))
        if pun is None or pun.listener is None:
            try:
                check_name(name, self.settings.rules)
                if any(other.name == name and other.listener for other in self.puns.values()):
                    raise Refused(f"{name} is another user's name by now")
                pun = pun or self.puns.setdefault(uid, Pun(uid, name))
                pun.listener = launch.bind(self.settings, name)
            except Refused as refusal:
                return reply({"refused": str(refusal)})
            except OSError as error:
                log.error("no socket for %s: %s", name, error)
                return reply({"unavailable": "the portal cannot make the user's socket", "retry_after": 10})
            self._start(pun)
        if pun.state == "starting":
            pun.waiting.append(reply)
        else:
            reply({"socket": self._path(pun)})

    def stop(self, pun: Pun) -> None:
        """Tell a PUN to leave after what is in flight; STOP_TIME later it is killed."""
        self._signal(pun, signal.SIGTERM)
        pun.kill_at = time.monotonic() + STOP_TIME

    def reload(self) -> None:
        """New code for every PUN: a new preloader, and each PUN leaves after what is in flight."""
        if self._preloader:
            self._retired.append(self._preloader)
            self._preload()
        for pun in self.puns.values():
            if pun.state == "running":
                self._signal(pun, signal.SIGTERM)

    def end(self) -> None:
        """At the spawner's end: no PUN stays, no socket."""
        for pun in self.puns.values():
            self._signal(pun, signal.SIGTERM)
            self._forget_listener(pun)
        for preloader in filter(None, [*self._retired, self._preloader]):
            preloader.end()

    # What happens to it

    def tick(self) -> float:
        """Do what is due; the seconds until something may be due again."""
        now = time.monotonic()
        for pun in self.puns.values():
            if pun.state == "starting" and now > pun.since + START_TIME:
                self._too_late(pun)
            if pun.kill_at is not None and now > pun.kill_at:
                pun.kill_at = None
                self._signal(pun, signal.SIGKILL)
        return 0.5 if any(p.state == "starting" or p.kill_at for p in self.puns.values()) else 30.0

    def reap(self) -> None:
        """Wait for the spawner's own children that have ended (SIGCHLD): PUNs by exec."""
        for pun in list(self.puns.values()):
            if pun.pid and pun.parent is None:
                pid, status = os.waitpid(pun.pid, os.WNOHANG)
                if pid:
                    self._ended(pun, status)

    def _start(self, pun: Pun) -> None:
        pun.state, pun.since, pun.stage, pun.news = "starting", time.monotonic(), "", b""
        pun.refusal = pun.kill_at = None
        self._close_log(pun)
        assert pun.listener is not None
        pun.report, report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pun.log, log_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(pun.report, selectors.EVENT_READ, lambda: self._read_report(pun))
        self._selector.register(pun.log, selectors.EVENT_READ, lambda: self._read_log(pun))
        ticket = self.settings.ticket(pun.name, pun.uid)
        try:
            if self.settings.spawn == "exec":
                pun.parent = None
                pun.pid = launch.fork_and_exec(self.settings, ticket, pun.listener, log_end, report)
            else:
                if self._preloader is None:
                    self._preload()
                assert self._preloader is not None
                pun.parent, self._number = self._preloader, self._number + 1
                self._numbers[self._number] = pun
                pun.parent.start(self._number, ticket, pun.listener, log_end, report)
        except (OSError, wire.Malformed) as error:
            log.error("cannot start a process for %s: %s", pun.name, error)
            self._failed(pun, "the portal cannot start processes just now")
        finally:
            os.close(report)
            os.close(log_end)

    def _preload(self) -> None:
        # A preloader that cannot live must not be started in a tight loop.
        if time.monotonic() < self._preloader_at + 1.0 and self._preloader is None and self._preloader_at:
            raise OSError("the preloader ends as soon as it starts")
        self._preloader_at = time.monotonic()
        preloader = self._preloader = Preloader(self.settings)
        channel = preloader.channel
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._hear(preloader))

    def _hear(self, preloader: Preloader) -> None:
        """Take one message of a preloader."""
        try:
            received = wire.receive(preloader.channel)
        except (OSError, wire.Malformed) as error:
            log.error("the preloader is not to be understood: %s", error)
            received = None
        if received is None:
            self._lost(preloader)
            return
        message, _ = received
        if "started" in message:
            pun = self._numbers.pop(message["started"])
            pun.pid = message["pid"]
            preloader.pids.add(pun.pid)
            return
        preloader.pids.discard(message["ended"])
        for pun in self.puns.values():
            if pun.pid == message["ended"] and pun.parent is preloader:
                self._ended(pun, message["status"])
        if preloader in self._retired and not preloader.pids:
            self._retired.remove(preloader)
            self._selector.unregister(preloader.channel)
            preloader.close()

    def _lost(self, preloader: Preloader) -> None:
        """A preloader has ended unasked; the kernel has told its PUNs to leave (PDEATHSIG)."""
        log.error("the preloader has ended; the next PUN starts another")
        self._selector.unregister(preloader.channel)
        preloader.close()
        if preloader in self._retired:
            self._retired.remove(preloader)
        else:
            self._preloader = None
        for pun in self.puns.values():
            if pun.parent is preloader:
                pun.parent = None
                if pun.state != "resting":
                    self._ended(pun, 1 << 8)

    def _read_report(self, pun: Pun) -> None:
        data = os.read(pun.report, 4096)
        if data:
            pun.news += data
            return
        self._close_report(pun)
        news = [json.loads(line) for line in pun.news.splitlines()]
        refused = next((item["refused"] for item in news if "refused" in item), None)
        if refused is not None:
            log.warning("refused a PUN to %s: %s", pun.name, refused)
            self._give_up(pun, {"refused": refused}, REFUSAL_TIME)
        elif news and news[-1].get("stage") == LAST_STAGE:
            pun.state, pun.since = "running", time.monotonic()
            self._answer(pun, {"socket": self._path(pun)})
        else:
            self._failed(pun, "the user's process could not be started")

    def _read_log(self, pun: Pun) -> None:
        """Pass what a PUN says on to the portal's log, a bounded amount of it."""
        data = os.read(pun.log, 16 * 1024)
        if not data:
            self._close_log(pun)
            return
        now = time.monotonic()
        if now > pun.log_since + LOG_TIME:
            pun.log_since, pun.logged = now, 0
        if pun.logged < LOG_BYTES <= pun.logged + len(data):
            log.warning("%s writes too much; the rest of this minute is dropped", pun.name)
        pun.logged += len(data)
        if pun.logged < LOG_BYTES:
            for line in data.decode("utf-8", "replace").splitlines():
                said = line[:LOG_LINE].encode("unicode_escape").decode("ascii")
                log.info("pun %s: %s", pun.name, said)

    def _ended(self, pun: Pun, status: int) -> None:
        code, lived = os.waitstatus_to_exitcode(status), time.monotonic() - pun.since
        was, pun.pid, pun.parent, pun.kill_at = pun.state, 0, None, None
        if was == "starting":
            return  # The report's end tells how that went.
        if was == "refused":
            return
        if code != 0:
            log.warning("the PUN of %s ended with %s after %.1f s", pun.name, code, lived)
        pun.failures = pun.failures + 1 if code != 0 and lived < SHORT_LIFE else 0
        if pun.failures >= SHORT_LIVES:
            self._failed(pun, "the user's process ends as soon as it starts")
            return
        pun.state = "resting"
        if pun.listener:
            self._selector.register(pun.listener, selectors.EVENT_READ, lambda: self._wake(pun))

    def _wake(self, pun: Pun) -> None:
        """A connection came while no process was there."""
        assert pun.listener is not None
        self._selector.unregister(pun.listener)
        self._start(pun)

    def _too_late(self, pun: Pun) -> None:
        waits_for = {"": "a process", "look-up": "the name service", "user": "the home directory"}
        self._signal(pun, signal.SIGKILL)
        self._close_report(pun)
        self._failed(pun, f"{waits_for.get(pun_stage(pun), 'the process')} does not answer")

    def _failed(self, pun: Pun, why: str) -> None:
        pun.failures += 1
        wait = min(LONGEST_WAIT, 2.0 ** min(pun.failures, 6))
        log.error("no PUN for %s: %s; the next try in %d s", pun.name, why, wait)
        self._give_up(pun, {"unavailable": why}, wait)

    def _give_up(self, pun: Pun, refusal: wire.Message, seconds: float) -> None:
        """Answer those who wait, take the socket away, and say the same for some seconds."""
        now = time.monotonic()
        self._close_report(pun)
        self._forget_listener(pun)
        pun.state, pun.refusal, pun.refused_until = "refused", refusal, now + seconds
        self._answer(pun, self._again(pun, now))

    def _again(self, pun: Pun, now: float) -> wire.Message:
        assert pun.refusal is not None
        return {**pun.refusal, "retry_after": max(1, round(pun.refused_until - now))}

    def _answer(self, pun: Pun, message: wire.Message) -> None:
        waiting, pun.waiting = pun.waiting, []
        for reply in waiting:
            reply(message)

    def _signal(self, pun: Pun, number: int) -> None:
        if pun.pid and pun.parent:
            pun.parent.signal(pun.pid, number)
        elif pun.pid:
            launch.signal_pun(pun.pid, number)

    def _path(self, pun: Pun) -> str:
        return str(self.settings.puns / pun.name / "pun.sock")

    def _forget_listener(self, pun: Pun) -> None:
        if pun.listener is None:
            return
        if pun.state == "resting" and pun.listener in self._selector.get_map():
            self._selector.unregister(pun.listener)
        pun.listener.close()
        pun.listener = None
        try:
            launch.remove_socket(self.settings.puns / pun.name / "pun.sock")
        except OSError as error:
            log.error("the socket of %s stays: %s", pun.name, error)

    def _close_report(self, pun: Pun) -> None:
        if pun.report >= 0:
            self._selector.unregister(pun.report)
            os.close(pun.report)
            pun.report = -1

    def _close_log(self, pun: Pun) -> None:
        if pun.log >= 0:
            self._selector.unregister(pun.log)
            os.close(pun.log)
            pun.log = -1


def pun_stage(pun: Pun) -> str:
    """The last stage that a starting PUN has told of."""
    stages = [json.loads(line).get("stage", "") for line in pun.news.splitlines()]
    return stages[-1] if stages else ""
