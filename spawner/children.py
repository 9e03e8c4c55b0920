"""pid ↔ account: the PUNs that there are, how each is doing, and when the next one starts. Runs as root.

One Pun for each uid that was asked for; it keeps its listener while processes come and go:

    queued ──its turn──▶ starting ──ready──▶ running ──ended──▶ resting ──a connection──▶ queued
                            │                                      └─not asked for──▶ forgotten, its socket removed
                            └─refused, failed, too late──▶ refused: its socket taken away, the same answer for a while

Starts are paced: as many are in progress as the machine can do at once, and the others wait for their turn.
"""

import logging
import os
import resource
import selectors
import signal
import time
from collections import deque
from contextlib import suppress

from spawner import launch, wire
from spawner.child import READY, REFUSED, REPORT_SIZE, WAITS_FOR
from spawner.eligible import Refused, Rules, check_name
from spawner.launch import Preloader, Settings
from spawner.pun import Pun, Reply

TICK = 0.5  # Seconds after which what is due is looked at.
# Enough to keep the processors busy while some starts wait for a directory server; with many more, each start would
# take so long that all of them run out of START_TIME together.
STARTS_PER_CPU = 8
WAITING_TIME = 1.0  # Seconds without news after which a start waits for somebody, and its place is another's.
START_TIME = 10.0  # Seconds in which a PUN must have become its user; a home that hangs takes longer.
FORK_TIME = 30.0  # Seconds in which the preloader must have forked; it may have to import the app first.
REFUSAL_TIME, LONGEST_WAIT = 2.0, 60.0  # Seconds for which a refusal, and at most a failure, is repeated untried.
SHORT_LIFE, SHORT_LIVES = 5.0, 5  # Seconds of a PUN that failed; failures in a row that make the next one wait.
# Seconds for which a listener is kept that nobody asks for, and when too many are: nginx connects within seconds.
RESTING_TIME, SHORTEST_REST = 600.0, 60.0

log = logging.getLogger("punway.spawner")


class Children:
    """All PUNs, driven by the selector's events and by ``advance``."""

    def __init__(self, settings: Settings, selector: selectors.BaseSelector) -> None:
        self.settings = settings
        self.puns: dict[int, Pun] = {}
        self._by_name: dict[str, Pun] = {}  # Those with a listener: a name is a folder's.
        self._by_pid: dict[int, Pun] = {}  # Children of the preloader that is there now.
        self._queue: deque[Pun] = deque()
        self._working: set[Pun] = set()  # Starts in progress, but for those that wait for somebody.
        self._at_once = STARTS_PER_CPU * len(os.sched_getaffinity(0))
        self._most_resting = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._next_look = 0.0
        self._selector = selector
        self._preloader: Preloader | None = None
        self._leaving: list[Preloader] = []  # Those of before a reload, whose PUNs finish what is in flight.
        self._preload()

    def ensure(self, reply: Reply, uid: int, name: str) -> None:
        """See to it that the user's socket answers, and ``reply`` with its path or with a refusal."""
        pun = self.puns.get(uid)
        if pun and pun.state == "refused" and pun.name == name and time.monotonic() < pun.refused_until:
            return reply(pun.answer())
        try:
            check_name(name, Rules(**self.settings.birth["rules"]))
            if self._by_name.get(name, pun) is not pun:
                raise Refused(f"{name} is another user's name by now")
            if pun and pun.listener and pun.name != name:
                if pun.state != "resting":
                    raise Refused(f"uid {uid} is served here as {pun.name}, not as {name}")
                self._close_listener(pun)  # The account may have another name by now; the child will see.
            if pun is None or pun.listener is None:
                path, listener = launch.bind(self.settings, name)
                pun = Pun(uid, name, path, listener, failures=pun.failures if pun else 0)
                self.puns[uid] = self._by_name[name] = pun
                self._queue_up(pun)
        except Refused as refusal:
            return reply({"refused": str(refusal)})
        except OSError as error:
            log.error("no socket for %s: %s", name, error)
            return reply({"unavailable": "the portal cannot make the user's socket", "retry_after": 10})
        pun.asked = time.monotonic()
        if pun.state == "resting":
            # Not by the connection that comes then: its assertion is good for a minute, and a queue may take longer.
            self._queue_up(pun)
        if pun.state in ("queued", "starting"):
            pun.waiting.append(reply)
        else:
            reply(pun.answer())

    def ping(self, reply: Reply) -> None:
        reply({"pong": True})

    def ps(self, reply: Reply) -> None:
        """The PUNs that there are, and since how many seconds; at most 500, as a message holds, and the count."""
        now, puns = time.monotonic(), [pun for pun in self.puns.values() if pun.pid]
        reply({"puns": [pun.row(now) for pun in puns[:500]], "count": len(puns)})

    def stop(self, reply: Reply, name: str) -> None:
        """Tell a user's PUN to leave after what is in flight; whether there was one."""
        pun = self._by_name.get(name)
        found = pun is not None and pun.pid > 0
        if pun and pun.report >= 0:
            pun.stop_then = True  # Before it serves it would die of the signal.
        elif pun and found:
            self._signal(pun, signal.SIGTERM)
        reply({"stopped": found})

    def reload(self, reply: Reply) -> None:
        """New code for every PUN: a new preloader, while the old one's finish what is in flight."""
        old, self._preloader = self._preloader, None
        self._preload()
        if old:
            old.let_go()
            self._leaving.append(old)
            self._let_go(old)
        reply({"reloaded": True})

    def end(self) -> None:
        """At the spawner's end: no PUN stays, no socket."""
        for pun in self.puns.values():
            self._close_listener(pun)
        preloaders = [*self._leaving, *([self._preloader] if self._preloader else [])]
        for preloader in preloaders:
            preloader.channel.close()
        for preloader in preloaders:
            preloader.process.wait()

    def advance(self) -> None:
        """Do what is due: after each round of the selector's events, and every TICK."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + TICK
            self._look(now)
        if self._preloader:
            self._preloader.flush()
        while self._queue and len(self._working) < self._at_once and self._start(self._queue[0]):
            self._queue.popleft()

    def _look(self, now: float) -> None:
        """Give up on what takes too long, and forget what is over."""
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # A preloader that has ended.
        for pun in [pun for pun in self._working if pun.news and now > pun.heard + WAITING_TIME]:
            self._working.remove(pun)
        self.puns = {u: p for u, p in self.puns.items() if p.state != "refused" or now < p.refused_until + LONGEST_WAIT}
        for pun in self.puns.values():
            if pun.state == "starting" and pun.pid and now > pun.since + START_TIME:
                self._signal(pun, signal.SIGKILL)
                self._fail(pun, f"{WAITS_FOR.get(pun.news[-1:], 'the new process')} does not answer")
            elif pun.state == "starting" and not pun.pid and now > pun.since + FORK_TIME and pun.parent:
                log.error("the preloader does not fork; it is killed")
                pun.parent.process.kill()
        resting = sorted((p for p in self.puns.values() if p.state == "resting"), key=lambda p: max(p.since, p.asked))
        for number, pun in enumerate(resting):
            too_many = number < len(resting) - self._most_resting
            if now > max(pun.since, pun.asked) + (SHORTEST_REST if too_many else RESTING_TIME):
                self._close_listener(pun)
                del self.puns[pun.uid]

    def _queue_up(self, pun: Pun) -> None:
        """Have a PUN start when its turn comes."""
        if pun.state == "resting":
            assert pun.listener is not None
            self._selector.unregister(pun.listener)
        pun.state, pun.since = "queued", time.monotonic()
        self._queue.append(pun)

    def _start(self, pun: Pun) -> bool:
        """Hand a start to the preloader. False when that takes nothing just now: the start stays queued."""
        assert pun.listener is not None
        start = {"start": pun.uid, "name": pun.name, "birth": self.settings.birth}
        try:
            parent = self._preloader or self._preload()
            ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            log.error("no process for %s: %s", pun.name, error)
            self._fail(pun, "the portal cannot start processes just now")
            return True
        try:
            wire.send(parent.channel, start, (pun.listener.fileno(), theirs))
        except OSError:
            # Its queue is full, or it has ended: its next message, its end or the next TICK leads here again.
            os.close(ours)
            return False
        finally:
            os.close(theirs)
        pun.state, pun.since, pun.news, pun.parent, pun.report = "starting", time.monotonic(), b"", parent, ours
        pun.stop_then = False
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._read_report(pun))
        self._working.add(pun)
        return True

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
            self._selector.unregister(preloader.channel)
            preloader.channel.close()
            if preloader in self._leaving:
                return self._leaving.remove(preloader)
            log.error("the preloader has ended; the next PUN starts another")
            self._preloader = None
            self._let_go(preloader)
        elif preloader in self._leaving:
            return  # Its PUNs are nobody's to count any more.
        elif "started" in received[0]:
            if pun := self.puns.get(received[0]["started"]):
                pun.pid = received[0]["pid"]
                self._by_pid[pun.pid] = pun
                if pun.state == "starting":
                    pun.since = time.monotonic()
        elif pun := self._by_pid.pop(received[0]["ended"], None):
            # What it reported before its end may not have been read yet.
            with suppress(BlockingIOError):  # A process of the user's holds the other end.
                while pun.report >= 0:
                    self._read_report(pun)
            self._ended(pun, os.waitstatus_to_exitcode(received[0]["status"]))

    def _let_go(self, preloader: Preloader) -> None:
        """Have its PUNs, which leave after what is in flight, be started again by the next preloader."""
        self._by_pid.clear()
        for pun in [pun for pun in self.puns.values() if pun.parent is preloader]:
            if pun.state == "starting":
                self._close_report(pun)
                pun.pid, pun.parent, pun.failures = 0, None, pun.failures + 1
                if pun.failures < SHORT_LIVES:
                    self._queue_up(pun)  # Once more, with the next preloader.
                else:
                    self._fail(pun, "the portal cannot start processes just now")
            else:
                self._ended(pun, 0)

    def _read_report(self, pun: Pun) -> None:
        """Take what a child says of its start; that it closes the pipe says that it serves, or has ended."""
        data = os.read(pun.report, REPORT_SIZE)
        if data and pun.state == "starting" and len(pun.news) < REPORT_SIZE:
            pun.news, pun.heard = pun.news + data, time.monotonic()
            self._working.add(pun)
            if pun.news.endswith(READY) and REFUSED not in pun.news:
                pun.state, pun.since = "running", pun.heard
                pun.tell_waiting()
            return
        self._close_report(pun)
        if pun.stop_then:
            self._signal(pun, signal.SIGTERM)
        if pun.state == "starting":
            _, refused, rule = pun.news.partition(REFUSED)
            if refused:
                said = rule.decode(errors="replace")  # Whatever a child reports, it does not end this process.
                log.warning("no PUN for %s: %s", pun.name, said)
                self._refuse(pun, {"refused": said}, REFUSAL_TIME)
            else:
                self._fail(pun, "the user's process could not be started")

    def _ended(self, pun: Pun, code: int) -> None:
        now = time.monotonic()
        pun.pid, pun.parent = 0, None
        self._close_report(pun)
        if pun.state == "starting":
            return self._fail(pun, "the user's process could not be started")
        if pun.state != "running":
            return  # It never was the user's process; its report told how that went.
        if code == -signal.SIGTERM:
            code = 0  # It was told to leave before it could hear.
        if code:
            log.warning("the PUN of %s ended with %s after %.1f s", pun.name, code, now - pun.since)
        pun.failures = pun.failures + 1 if code and now < pun.since + SHORT_LIFE else 0
        if pun.failures >= SHORT_LIVES:
            return self._fail(pun, "the user's process ends as soon as it starts")
        pun.state, pun.since = "resting", now
        assert pun.listener is not None  # From the next connection on there is work for another one.
        self._selector.register(pun.listener, selectors.EVENT_READ, lambda: self._queue_up(pun))

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
        pun.tell_waiting()

    def _signal(self, pun: Pun, number: int) -> None:
        if pun.pid and pun.parent:  # Without its preloader it is ended by the kernel (PR_SET_PDEATHSIG).
            pun.parent.signal(pun.pid, number)

    def _close_report(self, pun: Pun) -> None:
        self._working.discard(pun)
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
        del self._by_name[pun.name]
        try:
            launch.remove(self.settings.folder(pun.name))
        except OSError as error:
            log.error("the socket of %s stays: %s", pun.name, error)
