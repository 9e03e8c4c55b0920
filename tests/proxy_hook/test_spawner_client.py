"""proxy_hook/spawner_client.py, with a spawner over a real socket that does not always read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from proxy_hook import spawner_client as module
from proxy_hook.accounts import UnixAccount
from proxy_hook.errors import HttpError
from proxy_hook.spawner_client import SpawnerClient

ACCOUNTS = [UnixAccount(1000 + number, f"user{number}") for number in range(500)]


class PausedSpawner(threading.Thread):
    """Takes one conversation, reads nothing of it until it is let go on, then answers everything."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen()
        self.go_on = threading.Event()
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # The test is over.
            self.go_on.wait()
            with connection, suppress(OSError):  # The client may have hung up by now.
                while data := connection.recv(65_536):
                    message = json.loads(data)
                    connection.sendall(json.dumps({"id": message["id"], "socket": f"/run/{message['name']}"}).encode())


@pytest.fixture
def paused(tmp_path: Path) -> Iterator[PausedSpawner]:
    spawner = PausedSpawner(tmp_path / "spawner.sock")
    yield spawner
    spawner.go_on.set()
    spawner.listener.shutdown(socket.SHUT_RDWR)
    spawner.join()
    spawner.listener.close()


Test = Callable[[SpawnerClient], Awaitable[None]]
Run = Callable[[Test], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test with a client, with a limit for a future that never ends."""

    async def with_client(test: Test) -> None:
        client = SpawnerClient(tmp_path / "spawner.sock")
        try:
            await asyncio.wait_for(test(client), 60)
        finally:
            client.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    def run(test: Test) -> None:
        loop = request.param()
        try:
            loop.run_until_complete(with_client(test))
        finally:
            loop.close()

    return run


async def until_full(client: SpawnerClient) -> None:
    """Wait until requests are queued behind a full buffer."""
    while len(client._unsent) < 100:
        await asyncio.sleep(0)


def test_a_paused_spawner_locks_nobody_out(run: Run, paused: PausedSpawner) -> None:
    """All of 500 first requests are answered, whatever the socket's buffer takes, and so is every later one."""

    async def test(client: SpawnerClient) -> None:
        asked = [asyncio.create_task(client.socket_of(account)) for account in ACCOUNTS]
        await until_full(client)
        paused.go_on.set()
        assert await asyncio.gather(*asked) == [f"/run/{account.name}" for account in ACCOUNTS]
        client._sockets.clear()
        again = await asyncio.gather(*(client.socket_of(account) for account in ACCOUNTS))
        assert again == [f"/run/{account.name}" for account in ACCOUNTS]

    run(test)


def test_the_deadline_covers_the_sending(run: Run, paused: PausedSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is given up behind a full buffer is answered 503, asks for nothing later, and may ask again."""

    async def test(client: SpawnerClient) -> None:
        monkeypatch.setattr(module, "START_DEADLINE_S", 0.2)
        refused = await asyncio.gather(*(client.socket_of(a) for a in ACCOUNTS), return_exceptions=True)
        assert {error.status for error in refused if isinstance(error, HttpError)} == {503}
        assert len(refused) == len([error for error in refused if isinstance(error, HttpError)])
        assert not client._unsent
        monkeypatch.setattr(module, "START_DEADLINE_S", 60.0)
        paused.go_on.set()
        assert [await client.socket_of(account) for account in ACCOUNTS[-3:]] == [
            "/run/user497",
            "/run/user498",
            "/run/user499",
        ]

    run(test)


def test_a_request_that_is_cancelled_takes_nobody_with_it(run: Run, paused: PausedSpawner) -> None:
    """Neither those that share its question nor those queued behind it."""

    async def test(client: SpawnerClient) -> None:
        asked = [asyncio.create_task(client.socket_of(account)) for account in ACCOUNTS]
        others = [asyncio.create_task(client.socket_of(account)) for account in ACCOUNTS]
        await until_full(client)
        for task in asked[::2]:
            task.cancel()
        await asyncio.sleep(0)
        paused.go_on.set()
        assert await asyncio.gather(*others) == [f"/run/{account.name}" for account in ACCOUNTS]

    run(test)


def test_a_spawner_that_ends_is_said_at_once(run: Run, paused: PausedSpawner) -> None:
    """Those whose request was sent and those behind the full buffer are answered 503; the next one connects again."""

    async def test(client: SpawnerClient) -> None:
        asked = [asyncio.create_task(client.socket_of(account)) for account in ACCOUNTS]
        await until_full(client)
        assert client._connection
        client._connection.shutdown(socket.SHUT_RDWR)  # To this side the same as the end of the other.
        refused = await asyncio.gather(*asked, return_exceptions=True)
        assert {getattr(error, "status", None) for error in refused} == {503}
        assert not client._asking
        paused.go_on.set()
        assert await client.socket_of(ACCOUNTS[0]) == "/run/user0"

    run(test)


def test_the_oldest_socket_is_forgotten_first(run: Run, paused: PausedSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of sockets has a bound, and what goes beyond it is not everybody's entry."""
    monkeypatch.setattr(module, "MAX_CACHED_SOCKETS", 3)
    paused.go_on.set()

    async def test(client: SpawnerClient) -> None:
        for account in ACCOUNTS[:5]:
            await client.socket_of(account)
        assert [account.name for account in client._sockets] == ["user2", "user3", "user4"]

    run(test)
