"""The PUNs of all users: which exist, what state each is in, and when the next one starts. Runs as root.

There is one Pun for each requested uid. It keeps its listener while processes come and go:

    queued ──its turn──▶ starting ──ready──▶ running ──ended──▶ resting ──a connection──▶ queued
                            │                                      └─not requested──▶ forgotten, its socket removed
                            └─refused, failed, timed out──▶ refused: its socket removed, the same answer for a while

Starts are paced: only as many are in progress as the machine can handle at once. The others wait in a queue.
"""

import logging
import os
import resource
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from spawner import launch, wire
from spawner.child import MAX_REPORT_BYTES, READY, REFUSED, WAITS_FOR
from spawner.eligible import Refused, Rules, check_name
from spawner.launch import Preloader, Settings
from spawner.pun import Pun, Reply

TICK_S = 0.5  # The time between two calls of ``advance``.
# Enough to keep the processors busy while some starts wait for a directory server. With many more, each start would
# take so long that all of them would exceed START_TIMEOUT_S.
STARTS_PER_CPU = 8
STALLED_AFTER_S = 1.0  # A start without a report for this long is stalled, and another one may begin in its place.
START_TIMEOUT_S = 10.0  # The time for a forked child to become its user and enter the home directory.
FORK_TIMEOUT_S = 30.0  # The time for the preloader to fork. It may have to import the app first.
REFUSAL_TTL_S = 2.0  # A refusal by the rules is repeated for this long without another try.
MAX_BACKOFF_S = 60.0  # The longest time for which a failure is repeated. The time doubles with each failure.
# A PUN that fails within CRASH_WITHIN_S has crashed. After MAX_CRASHES crashes in a row, the next start is delayed.
CRASH_WITHIN_S, MAX_CRASHES = 5.0, 5
# A listener that the hook does not request is kept for RESTING_TTL_S, or only for MIN_RESTING_S if there are too many.
# nginx connects within seconds of a request.
RESTING_TTL_S, MIN_RESTING_S = 600.0, 60.0
MAX_LISTED = 500  # The maximum number of rows in an answer to ``ps``. More might not fit into a message.

log = logging.getLogger("punway.spawner")


class Children:
    """All PUNs, driven by the selector's events and by ``advance``.

    ``clock`` returns seconds. ``start_preloader`` starts a preloader process.
    """

    def __init__(
        self,
        settings: Settings,
        selector: selectors.BaseSelector,
        clock: Callable[[], float] = time.monotonic,
        start_preloader: Callable[[Settings], Preloader] = Preloader,
    ) -> None:
        self.settings = settings
        self.puns: dict[int, Pun] = {}
        self.max_starts = STARTS_PER_CPU * len(os.sched_getaffinity(0))
        self.max_resting = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._clock, self._start_preloader = clock, start_preloader
        self._by_name: dict[str, Pun] = {}  # PUNs with a listener, by the name of the listener's folder.
        self._by_pid: dict[int, Pun] = {}  # Children of the current preloader.
        self._queue: deque[Pun] = deque()
        self._active: set[Pun] = set()  # Starts in progress, except stalled ones.
        self._next_check = 0.0
        self._selector = selector
        self._preloader: Preloader | None = None
        self._old_preloaders: list[Preloader] = []  # Those from before a reload. Their PUNs finish requests in flight.
        self._new_preloader()

    def ensure(self, reply: Reply, uid: int, name: str) -> None:
        """Make sure that the user has a PUN. Reply with its socket's path or with a refusal."""
        now = self._clock()
        pun = self.puns.get(uid)
        if pun and pun.state == "refused" and pun.name == name and now < pun.refused_until:
            return reply(pun.answer(now))
        try:
            check_name(name, Rules(**self.settings.spawn_settings["rules"]))
            if self._by_name.get(name, pun) is not pun:
                raise Refused(f"{name} is now the name of another user")
            if pun and pun.listener and pun.name != name:
                if pun.state != "resting":
                    raise Refused(f"uid {uid} is served here as {pun.name}, not as {name}")
                self._close_listener(pun)  # The account may have been renamed; the child looks it up.
            if pun is None or pun.listener is None:
                path, listener = launch.bind(self.settings, name)
                pun = Pun(uid, name, path, listener, failures=pun.failures if pun else 0)
                self.puns[uid] = self._by_name[name] = pun
                self._queue_start(pun)
        except Refused as refusal:
            return reply({"refused": str(refusal)})
        except OSError as error:
            log.error("failed to make a socket for %s: %s", name, error)
            return reply({"unavailable": "the portal cannot create the user's socket", "retry_after": 10})
        pun.requested_at = now
        if pun.state == "resting":
            # Start the PUN now and not at the first connection. The assertion that nginx gets is valid for a minute,
            # and the PUN may be in the queue for longer.
            self._queue_start(pun)
        if pun.state in ("queued", "starting"):
            pun.waiting.append(reply)
        else:
            reply(pun.answer(now))

    def ping(self, reply: Reply) -> None:
        """Reply that the spawner is alive."""
        reply({"pong": True})

    def ps(self, reply: Reply) -> None:
        """Reply with a row for each PUN, at most MAX_LISTED of them, and with the number of PUNs."""
        now, puns = self._clock(), [pun for pun in self.puns.values() if pun.pid]
        reply({"puns": [pun.row(now) for pun in puns[:MAX_LISTED]], "count": len(puns)})

    def stop(self, reply: Reply, name: str) -> None:
        """Stop a user's PUN after its requests in flight. Reply whether there was one."""
        pun = self._by_name.get(name)
        found = pun is not None and pun.pid > 0
        if pun and pun.report >= 0:
            pun.stop_when_serving = True
        elif pun and found:
            self._signal(pun, signal.SIGTERM)
        reply({"stopped": found})

    def reload(self, reply: Reply) -> None:
        """Start a new preloader, which imports new code. The PUNs of the old one finish their requests in flight."""
        old, self._preloader = self._preloader, None
        self._new_preloader()
        if old:
            old.let_go()
            self._old_preloaders.append(old)
            self._restart_puns_of(old)
        reply({"reloaded": True})

    def end(self) -> None:
        """End all PUNs and remove all sockets, when the spawner ends."""
        for pun in self.puns.values():
            self._close_report(pun)
            self._close_listener(pun)
        preloaders = [*self._old_preloaders, *([self._preloader] if self._preloader else [])]
        for preloader in preloaders:
            preloader.channel.close()
        for preloader in preloaders:
            preloader.process.wait()

    def advance(self) -> None:
        """Do everything that is due. Must be called after each round of the selector's events, and every TICK_S."""
        now = self._clock()
        if now >= self._next_check:
            self._next_check = now + TICK_S
            self._check_times(now)
        if self._preloader:
            self._preloader.flush()
        while self._queue and len(self._active) < self.max_starts and self._start(self._queue[0]):
            self._queue.popleft()

    def _check_times(self, now: float) -> None:
        """Give up on starts that take too long, and forget what has expired."""
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # Reap a preloader that has ended.
        for pun in [pun for pun in self._active if pun.reported and now > pun.reported_at + STALLED_AFTER_S]:
            self._active.remove(pun)
        self.puns = {
            u: p for u, p in self.puns.items() if p.state != "refused" or now < p.refused_until + MAX_BACKOFF_S
        }
        for pun in self.puns.values():
            if pun.state == "starting" and pun.pid and now > pun.state_since + START_TIMEOUT_S:
                self._signal(pun, signal.SIGKILL)
                self._fail(pun, f"{WAITS_FOR.get(pun.reported[-1:], 'the new process')} does not answer")
            elif pun.state == "starting" and not pun.pid and now > pun.state_since + FORK_TIMEOUT_S and pun.parent:
                log.error("the preloader has not forked within the time limit; killing it")
                pun.parent.process.kill()
        resting = sorted((p for p in self.puns.values() if p.state == "resting"), key=lambda p: p.last_used)
        for number, pun in enumerate(resting):
            too_many = number < len(resting) - self.max_resting
            if now > pun.last_used + (MIN_RESTING_S if too_many else RESTING_TTL_S):
                self._close_listener(pun)
                del self.puns[pun.uid]

    def _queue_start(self, pun: Pun) -> None:
        """Put a PUN into the queue of starts."""
        if pun.state == "resting":
            assert pun.listener is not None
            self._selector.unregister(pun.listener)
        pun.state, pun.state_since = "queued", self._clock()
        self._queue.append(pun)

    def _start(self, pun: Pun) -> bool:
        """Hand a start to the preloader. Return False if its channel is full; the start then stays in the queue."""
        assert pun.listener is not None
        start = {"start": pun.uid, "name": pun.name, "spawn_settings": self.settings.spawn_settings}
        try:
            parent = self._preloader or self._new_preloader()
            ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            log.error("failed to start a process for %s: %s", pun.name, error)
            self._fail(pun, "the portal cannot start processes at the moment")
            return True
        try:
            wire.send(parent.channel, start, (pun.listener.fileno(), theirs))
        except OSError:
            # The channel is full or the preloader has ended. The next event of the channel or tick tries again.
            os.close(ours)
            return False
        finally:
            os.close(theirs)
        pun.state, pun.state_since, pun.parent = "starting", self._clock(), parent
        pun.report, pun.reported, pun.stop_when_serving = ours, b"", False
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._read_report(pun))
        self._active.add(pun)
        return True

    def _new_preloader(self) -> Preloader:
        """Start a preloader and listen to it."""
        preloader = self._preloader = self._start_preloader(self.settings)
        self._selector.register(preloader.channel, selectors.EVENT_READ, lambda: self._read_preloader(preloader))
        return preloader

    def _read_preloader(self, preloader: Preloader) -> None:
        """Read one message of a preloader: a child has started or has ended."""
        try:
            received = wire.receive(preloader.channel)
        except (OSError, wire.Malformed) as error:
            log.error("failed to read from the preloader: %s", error)
            received = None
        if received is None:
            self._selector.unregister(preloader.channel)
            preloader.channel.close()
            if preloader in self._old_preloaders:
                return self._old_preloaders.remove(preloader)
            log.error("the preloader has ended; starting another one for the next PUN")
            self._preloader = None
            self._restart_puns_of(preloader)
        elif preloader in self._old_preloaders:
            return  # PUNs from before a reload are not tracked any more.
        elif "started" in received[0]:
            if pun := self.puns.get(received[0]["started"]):
                pun.pid = received[0]["pid"]
                self._by_pid[pun.pid] = pun
                if pun.state == "starting":
                    pun.state_since = self._clock()
        elif pun := self._by_pid.pop(received[0]["ended"], None):
            # Its last report may still be unread in the pipe.
            with suppress(BlockingIOError):  # Another process of the user keeps the pipe open.
                while pun.report >= 0:
                    self._read_report(pun)
            self._child_ended(pun, os.waitstatus_to_exitcode(received[0]["status"]))

    def _restart_puns_of(self, preloader: Preloader) -> None:
        """Treat the running PUNs of a preloader as ended, and hand its unfinished starts to the next preloader."""
        self._by_pid.clear()
        for pun in [pun for pun in self.puns.values() if pun.parent is preloader]:
            if pun.state == "starting":
                self._close_report(pun)
                pun.pid, pun.parent, pun.failures = 0, None, pun.failures + 1
                if pun.failures < MAX_CRASHES:
                    self._queue_start(pun)
                else:
                    self._fail(pun, "the portal cannot start processes at the moment")
            else:
                self._child_ended(pun, 0)

    def _read_report(self, pun: Pun) -> None:
        """Read a child's report about its start. The end of the pipe means that the child serves, or has ended."""
        data = os.read(pun.report, MAX_REPORT_BYTES)
        if data and pun.state == "starting" and len(pun.reported) < MAX_REPORT_BYTES:
            pun.reported, pun.reported_at = pun.reported + data, self._clock()
            self._active.add(pun)
            if pun.reported.endswith(READY) and REFUSED not in pun.reported:
                pun.state, pun.state_since = "running", pun.reported_at
                pun.answer_waiting(pun.reported_at)
            return
        self._close_report(pun)
        if pun.stop_when_serving:
            self._signal(pun, signal.SIGTERM)
        if pun.state == "starting":
            _, refused, rule = pun.reported.partition(REFUSED)
            if refused:
                # A child's report may be any bytes, and must not end the spawner.
                reason = rule.decode(errors="replace")
                log.warning("refused a PUN for %s: %s", pun.name, reason)
                self._refuse(pun, {"refused": reason}, REFUSAL_TTL_S)
            else:
                self._fail(pun, "the user's process could not be started")

    def _child_ended(self, pun: Pun, code: int) -> None:
        """Record the end of a PUN's process. ``code`` is its exit code, or minus the number of a signal."""
        now = self._clock()
        pun.pid, pun.parent = 0, None
        self._close_report(pun)
        if pun.state == "starting":
            return self._fail(pun, "the user's process could not be started")
        if pun.state != "running":
            return  # It never became the user's process, and its report has been handled.
        if code == -signal.SIGTERM:
            code = 0  # SIGTERM stopped the process before it had a handler for it.
        if code:
            log.warning("the PUN of %s ended with %s after %.1f s", pun.name, code, now - pun.state_since)
        pun.failures = pun.failures + 1 if code and now < pun.state_since + CRASH_WITHIN_S else 0
        if pun.failures >= MAX_CRASHES:
            return self._fail(pun, "the user's process ends as soon as it starts")
        pun.state, pun.state_since = "resting", now
        assert pun.listener is not None
        # The next connection starts another process.
        self._selector.register(pun.listener, selectors.EVENT_READ, lambda: self._queue_start(pun))

    def _fail(self, pun: Pun, why: str) -> None:
        """Refuse a PUN because of a failure. Each failure in a row doubles the time of the refusal."""
        pun.failures += 1
        wait = min(MAX_BACKOFF_S, 2.0**pun.failures)
        log.error("failed to start a PUN for %s: %s; the next try is in %d s at the earliest", pun.name, why, wait)
        self._refuse(pun, {"unavailable": why}, wait)

    def _refuse(self, pun: Pun, refusal: wire.Message, seconds: float) -> None:
        """Remove a PUN's socket, answer all waiting requests, and repeat the refusal to new ones for ``seconds``."""
        self._close_report(pun)
        self._close_listener(pun)
        now = self._clock()
        pun.state, pun.refusal, pun.refused_until = "refused", refusal, now + seconds
        pun.answer_waiting(now)

    def _signal(self, pun: Pun, number: int) -> None:
        """Send a signal to a PUN's process, through its preloader."""
        if pun.pid and pun.parent:  # If its preloader has ended, the kernel ends the process (PR_SET_PDEATHSIG).
            pun.parent.signal(pun.pid, number)

    def _close_report(self, pun: Pun) -> None:
        """Stop reading a child's report."""
        self._active.discard(pun)
        if pun.report >= 0:
            self._selector.unregister(pun.report)
            os.close(pun.report)
            pun.report = -1

    def _close_listener(self, pun: Pun) -> None:
        """Close a PUN's listener and remove its socket."""
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
            log.error("failed to remove the socket of %s: %s", pun.name, error)
