"""pid ↔ account: the PUNs that there are, how each is doing, and when the next one starts. Runs as root.

One Pun for each uid that was asked for; it keeps its listener while processes come and go:

    starting ──ready──▶ running ──ended──▶ resting ──a connection──▶ starting
        └─refused, failed, too late──▶ refused: its socket taken away, and the same answer for a while
"""

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
from proxy_hook.spawner.eligible import Refused, Rules, check_name
from proxy_hook.spawner.launch import Preloader, Settings
from proxy_hook.spawner.preloader import LOOK_UP, READY, REFUSED, USER

START_TIME = 10.0  # Seconds in which a PUN must have become its user; a home that hangs takes longer.
REFUSAL_TIME, LONGEST_WAIT = 2.0, 60.0  # Seconds for which a refusal, and at most a failure, is repeated untried.
SHORT_LIFE, SHORT_LIVES = 1.0, 5  # Seconds of a PUN that failed; failures in a row that make the next one wait.
WAITS_FOR = {LOOK_UP: "the name service", USER: "the home directory"}  # What a child that is stuck waits for.

Reply = Callable[[wire.Message], None]
log = logging.getLogger("punway.spawner")


@dataclass(eq=False)
class Pun:
    """One user's PUN. Times are of the monotonic clock; ``report`` is -1 when it is closed."""

    uid: int
    name: str
    listener: socket.socket | None = None
    state: str = "new"
    pid: int = 0
    parent: Preloader | None = None
    since: float = 0.0
    failures: int = 0
    refusal: wire.Message = field(default_factory=dict)
    refused_until: float = 0.0
    waiting: list[Reply] = field(default_factory=list)
    report: int = -1
    news: bytes = b""

    def tell_waiting(self, message: wire.Message) -> None:
        waiting, self.waiting = self.waiting, []
        for reply in waiting:
            reply(message)


class Children:
    """All PUNs, driven by the selector's events and by ``tick``."""

    def __init__(self, settings: Settings, selector: selectors.BaseSelector) -> None:
        self.settings = settings
        self.puns: dict[int, Pun] = {}
        self._selector = selector
        self._preloader: Preloader | None = None
        self._preload()

    def ensure(self, reply: Reply, uid: int, name: str) -> None:
        """See to it that the user's socket answers, and ``reply`` with its path or with a refusal."""
        pun = self.puns.get(uid)
        if pun and pun.state == "refused" and pun.name == name and time.monotonic() < pun.refused_until:
            return reply(self._refusal(pun))
        try:
            check_name(name, Rules(**self.settings.birth["rules"]))
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
            reply(self._refusal(pun) if pun.state == "refused" else self._socket(pun))

    def ping(self, reply: Reply) -> None:
        reply({"pong": True})

    def ps(self, reply: Reply) -> None:
        """The PUNs that there are, and since how many seconds; at most 500, as a message holds, and the count."""
        now, puns = time.monotonic(), [pun for pun in self.puns.values() if pun.pid]
        keys = ("name", "uid", "pid", "state")
        rows = [{**{key: getattr(pun, key) for key in keys}, "seconds": round(now - pun.since)} for pun in puns[:500]]
        reply({"puns": rows, "count": len(puns)})

    def stop(self, reply: Reply, name: str) -> None:
        """Tell a user's PUN to leave after what is in flight; whether there was one."""
        found = [pun for pun in self.puns.values() if pun.name == name and pun.pid]
        for pun in found:
            self._signal(pun, signal.SIGTERM)
        reply({"stopped": bool(found)})

    def reload(self, reply: Reply) -> None:
        """New code for every PUN: a new preloader, while the old one's finish what is in flight."""
        old, self._preloader = self._preloader, None
        self._preload()
        if old:
            self._let_go(old)
        reply({"reloaded": True})

    def end(self) -> None:
        """At the spawner's end: no PUN stays, no socket."""
        for pun in self.puns.values():
            self._close_listener(pun)
        if self._preloader:
            self._preloader.channel.close()
            self._preloader.process.wait()

    def tick(self) -> None:
        """Give up on those who take too long to start; forget old refusals, and preloaders that were let go."""
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        now = time.monotonic()
        self.puns = {u: p for u, p in self.puns.items() if p.state != "refused" or now < p.refused_until + LONGEST_WAIT}
        for pun in self.puns.values():
            if pun.state == "starting" and now > pun.since + START_TIME:
                self._signal(pun, signal.SIGKILL)
                self._fail(pun, f"{WAITS_FOR.get(pun.news[-1:], 'the new process')} does not answer")

    def _start(self, pun: Pun) -> None:
        assert pun.listener is not None
        self._close_report(pun)
        if pun.state == "resting":
            self._selector.unregister(pun.listener)
        pun.state, pun.since, pun.news = "starting", time.monotonic(), b""
        pun.report, report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(pun.report, selectors.EVENT_READ, lambda: self._read_report(pun))
        try:
            pun.parent = self._preloader or self._preload()
            start = {"start": pun.uid, "name": pun.name, "birth": self.settings.birth}
            wire.send(pun.parent.channel, start, (pun.listener.fileno(), report))
        except (OSError, wire.Malformed) as error:
            log.error("no process for %s: %s", pun.name, error)
            self._fail(pun, "the portal cannot start processes just now")
        finally:
            os.close(report)

    def _preload(self) -> Preloader:
        preloader = self._preloader = Preloader(self.settings)
        self._selector.register(preloader.channel, selectors.EVENT_READ, lambda: self._hear(preloader))
        return preloader

    def _hear(self, preloader: Preloader) -> None:
        """Take one message of a preloader."""
        try:
            received = wire.receive(preloader.channel)
        except (OSError, wire.Malformed) as error:
            log.error("the preloader is not understood: %s", error)
            received = None
        if received is None:
            log.error("the preloader has ended; the next PUN starts another")
            self._preloader = None
            self._let_go(preloader)
        elif "started" in received[0]:
            if pun := self.puns.get(received[0]["started"]):
                pun.pid = received[0]["pid"]
        else:
            for pun in self.puns.values():
                if pun.pid == received[0]["ended"] and pun.parent is preloader:
                    self._ended(pun, os.waitstatus_to_exitcode(received[0]["status"]))

    def _let_go(self, preloader: Preloader) -> None:
        """A preloader has ended, or is to: its PUNs leave after what is in flight, and are not waited for."""
        self._selector.unregister(preloader.channel)
        preloader.channel.close()
        for pun in self.puns.values():
            if pun.parent is preloader and pun.state == "starting":
                pun.failures += 1
                if pun.failures < SHORT_LIVES:
                    self._start(pun)  # Once more, with the next preloader.
                else:
                    self._fail(pun, "the portal cannot start processes just now")
            elif pun.parent is preloader and pun.state == "running":
                self._ended(pun, 0)

    def _read_report(self, pun: Pun) -> None:
        if data := os.read(pun.report, 4096):
            pun.news += data
            return
        self._close_report(pun)
        stages, refused, rule = pun.news.partition(REFUSED)
        if refused:
            log.warning("no PUN for %s: %s", pun.name, rule.decode())
            self._refuse(pun, {"refused": rule.decode()}, REFUSAL_TIME)
        elif stages.endswith(READY):
            pun.state, pun.since = "running", time.monotonic()
            pun.tell_waiting(self._socket(pun))
        else:
            self._fail(pun, "the user's process could not be started")

    def _ended(self, pun: Pun, code: int) -> None:
        now = time.monotonic()
        pun.pid, pun.parent = 0, None
        if pun.state != "running":
            return  # It never was the user's process; the end of its report tells how that went.
        if code:
            log.warning("the PUN of %s ended with %s after %.1f s", pun.name, code, now - pun.since)
        pun.failures = pun.failures + 1 if code and now < pun.since + SHORT_LIFE else 0
        if pun.failures >= SHORT_LIVES:
            return self._fail(pun, "the user's process ends as soon as it starts")
        pun.state, pun.since = "resting", now
        assert pun.listener is not None  # From the next connection on there is work for another one.
        self._selector.register(pun.listener, selectors.EVENT_READ, lambda: self._start(pun))

    def _fail(self, pun: Pun, why: str) -> None:
        pun.failures += 1
        wait = min(LONGEST_WAIT, 2.0**pun.failures)
        log.error("no PUN for %s: %s; the next try in %d s", pun.name, why, wait)
        self._refuse(pun, {"unavailable": why}, wait)

    def _refuse(self, pun: Pun, refusal: wire.Message, seconds: float) -> None:
        """Answer those who wait, take the socket away, and say the same for some seconds."""
        self._close_report(pun)
        self._close_listener(pun)
        pun.state, pun.refusal, pun.refused_until = "refused", refusal, time.monotonic() + seconds
        pun.tell_waiting(self._refusal(pun))

    def _refusal(self, pun: Pun) -> wire.Message:
        return {**pun.refusal, "retry_after": max(1, round(pun.refused_until - time.monotonic()))}

    def _socket(self, pun: Pun) -> wire.Message:
        return {"socket": str(self.settings.folder(pun.name) / "pun.sock")}

    def _signal(self, pun: Pun, number: int) -> None:
        if pun.pid and pun.parent:
            with suppress(OSError):  # Without its preloader it is ended by the kernel (PR_SET_PDEATHSIG).
                wire.send(pun.parent.channel, {"signal": pun.pid, "number": number})

    def _close_report(self, pun: Pun) -> None:
        if pun.report >= 0:
            self._selector.unregister(pun.report)
            os.close(pun.report)
            pun.report = -1

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
