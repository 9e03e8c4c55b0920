"""Tests of spawner/main.py as a process, in single-user mode: PUNs that end, and peers that misbehave.

They run all of the spawner: launch.py, pun.py, wire.py and child.py have no test module of their own.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spawner import wire

APP_SETTINGS = json.dumps(
    {
        "run_dir": "/nonexistent",
        "site_docs": "/nonexistent",
        "clusters": "/nonexistent",
        "threads": 1,
        "idle_timeout": 1,
        "max_lifetime": 60,
        "max_body": 10,
        "public_url": "http://127.0.0.1",
        "origin": "http://127.0.0.1",
        "metadata_url": "",
        "token_longest": 3600,
        "token_never": False,
        "token_scopes": [],
    }
)
# Root can have no PUN, so root's test run starts the spawner as nobody. tests/system/ tests it as root.
USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def wait(until: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


class Spawner:
    """A spawner process, and a client of it."""

    def __init__(self, folder: Path, start_method: str, app_settings: str) -> None:
        self.folder = folder
        rules = {
            "min_uid": 1,
            "user_regex": ".*",
            "disabled_shells": [],
            "deny_users": [],
            "allow_groups": [],
            "only_uid": USER.pw_uid,
        }
        settings = {
            "run_dir": str(folder), "hook_uid": USER.pw_uid, "nginx_gid": USER.pw_gid, "start_method": start_method,
            "app": "pun_app.server:serve",
            "spawn_settings": {"rules": rules, "change_ids": False, "no_new_privs": False, "environment": {"HOME": "/"}, "app_settings": app_settings},
        }  # fmt: skip
        self.log = folder / "log"
        as_user: dict[str, Any] = (
            {"user": USER.pw_uid, "group": USER.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "spawner.main"],
                stdin=subprocess.PIPE,
                stderr=log,
                cwd="/",
                **as_user,
            )
        assert self.process.stdin
        self.process.stdin.write(json.dumps(settings).encode())
        self.process.stdin.close()
        wait(lambda: b"ready" in self.log.read_bytes())

    def ask(self, request: str, **fields: object) -> dict[str, Any]:
        """Send one request. Return the answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(20)
            connection.connect(str(self.folder / "spawner.sock"))
            connection.sendall(json.dumps({"id": 1, "ask": request, **fields}).encode())
            answer: dict[str, Any] = json.loads(connection.recv(65_536))
            return answer

    def ensure(self) -> dict[str, Any]:
        return self.ask("ensure", uid=USER.pw_uid, name=USER.pw_name)

    def get(self) -> bytes:
        """Send the user's PUN a request without an assertion. Return the start of its answer, which is a 401."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.folder / "puns" / USER.pw_name / "pun.sock"))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(12)


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Spawner]]:
    """Return a function that starts spawners. Check at the end that each of them leaves nothing behind."""
    top = Path(tempfile.mkdtemp(prefix="pws-", dir="/tmp"))
    started: list[Spawner] = []

    def start(start_method: str = "fork", app_settings: str = APP_SETTINGS) -> Spawner:
        folder = top / str(len(started))
        folder.mkdir()
        os.chown(folder, USER.pw_uid, USER.pw_gid)
        started.append(Spawner(folder, start_method, app_settings))
        return started[-1]

    top.chmod(0o755)
    yield start
    for spawner in started:
        spawner.process.terminate()
        assert spawner.process.wait(30) == 0
        assert list((spawner.folder / "puns").iterdir()) == []
    shutil.rmtree(top)


START_METHODS = pytest.mark.parametrize("start_method", ["fork", "exec"])


@START_METHODS
def test_a_pun_comes_goes_and_comes_again(start: Callable[..., Spawner], start_method: str) -> None:
    """After idle_timeout a PUN ends. The next connection to the same socket starts another one."""
    spawner = start(start_method)
    answer = spawner.ensure()
    assert answer["socket"] == str(spawner.folder / "puns" / USER.pw_name / "pun.sock")
    assert spawner.get() == b"HTTP/1.1 401"
    (first,) = spawner.ask("ps")["puns"]
    wait(lambda: spawner.ask("ps")["count"] == 0)
    assert spawner.get() == b"HTTP/1.1 401"
    (second,) = spawner.ask("ps")["puns"]
    assert (first["state"], second["state"]) == ("running", "running")
    assert first["pid"] != second["pid"]


@START_METHODS
def test_a_crash_loop_ends_in_a_wait(start: Callable[..., Spawner], start_method: str) -> None:
    """After MAX_CRASHES the socket is removed, the answer says when to retry, and the log has each failure."""
    spawner = start(start_method, "no settings")
    assert "socket" in spawner.ensure()

    def refused() -> bool:
        try:
            spawner.get()
        except OSError:
            pass  # The socket was removed, before this connection or while it was queued.
        return "unavailable" in spawner.ensure()

    wait(refused)
    answer = spawner.ensure()
    assert "ends as soon as it starts" in answer["unavailable"]
    assert 1 <= answer["retry_after"] <= 64
    assert not (spawner.folder / "puns" / USER.pw_name).exists()
    assert spawner.log.read_bytes().count(b"ended with 1") >= 5


def test_a_reload_loses_no_request(start: Callable[..., Spawner]) -> None:
    """A reload loses neither requests for a running PUN nor those for a starting one."""
    spawner = start()
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(spawner.ensure) for _ in range(8)]
            assert pool.submit(spawner.ask, "reload").result()["reloaded"]
            assert all("socket" in answer.result() for answer in asked)
        assert spawner.get() == b"HTTP/1.1 401"


def test_stop(start: Callable[..., Spawner]) -> None:
    """stop ends the PUN of a user, and reports whether there was one."""
    spawner = start()
    assert spawner.ask("stop", name=USER.pw_name)["stopped"] is False
    spawner.ensure()
    assert spawner.ask("stop", name=USER.pw_name)["stopped"] is True
    wait(lambda: spawner.ask("ps")["count"] == 0)


def test_peers_that_do_not_read_or_are_too_many(start: Callable[..., Spawner]) -> None:
    """They lose their own connections, and no other client waits for them."""
    spawner = start()
    peers = []
    for _ in range(70):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect(str(spawner.folder / "spawner.sock"))
        peers.append(peer)
    wait(lambda: b"rejected a connection" in spawner.log.read_bytes())
    for peer in peers:
        peer.close()
    wait(lambda: spawner.ask("ping")["pong"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.connect(str(spawner.folder / "spawner.sock"))
        deaf.setblocking(False)
        try:
            for number in range(100_000):
                deaf.send(json.dumps({"id": number, "ask": "ping"}).encode())
        except OSError:
            pass  # The spawner has closed it, or its queue is full.
        assert spawner.ask("ping")["pong"]


@pytest.mark.parametrize(
    "message", [b"{", b"", b"[]", b'{"id": 1, "ask": "ping"}', b'{"id": 1, "ask": "open"}', b"x" * 70_000],
    ids=["not JSON", "empty", "not an object", "well-formed", "unknown", "too long"],
)  # fmt: skip
def test_descriptors_that_come_with_a_message_do_not_stay(start: Callable[..., Spawner], message: bytes) -> None:
    """The spawner closes the descriptors that come with any message, good or bad."""
    spawner = start()
    spawner.ask("ping")
    folder = Path(f"/proc/{spawner.process.pid}/fd")
    before = len(list(folder.iterdir()))
    null = os.open("/dev/null", os.O_RDONLY)
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(20)
            peer.connect(str(spawner.folder / "spawner.sock"))
            socket.send_fds(peer, [message], [null] * 8)
            assert peer.recv(65_536) == b""
    os.close(null)
    wait(lambda: len(list(folder.iterdir())) <= before)


@pytest.mark.parametrize("descriptors", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("message", [b"{", b"", b"[]", b"{}"], ids=["not JSON", "empty", "not an object", "good"])
def test_a_malformed_message_leaves_no_descriptor(message: bytes, descriptors: int) -> None:
    """The preloader, which accepts two descriptors with a message, closes those of a malformed one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(ours, [message], [ours.fileno()] * descriptors)
        try:
            received = wire.receive(theirs, descriptors=2)
        except wire.Malformed:
            received = None
        assert (received is not None) == (message == b"{}" and descriptors <= 2)
        for descriptor in received[1] if received else []:
            os.close(descriptor)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_of_someone_elses_is_not_used(start: Callable[..., Spawner], tmp_path: Path) -> None:
    """If a user's folder is a symbolic link, no socket is made at its target."""
    spawner = start()
    (spawner.folder / "puns" / USER.pw_name).symlink_to(tmp_path)
    assert "cannot create" in spawner.ensure()["unavailable"]
    assert list(tmp_path.iterdir()) == []
    (spawner.folder / "puns" / USER.pw_name).unlink()
