"""proxy_hook/hook.py: what it tells nginx. The spawner here is a small one over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy_hook.hook import Hook
from proxy_hook.routes import RouteTable
from proxy_hook.spawner_client import SpawnerClient
from tokens.assertion import Signer, Verifier
from tokens.token import issue


class SmallSpawner(threading.Thread):
    """Answers each question with what it was told to, and counts them."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen()
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"socket": "/run/x/pun.sock"}

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65_536):
                message = json.loads(data)
                self.asked.append(message)
                answer = {"pong": True} if message["ask"] == "ping" else self.answer
                connection.sendall(json.dumps({"id": message["id"], **answer}).encode())


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[SmallSpawner]:
    spawner = SmallSpawner(tmp_path / "spawner.sock")
    spawner.start()
    yield spawner
    spawner.listener.shutdown(socket.SHUT_RDWR)
    spawner.listener.close()


class World:
    def __init__(self, folder: Path) -> None:
        self.signer = Signer()
        (folder / "pub").write_bytes(self.signer.public_pem())
        self.verifier = Verifier(folder / "pub")
        self.routes = RouteTable.in_folder(folder)
        self.folder = folder
        self.token, self.secret = issue("x")
        self.routes.add(1001, "alice", [self.token.sha256])

    def ask(self, path: str = "/auth/api", times: int = 1, **headers: str) -> list[tuple[int, dict[str, str]]]:
        """Ask a new hook so many times at once."""

        async def all_of_them() -> list[tuple[int, dict[str, str]]]:
            hook = Hook(self.routes, SpawnerClient(self.folder / "spawner.sock"), self.signer)
            return list(await asyncio.gather(*(self._one(hook, path, headers) for _ in range(times))))

        return asyncio.run(all_of_them())

    async def _one(self, hook: Hook, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {}

        scope = {"type": "http", "path": path, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
        await hook(scope, receive, send)
        return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.routes.close()


def test_a_good_token_is_204_with_socket_and_note(world: World, spawner: SmallSpawner) -> None:
    ((status, headers),) = world.ask(authorization=f"Bearer {world.secret}")
    assert (status, headers["x-pun-socket"]) == (204, "/run/x/pun.sock")
    said = world.verifier.verify(headers["x-pun-assertion"], 1001)
    assert (said.uid, said.user, said.via, said.sha256) == (1001, "alice", "token", world.token.sha256)
    assert spawner.asked == [{"id": 1, "ask": "ensure", "uid": 1001, "name": "alice"}]


def test_a_hundred_at_once_are_one_question(world: World, spawner: SmallSpawner) -> None:
    answers = world.ask(times=100, authorization=f"Bearer {world.secret}")
    assert {status for status, _ in answers} == {204}
    assert len(spawner.asked) == 1


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [({"refused": "root is not served"}, "403", "root is not served"),
     ({"unavailable": "the home directory does not answer", "retry_after": 7}, "503", "does not answer")],
)  # fmt: skip
def test_what_the_spawner_refuses(
    world: World, spawner: SmallSpawner, answer: dict[str, Any], status: str, said: str
) -> None:
    """nginx hears 403, and in headers what the client is to hear."""
    spawner.answer = answer
    ((code, headers),) = world.ask(authorization=f"Bearer {world.secret}")
    assert (code, headers["x-punway-status"]) == (403, status)
    assert said in json.loads(headers["x-punway-answer"])["message"]
    assert headers.get("x-punway-retry-after") == ("7" if status == "503" else None)
    assert "x-pun-assertion" not in headers


def test_without_a_spawner_it_is_503(world: World) -> None:
    ((code, headers),) = world.ask(authorization=f"Bearer {world.secret}")
    assert (code, headers["x-punway-status"]) == (403, "503")
    ((health, _),) = world.ask("/health")
    assert health == 503


def test_root_is_never_routed(world: World, spawner: SmallSpawner) -> None:
    """Whatever a row says."""
    token, secret = issue("x")
    world.routes.add(0, "root", [token.sha256])
    ((code, headers),) = world.ask(authorization=f"Bearer {secret}")
    assert (code, headers["x-punway-status"]) == (403, "403")
    assert spawner.asked == []


def test_unknown_and_revoked_are_one_answer(world: World, spawner: SmallSpawner) -> None:
    world.routes.drop(1001, [world.token.sha256])
    ((first, revoked),) = world.ask(authorization=f"Bearer {world.secret}")
    ((second, unknown),) = world.ask(authorization=f"Bearer {issue('y')[1]}")
    assert (first, revoked) == (second, unknown) == (401, revoked)
    assert 'error="invalid_token"' in revoked["www-authenticate"]
    assert spawner.asked == []


def test_a_failure_of_its_own_is_a_closed_door(
    world: World, spawner: SmallSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_sha256: str) -> None:
        raise RuntimeError("the table is broken")

    monkeypatch.setattr(world.routes, "remembered", broken)
    ((code, headers),) = world.ask(authorization=f"Bearer {world.secret}")
    assert (code, headers["x-punway-status"]) == (403, "503")


def test_health_and_other_addresses(world: World, spawner: SmallSpawner) -> None:
    assert world.ask("/health")[0][0] == 200
    assert world.ask("/nothing")[0][0] == 403
