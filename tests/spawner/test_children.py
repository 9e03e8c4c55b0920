"""Tests of spawner/children.py, in which the test plays the preloader over a real channel. The clock is the test's."""

from __future__ import annotations

import os
import selectors
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spawner import children as module
from spawner import launch, wire
from spawner.children import Children
from spawner.launch import Settings

RULES = {
    "min_uid": 1, "user_regex": ".*", "disabled_shells": [], "deny_users": [], "allow_groups": [], "only_uid": None
}  # fmt: skip


class Process:
    """A substitute for the preloader's process, which the spawner only kills and waits for."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> None:
        pass


class HandPreloader(launch.Preloader):
    """A preloader that forks nothing. ``starts`` holds the report pipe of each uid whose start it has received."""

    def __init__(self, _settings: Settings) -> None:
        self.channel, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.theirs.setblocking(False)
        self._signals = deque()
        self.process = Process()  # type: ignore[assignment]
        self.paused = False
        self.starts: dict[int, int] = {}
        self.signals: list[tuple[int, int]] = []

    def take(self) -> bool:
        """Receive all pending messages, unless paused. Return whether there were any."""
        taken = False
        while not self.paused:
            try:
                received = wire.receive(self.theirs, descriptors=2)
            except BlockingIOError:
                break
            if received is None:
                break
            taken = True
            message, descriptors = received
            if "start" in message:
                os.close(descriptors[0])
                self.starts[message["start"]] = descriptors[1]
            else:
                self.signals.append((message["signal"], message["number"]))
        return taken

    def fork(self, uid: int, *reports: bytes) -> None:
        """Report that the PUN of this uid was forked, with the uid as its pid, and then what its child reports."""
        wire.send(self.theirs, {"started": uid, "pid": uid})
        for report in reports:
            os.write(self.starts[uid], report)

    def serve(self, uid: int) -> None:
        """Let a PUN start and serve."""
        self.fork(uid, b"L", b"U", b"R")
        os.close(self.starts.pop(uid))

    def end(self, uid: int, status: int = 0) -> None:
        """Let the process of a PUN end."""
        if uid in self.starts:
            os.close(self.starts.pop(uid))
        wire.send(self.theirs, {"ended": uid, "status": status})

    def close(self) -> None:
        self.take()
        for report in self.starts.values():
            os.close(report)
        self.theirs.close()


class World:
    """Children without a spawner around them. ``answers`` holds the answers to the requests for each uid."""

    def __init__(self, folder: Path) -> None:
        self.preloaders: list[HandPreloader] = []
        self.now = 0.0
        settings = Settings(str(folder), os.geteuid(), os.getegid(), "fork", "x:y", {"rules": RULES})
        launch.prepare_folder(settings)
        self.selector = selectors.DefaultSelector()
        self.children = Children(settings, self.selector, lambda: self.now, self._start_preloader)
        self.answers: dict[int, list[dict[str, Any]]] = {}

    def _start_preloader(self, settings: Settings) -> HandPreloader:
        self.preloaders.append(HandPreloader(settings))
        return self.preloaders[-1]

    @property
    def preloader(self) -> HandPreloader:
        return self.preloaders[-1]

    def ensure(self, *uids: int) -> None:
        for uid in uids:
            self.children.ensure(self.answers.setdefault(uid, []).append, uid, f"u{uid}")
        self.turn()

    def turn(self) -> None:
        """Handle events until there are none."""
        while True:
            self.children.advance()
            taken = self.preloader.take()
            events = self.selector.select(0)
            if not events and not taken:
                return
            for key, _ in events:
                if self.selector.get_map().get(key.fd) is key:
                    key.data()

    def wait(self, seconds: float) -> None:
        """Let some time pass, and handle events."""
        self.now += seconds
        self.turn()

    def state(self, uid: int) -> str:
        return self.children.puns[uid].state

    def close(self) -> None:
        self.children.end()
        for preloader in self.preloaders:
            preloader.channel.close()
            preloader.close()
        self.selector.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_starts_are_paced(world: World) -> None:
    """Only ``max_starts`` are in progress at once. The others follow in the order of their requests."""
    world.children.max_starts = 3
    world.ensure(*range(1, 11))
    assert list(world.preloader.starts) == [1, 2, 3]
    world.preloader.serve(2)
    world.turn()
    assert list(world.preloader.starts) == [1, 3, 4]
    assert "socket" in world.answers[2][0]
    served = {2}
    while len(served) < 10:
        uid = next(iter(world.preloader.starts))
        world.preloader.serve(uid)
        served.add(uid)
        world.turn()
    assert all("socket" in answers[0] for answers in world.answers.values())


def test_a_start_counts_until_it_serves(world: World) -> None:
    """A start ends when the PUN serves, although its user is answered as soon as it has become the user."""
    world.children.max_starts = 1
    world.ensure(1, 2)
    world.preloader.fork(1, b"LU", b"R")
    world.turn()
    assert "socket" in world.answers[1][0]
    assert 2 not in world.preloader.starts
    os.close(world.preloader.starts.pop(1))
    world.turn()
    assert 2 in world.preloader.starts


@pytest.mark.parametrize("stage", [b"L", b"U"], ids=["name service", "home"])
def test_starts_that_wait_for_somebody_hold_nobody_up(world: World, stage: bytes) -> None:
    """Starts that hang in the name service or in a home leave their places to others, until they make progress."""
    world.children.max_starts = 2
    world.ensure(*range(1, 11))
    for uid in range(1, 8):
        world.preloader.fork(uid, stage)
        world.turn()
        world.wait(module.STALLED_AFTER_S + 0.1)
    assert list(world.preloader.starts) == list(range(1, 10))  # 8 and 9 have not been forked: they count.
    os.write(world.preloader.starts[7], b"U")
    world.turn()
    world.preloader.serve(8)
    world.turn()
    assert 10 not in world.preloader.starts


def test_a_preloader_that_takes_nothing_just_now_loses_no_start(world: World) -> None:
    """Starts and signals that do not fit into a full channel are sent later, and none fails."""
    world.children.max_starts = 2000
    preloader = world.preloader
    preloader.paused = True
    world.ensure(*range(1, 1001))
    assert 0 < len(queued(world)) < 1000
    assert not any(world.answers.values())
    preloader.paused = False
    world.turn()
    assert list(preloader.starts) == list(range(1, 1001))
    for uid in range(1, 1001):
        preloader.serve(uid)
        world.turn()
    assert all("socket" in answers[0] for answers in world.answers.values())
    preloader.paused = True
    for uid in range(1, 1001):
        world.children.stop(lambda _: None, f"u{uid}")
    world.turn()
    preloader.paused = False
    world.turn()
    assert preloader.signals == [(uid, 15) for uid in range(1, 1001)]


def test_a_preloaders_end_loses_no_start(world: World) -> None:
    """The next preloader gets both the starts that the old one had received and the queued ones."""
    world.children.max_starts = 2
    world.ensure(*range(1, 6))
    world.preloader.fork(1, b"L")
    first = world.preloader
    first.theirs.shutdown(socket.SHUT_RDWR)
    world.turn()
    world.turn()
    assert world.preloader is not first
    while world.preloader.starts:
        world.preloader.serve(next(iter(world.preloader.starts)))
        world.turn()
    assert all("socket" in answers[0] for answers in world.answers.values())
    assert set(world.answers) == {1, 2, 3, 4, 5}


def test_a_reload_has_everybody_start_again(world: World) -> None:
    """After a reload running PUNs are resting, starting ones start with the next preloader, and the queue is kept."""
    world.children.max_starts = 2
    world.ensure(*range(1, 6))
    world.preloader.serve(1)
    world.turn()
    world.children.reload(lambda _: None)
    world.turn()
    assert world.state(1) == "resting"
    world.preloaders[0].end(1)  # From the old preloader: ignored, whatever PUN now has this uid or pid.
    while world.preloader.starts:
        world.preloader.serve(next(iter(world.preloader.starts)))
        world.turn()
    assert {world.state(uid) for uid in range(2, 6)} == {"running"}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(world.answers[1][0]["socket"])
        world.turn()
        assert world.state(1) == "starting"


def test_a_stop_does_not_kill_what_starts(world: World) -> None:
    """A starting PUN is sent SIGTERM only once it serves, and its user is answered."""
    world.ensure(1)
    world.preloader.fork(1, b"L")
    world.turn()
    replies: list[dict[str, Any]] = []
    world.children.stop(replies.append, "u1")
    world.turn()
    assert (replies, world.preloader.signals) == ([{"stopped": True}], [])
    os.write(world.preloader.starts[1], b"UR")
    world.turn()
    assert "socket" in world.answers[1][0]
    os.close(world.preloader.starts.pop(1))
    world.turn()
    assert world.preloader.signals == [(1, 15)]
    world.preloader.end(1, status=15)
    world.turn()
    assert (world.state(1), world.children.puns[1].failures) == ("resting", 0)


def test_who_asks_for_a_pun_that_left_is_answered_when_there_is_another(world: World) -> None:
    """The answer waits for the turn of the new PUN; otherwise the assertion could expire in the queue."""
    rest(world, 1)
    world.children.max_starts = 0
    world.ensure(1)
    assert (world.state(1), len(world.answers[1])) == ("queued", 1)
    world.children.max_starts = 1
    world.turn()
    world.preloader.serve(1)
    world.turn()
    assert (world.state(1), len(world.answers[1])) == ("running", 2)


def test_the_clock_of_a_start_runs_from_its_fork_on(world: World) -> None:
    """A start times out after its fork, not while it is queued in the spawner or in the preloader."""
    world.children.max_starts = 2
    world.ensure(1, 2, 3)
    world.wait(module.START_TIMEOUT_S + 1)
    assert not any(world.answers.values())
    world.preloader.fork(1, b"LU")
    world.turn()
    world.wait(module.START_TIMEOUT_S + 1)
    assert world.answers[1] == [{"unavailable": "the home directory does not answer", "retry_after": 2}]
    assert world.preloader.signals == [(1, 9)]
    assert not world.answers[2]


def test_a_preloader_that_does_not_fork_is_killed(world: World) -> None:
    """A preloader that hangs is killed after FORK_TIMEOUT_S, so that the next one takes over its starts."""
    world.ensure(1)
    assert not world.preloader.process.killed
    world.wait(module.FORK_TIMEOUT_S + 1)
    assert world.preloader.process.killed


def test_an_end_that_is_heard_before_the_report(world: World) -> None:
    """A PUN that served and ended before the spawner read its report counts as ended, and its user is answered."""
    world.ensure(1)
    preloader = world.preloader
    preloader.fork(1, b"LUR")
    preloader.end(1)
    received: list[str] = []
    while len(received) < 2:
        world.selector.get_key(preloader.channel).data()
        received.append(world.state(1))
    assert received == ["starting", "resting"]
    assert "socket" in world.answers[1][0]


def test_a_report_that_goes_on_is_not_listened_to(world: World) -> None:
    """A user's process that keeps writing reports is read up to MAX_REPORT_BYTES, and then no more."""
    world.ensure(1, 2)
    world.preloader.fork(1, b"LUR")
    world.preloader.fork(2, b"LU")
    world.turn()
    for uid in (1, 2):
        os.write(world.preloader.starts[uid], b"x" * 3 * module.MAX_REPORT_BYTES)
    world.turn()
    assert [world.children.puns[uid].report for uid in (1, 2)] == [-1, -1]
    assert len(world.children.puns[1].reported) == 3
    assert len(world.children.puns[2].reported) < 2 * module.MAX_REPORT_BYTES
    assert "unavailable" in world.answers[2][0]


def queued(world: World) -> list[int]:
    """Return the uids of the queued starts."""
    return [pun.uid for pun in world.children.puns.values() if pun.state == "queued"]


def rest(world: World, *uids: int) -> None:
    """Let PUNs start, serve and end."""
    world.ensure(*uids)
    for uid in uids:
        world.preloader.serve(uid)
        world.turn()
        world.preloader.end(uid)
        world.turn()
    assert {world.state(uid) for uid in uids} == {"resting"}


def test_a_rule_that_is_no_text_ends_nothing(world: World) -> None:
    """Bytes that are not UTF-8 in a child's report refuse that user, and affect neither the spawner nor other users."""
    world.ensure(1, 2)
    world.preloader.fork(1, b"L", b"!\xff\xfe")
    world.preloader.end(1)
    world.preloader.serve(2)
    world.turn()
    assert "\ufffd" in world.answers[1][0]["refused"]
    assert "socket" in world.answers[2][0]


def test_the_listener_of_a_user_who_left_is_freed(world: World, tmp_path: Path) -> None:
    """The listener goes with its folder, descriptor and row. The user's next request makes another one."""
    rest(world, 1)
    before = len(os.listdir("/proc/self/fd"))
    world.wait(module.RESTING_TTL_S + 1)
    assert not world.children.puns
    assert list((tmp_path / "puns").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before - 1
    world.ensure(1)
    world.preloader.serve(1)
    world.turn()
    assert "socket" in world.answers[1][-1]


def test_a_listener_that_is_asked_for_stays(world: World) -> None:
    """A listener stays while the hook requests it, and at least as long as an answer to the hook is used."""
    rest(world, 1, 2)
    world.wait(module.RESTING_TTL_S / 2)
    rest(world, 2)
    world.wait(module.RESTING_TTL_S / 2 + 1)
    assert list(world.children.puns) == [2]
    world.children.max_resting = 0
    rest(world, 2)
    world.wait(module.MIN_RESTING_S - 1)
    assert list(world.children.puns) == [2]


def test_of_too_many_listeners_the_oldest_go_first(world: World) -> None:
    """If too many listeners rest, those that were requested most recently stay."""
    rest(world, *range(1, 9))
    for uid in (2, 1):
        world.wait(1)
        rest(world, uid)
    world.children.max_resting = 3
    world.wait(module.MIN_RESTING_S + 1)
    assert sorted(world.children.puns) == [1, 2, 8]
