"""proxy_hook/spawner_client.py, with a fake spawner on a real socket that does not always read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy_hook.accounts import UnixAccount
from proxy_hook.errors import HttpError
from proxy_hook.spawner_client import SOCKET_TTL_S, SpawnerClient
from tests.clock import Clock

ACCOUNTS = [UnixAccount(1000 + number, f"user{number}") for number in range(500)]


class PausedSpawner(threading.Thread):
    """A spawner that reads nothing until ``go_on`` is set, and then responds to everything.

    ``asked`` lists the names of the accounts that it was asked for.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen()
        self.go_on = threading.Event()
        self.asked: list[str] = []
        self.connection: socket.socket | None = None
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # The test is over.
            self.connection = connection
            self.go_on.wait()
            with connection, suppress(OSError):  # The client may have hung up by now.
                while data := connection.recv(65_536):
                    message = json.loads(data)
                    self.asked.append(message["name"])
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
Run = Callable[..., None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function to run a test with a client, made with the given options, and a limit of one minute."""

    async def with_client(test: Test, options: dict[str, Any]) -> None:
        client = SpawnerClient(tmp_path / "spawner.sock", **options)
        try:
            await asyncio.wait_for(test(client), 60)
        finally:
            client.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    def run(test: Test, **options: Any) -> None:
        loop = request.param()
        try:
            loop.run_until_complete(with_client(test, options))
        finally:
            loop.close()

    return run


async def until_full(client: SpawnerClient) -> None:
    """Wait until requests are queued behind a full buffer, which only the client's own queue shows."""
    while len(client._unsent) < 100:
        await asyncio.sleep(0)


def test_a_paused_spawner_locks_nobody_out(run: Run, paused: PausedSpawner) -> None:
    """All of 500 first requests get a response, however small the socket's buffer is, and so does every later one."""
    clock = Clock()

    async def test(client: SpawnerClient) -> None:
        asked = [asyncio.create_task(client.socket_of(account)) for account in ACCOUNTS]
        await until_full(client)
        paused.go_on.set()
        assert await asyncio.gather(*asked) == [f"/run/{account.name}" for account in ACCOUNTS]
        clock.now += SOCKET_TTL_S + 1
        again = await asyncio.gather(*(client.socket_of(account) for account in ACCOUNTS))
        assert again == [f"/run/{account.name}" for account in ACCOUNTS]
        assert len(paused.asked) == 2 * len(ACCOUNTS)

    run(test, clock=clock)


def test_the_deadline_covers_the_sending(run: Run, paused: PausedSpawner) -> None:
    """Requests that expire behind a full buffer get a 503 and are never sent. They can be repeated."""

    async def test(client: SpawnerClient) -> None:
        refused = await asyncio.gather(*(client.socket_of(a) for a in ACCOUNTS), return_exceptions=True)
        assert {error.status for error in refused if isinstance(error, HttpError)} == {503}
        assert len(refused) == len([error for error in refused if isinstance(error, HttpError)])
        paused.go_on.set()
        assert await client.socket_of(ACCOUNTS[-1]) == "/run/user499"
        assert paused.asked.count("user499") == 1, "the expired request was not sent"

    run(test, start_deadline_s=0.5)


def test_a_cancelled_request_affects_no_other(run: Run, paused: PausedSpawner) -> None:
    """Neither those for the same account nor those queued behind it are affected."""

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


def test_the_end_of_the_spawner_is_noticed_at_once(run: Run, paused: PausedSpawner) -> None:
    """Sent and queued requests all get a 503. The next request connects again."""

    async def test(client: SpawnerClient) -> None:
        asked = [asyncio.create_task(client.socket_of(account)) for account in ACCOUNTS]
        await until_full(client)
        while paused.connection is None:
            await asyncio.sleep(0)
        paused.connection.shutdown(socket.SHUT_RDWR)
        refused = await asyncio.gather(*asked, return_exceptions=True)
        assert {getattr(error, "status", None) for error in refused} == {503}
        paused.go_on.set()
        assert await client.socket_of(ACCOUNTS[0]) == "/run/user0"

    run(test)


def test_the_oldest_socket_is_evicted_first(run: Run, paused: PausedSpawner) -> None:
    """The cache of sockets is bounded. A new entry evicts one other entry, not all of them."""
    paused.go_on.set()

    async def test(client: SpawnerClient) -> None:
        for account in ACCOUNTS[:5]:
            await client.socket_of(account)
        for account in ACCOUNTS[4:1:-1]:
            await client.socket_of(account)
        assert paused.asked == ["user0", "user1", "user2", "user3", "user4"], "the last three are cached"
        await client.socket_of(ACCOUNTS[0])
        assert paused.asked[5:] == ["user0"]

    run(test, max_cached_sockets=3)
