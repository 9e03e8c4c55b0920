"""spawner/children.py: whose turn it is, with a preloader whose part the test plays over a real channel."""

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
    """The preloader's process, of which the spawner wants its end alone."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> None:
        pass


class HandPreloader(launch.Preloader):
    """Stands where the preloader's process would: what it was handed is in ``starts``, with the child's report."""

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
        """Take all messages that there are, unless it is paused; whether there were any."""
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

    def fork(self, uid: int, *news: bytes) -> None:
        wire.send(self.theirs, {"started": uid, "pid": uid})
        for said in news:
            os.write(self.starts[uid], said)

    def serve(self, uid: int) -> None:
        """Have a PUN get as far as serving."""
        self.fork(uid, b"L", b"U", b"R")
        os.close(self.starts.pop(uid))

    def end(self, uid: int, status: int = 0) -> None:
        if uid in self.starts:
            os.close(self.starts.pop(uid))
        wire.send(self.theirs, {"ended": uid, "status": status})

    def close(self) -> None:
        self.take()
        for report in self.starts.values():
            os.close(report)
        self.theirs.close()


class World:
    """Children without a spawner around them. ``answers`` is what each uid was answered."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.preloaders: list[HandPreloader] = []
        monkeypatch.setattr(module, "Preloader", self._preload)
        settings = Settings(str(folder), os.geteuid(), os.getegid(), "fork", "x:y", {"rules": RULES})
        launch.prepare_folder(settings)
        self.selector = selectors.DefaultSelector()
        self.children = Children(settings, self.selector)
        self.answers: dict[int, list[dict[str, Any]]] = {}

    def _preload(self, settings: Settings) -> HandPreloader:
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
        """Let everything happen that can."""
        while True:
            self.children._next_look = 0.0
            self.children.advance()
            taken = self.preloader.take()
            events = self.selector.select(0)
            if not events and not taken:
                return
            for key, _ in events:
                if self.selector.get_map().get(key.fd) is key:
                    key.data()

    def state(self, uid: int) -> str:
        return self.children.puns[uid].state

    def close(self) -> None:
        self.children.end()
        for pun in self.children.puns.values():
            self.children._close_report(pun)
        for preloader in self.preloaders:
            preloader.channel.close()
            preloader.close()
        self.selector.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    world.close()


def test_starts_are_paced(world: World) -> None:
    """No more are in progress than the machine can do at once; the others follow in the order in which they came."""
    world.children._at_once = 3
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
    """What a PUN does between becoming its user and serving is work, too; its user is answered before."""
    world.children._at_once = 1
    world.ensure(1, 2)
    world.preloader.fork(1, b"LU", b"R")
    world.turn()
    assert "socket" in world.answers[1][0]
    assert 2 not in world.preloader.starts
    os.close(world.preloader.starts.pop(1))
    world.turn()
    assert 2 in world.preloader.starts


@pytest.mark.parametrize("stage", [b"L", b"U"])
def test_starts_that_wait_for_somebody_hold_nobody_up(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: bytes
) -> None:
    """Any number that hangs in the name service or in a home leaves its place to others; one that goes on counts."""
    world.children._at_once = 2
    world.ensure(*range(1, 11))
    monkeypatch.setattr(module, "WAITING_TIME", -1.0)
    for uid in range(1, 8):
        world.preloader.fork(uid, stage)
        world.turn()
    assert list(world.preloader.starts) == list(range(1, 10))  # 8 and 9 have not been forked: they count.
    monkeypatch.setattr(module, "WAITING_TIME", 60.0)
    os.write(world.preloader.starts[1], b"U")
    world.turn()
    world.preloader.serve(8)
    world.turn()
    assert 10 not in world.preloader.starts


def test_a_preloader_that_takes_nothing_just_now_loses_no_start(world: World) -> None:
    """A full channel is no failure: what does not fit waits, signals too, and goes when it fits."""
    world.children._at_once = 2000
    preloader = world.preloader
    preloader.paused = True
    world.ensure(*range(1, 1001))
    assert 0 < len(world.children._queue) < 1000
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
    """Neither those that were handed to it nor those that are queued."""
    world.children._at_once = 2
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
    """PUNs that run rest, those that start are started by the next preloader, the queue stays."""
    world.children._at_once = 2
    world.ensure(*range(1, 6))
    world.preloader.serve(1)
    world.turn()
    world.children.reload(lambda _: None)
    world.turn()
    assert world.state(1) == "resting"
    world.preloaders[0].end(1)  # Of an earlier preloader's PUN, whoever has its uid or pid by now.
    while world.preloader.starts:
        world.preloader.serve(next(iter(world.preloader.starts)))
        world.turn()
    assert {world.state(uid) for uid in range(2, 6)} == {"running"}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(world.answers[1][0]["socket"])
        world.turn()
        assert world.state(1) == "starting"


def test_a_stop_does_not_kill_what_starts(world: World) -> None:
    """A PUN that is told to leave before it can hear that hears it when it serves; its user is answered."""
    world.ensure(1)
    world.preloader.fork(1, b"L")
    world.turn()
    told: list[dict[str, Any]] = []
    world.children.stop(told.append, "u1")
    world.turn()
    assert (told, world.preloader.signals) == ([{"stopped": True}], [])
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
    """Not before its turn has come: what the hook then gives nginx for it would be too old."""
    rest(world, 1)
    world.children._at_once = 0
    world.ensure(1)
    assert (world.state(1), len(world.answers[1])) == ("queued", 1)
    world.children._at_once = 1
    world.turn()
    world.preloader.serve(1)
    world.turn()
    assert (world.state(1), len(world.answers[1])) == ("running", 2)


def test_the_clock_of_a_start_runs_from_its_fork_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that is queued, in the spawner or in the preloader, is not late; one that was forked and hangs is."""
    world.children._at_once = 2
    monkeypatch.setattr(module, "START_TIME", -1.0)
    world.ensure(1, 2, 3)
    assert not any(world.answers.values())
    world.preloader.fork(1, b"LU")
    world.turn()
    assert world.answers[1] == [{"unavailable": "the home directory does not answer", "retry_after": 2}]
    assert world.preloader.signals == [(1, 9)]
    assert not world.answers[2]


def test_a_preloader_that_does_not_fork_is_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end then has the next preloader start what it was handed."""
    world.ensure(1)
    assert not world.preloader.process.killed
    monkeypatch.setattr(module, "FORK_TIME", -1.0)
    world.turn()
    assert world.preloader.process.killed


def test_an_end_that_is_heard_before_the_report(world: World) -> None:
    """A PUN that served and ended while the spawner did something else is not taken for one that still runs."""
    world.ensure(1)
    preloader = world.preloader
    preloader.fork(1, b"LUR")
    preloader.end(1)
    received: list[str] = []
    while len(received) < 2:
        world.children._hear(preloader)
        received.append(world.state(1))
    assert received == ["starting", "resting"]
    assert "socket" in world.answers[1][0]


def test_a_report_that_goes_on_is_not_listened_to(world: World) -> None:
    """From the moment that a PUN is its user's, what it writes has a bound, and costs one look once it has said all."""
    world.ensure(1, 2)
    world.preloader.fork(1, b"LUR")
    world.preloader.fork(2, b"LU")
    world.turn()
    for uid in (1, 2):
        os.write(world.preloader.starts[uid], b"x" * 3 * module.REPORT_SIZE)
    world.turn()
    assert [world.children.puns[uid].report for uid in (1, 2)] == [-1, -1]
    assert len(world.children.puns[1].news) == 3
    assert len(world.children.puns[2].news) < 2 * module.REPORT_SIZE
    assert "unavailable" in world.answers[2][0]


def rest(world: World, *uids: int) -> None:
    world.ensure(*uids)
    for uid in uids:
        world.preloader.serve(uid)
        world.turn()
        world.preloader.end(uid)
        world.turn()
    assert {world.state(uid) for uid in uids} == {"resting"}


def test_a_rule_that_is_no_text_ends_nothing(world: World) -> None:
    """Bytes that are not UTF-8 in a child's report refuse that user; the spawner and the others go on."""
    world.ensure(1, 2)
    world.preloader.fork(1, b"L", b"!\xff\xfe")
    world.preloader.end(1)
    world.preloader.serve(2)
    world.turn()
    assert "\ufffd" in world.answers[1][0]["refused"]
    assert "socket" in world.answers[2][0]


def test_the_listener_of_a_user_who_left_is_freed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its folder, its descriptor and its row; and the user's next request has another."""
    rest(world, 1)
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, "RESTING_TIME", 0.0)
    world.turn()
    assert not world.children.puns
    assert list((tmp_path / "puns").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before - 1
    world.ensure(1)
    world.preloader.serve(1)
    world.turn()
    assert "socket" in world.answers[1][-1]


def test_a_listener_that_is_asked_for_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the hook asks for it, and at least for as long as an answer of the hook is used."""
    rest(world, 1, 2)
    monkeypatch.setattr(module, "RESTING_TIME", 1000.0)
    for uid, asked in ((1, 2000), (2, 500)):
        world.children.puns[uid].since -= 2000
        world.children.puns[uid].asked -= asked
    world.turn()
    assert list(world.children.puns) == [2]
    world.children._most_resting = 0
    world.children.puns[2].asked += 500
    world.turn()
    assert list(world.children.puns) == [2]


def test_of_too_many_listeners_the_oldest_go_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What rests has a bound below the number of descriptors; those that were asked for lately stay."""
    rest(world, *range(1, 9))
    world.children._most_resting = 3
    monkeypatch.setattr(module, "SHORTEST_REST", -100.0)
    world.children.puns[2].asked += 10
    world.children.puns[1].asked += 11
    world.turn()
    assert sorted(world.children.puns) == [1, 2, 8]
