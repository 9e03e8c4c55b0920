"""Tests of mcp_server/limits.py and auth.py: what is read and served at once, for one user and for all."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest

from mcp_server import auth as auth_module
from mcp_server import limits as module
from mcp_server.auth import AuthMiddleware
from mcp_server.limits import MAX_MESSAGE_BYTES, MAX_MESSAGE_VALUES, MAX_WAITING_MESSAGE_BYTES, count_values
from mcp_server.portal import Caller

GOOD = httpx2.Response(200, json={"data": {"scopes": ["jobs:read"]}})


@dataclass
class FakePortal:
    """A portal that knows whoami alone. It rejects the credential ``bad``."""

    asked: int = 0

    async def send(self, caller: Caller, _method: str, _path: str) -> httpx2.Response:
        self.asked += 1
        if caller.authorization == "bad":
            return httpx2.Response(401, json={"error": "unauthorized"}, headers={"WWW-Authenticate": "Bearer"})
        return GOOD


@dataclass
class Server:
    """AuthMiddleware in front of an app that responds when ``go`` is set; ``most`` calls were in it at once."""

    waits: bool = False
    busy: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.go = anyio.Event()
        self.portal = FakePortal()
        self.auth = AuthMiddleware(self._app, self.portal, 50 * 1024**2)  # type: ignore[arg-type]

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        self.busy += 1
        self.most = max(self.most, self.busy)
        if self.waits:
            scope["state"]["place"].wait()
        await self.go.wait()
        self.busy -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@dataclass
class Message:
    """A POST with the chunks ``sends``, of which ``read`` have been read."""

    user: str = "alice"
    sends: list[bytes] = field(default_factory=lambda: [b"{}"])
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    """True if the end of the message never arrives."""
    read: int = 0
    status: int = 0
    body: bytes = b""

    async def post(self, auth: AuthMiddleware) -> Message:
        headers = {"x-punway-user": self.user, "content-length": str(sum(map(len, self.sends))), **self.headers}
        scope = {
            "type": "http", "method": "POST", "path": "/mcp",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value],
        }  # fmt: skip
        await auth(scope, self._receive, self._send)
        return self

    async def _receive(self) -> dict[str, Any]:
        if self.read == len(self.sends):
            await anyio.sleep_forever()
        self.read += 1
        more = self.hangs or self.read < len(self.sends)
        return {"type": "http.request", "body": self.sends[self.read - 1], "more_body": more}

    async def _send(self, event: Any) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in event["headers"]}
        else:
            self.body += event.get("body", b"")


def run(steps: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        with anyio.fail_after(60):
            return await steps()

    return anyio.run(limited)


def ask(*, waits: bool = False, **message: Any) -> Message:
    async def steps() -> Message:
        server = Server(waits)
        server.go.set()
        return await Message(**message).post(server.auth)

    answered: Message = run(steps)
    return answered


def test_nothing_is_read_before_the_credential_is_good() -> None:
    """A message with a bad credential is rejected unread, with the portal's challenge."""
    message = ask(headers={"authorization": "bad"})
    assert (message.status, message.read) == (401, 0)
    assert message.headers["www-authenticate"] == "Bearer"


def test_a_message_that_says_that_it_is_too_large_is_not_read() -> None:
    """It is a 413 in the form of the API's errors, which says what to do instead."""
    message = ask(headers={"content-length": str(MAX_MESSAGE_BYTES + 1)})
    assert (message.status, message.read) == (413, 0)
    body = json.loads(message.body)
    assert body["error"] == "payload_too_large" and "files" in body["message"]


def test_a_message_that_is_too_large_is_read_no_further() -> None:
    """Reading stops at the limit if the message has no Content-Length."""
    message = ask(sends=[b"x" * 65_536] * 100, headers={"content-length": ""})
    assert (message.status, message.read) == (413, 17)


def test_a_message_of_many_values_is_not_parsed() -> None:
    """Even a small message is rejected: an empty list has two bytes, and takes a hundred in memory."""
    for body in (
        b"[" + b"[]," * MAX_MESSAGE_VALUES + b"[]]",
        b"[" * 100_000,
        b"{" + b'"a":1,' * MAX_MESSAGE_VALUES + b"}",
    ):
        message = ask(sends=[body])
        assert (message.status, json.loads(message.body)["error"]["code"]) == (400, -32700)
    assert ask(sends=[json.dumps({"script": ",[{" * 100_000}).encode()]).status == 200


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"{}", 2), (b'{"a": [1, 2], "b": {}}', 6), (rb'{"a": "\",[\\", "b": "[,"}', 3), (b'"', 1), (b"", 1),
        (rb'["\\\\", "\\\"", ","]', 4), (b'"' * 1000, 1), (b"\\" * 1000, 1),
    ],
)  # fmt: skip
def test_values_are_counted_outside_of_texts(message: bytes, count: int) -> None:
    """The count is at least the number of values, and ignores commas and brackets inside strings."""
    assert count_values(message) == count


def test_a_message_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline covers the whole message."""
    monkeypatch.setattr(auth_module, "BODY_TIMEOUT_S", 0.2)
    message = ask(sends=[b"{"], hangs=True)
    assert (message.status, json.loads(message.body)["error"]) == (408, "request_timeout")


def test_a_user_has_a_share_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests beyond the share queue unread and get a 429 after a time; another user is served at once."""
    monkeypatch.setattr(module, "QUEUE_TIMEOUT_S", 0.5)

    async def steps() -> None:
        server = Server()
        messages = [Message() for _ in range(module.PLACES_PER_USER + 5)]
        async with anyio.create_task_group() as group:
            for message in messages:
                group.start_soon(message.post, server.auth)
            while sum(message.status == 429 for message in messages) < 5:
                await anyio.sleep(0.01)
            refused = [message for message in messages if message.status == 429]
            assert {message.read for message in refused} == {0}
            assert {json.loads(message.body)["error"] for message in refused} == {"too_many_requests"}
            assert {message.headers["retry-after"] for message in refused} == {"5"}
            assert server.busy == module.PLACES_PER_USER
            bobs = Message("bob")
            group.start_soon(bobs.post, server.auth)
            while server.busy == module.PLACES_PER_USER:
                await anyio.sleep(0.01)
            server.go.set()
        assert bobs.status == 200
        assert [message.status for message in messages].count(200) == module.PLACES_PER_USER
        assert not server.auth._limits._shares

    run(steps)


def test_all_users_together_have_so_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request beyond the total gets a 503; queued requests are served when places become free."""
    monkeypatch.setattr(module, "QUEUE_TIMEOUT_S", 30.0)

    async def steps() -> None:
        server = Server()
        messages = [Message(f"user{number // 10}") for number in range(module.PLACES + 10)]
        async with anyio.create_task_group() as group:
            for message in messages:
                group.start_soon(message.post, server.auth)
            while server.busy < module.PLACES:
                await anyio.sleep(0.01)
            monkeypatch.setattr(module, "QUEUE_TIMEOUT_S", 0.1)
            late = await Message("late").post(server.auth)
            assert (late.status, json.loads(late.body)["error"]) == (503, "service_unavailable")
            server.go.set()
        assert {message.status for message in messages} == {200}
        assert server.most == module.PLACES

    run(steps)


def test_large_messages_are_fewer() -> None:
    """Large messages have fewer places, per user and in total, while small ones pass."""

    async def steps() -> None:
        server = Server()
        large = [b" " * (module.LARGE_MESSAGE_BYTES + 1)]
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(Message(f"user{number % 8}", large).post, server.auth)
            while server.busy < module.LARGE_PLACES:
                await anyio.sleep(0.01)
            group.start_soon(Message("user0").post, server.auth)
            while server.busy == module.LARGE_PLACES:
                await anyio.sleep(0.01)
            server.go.set()
        assert server.most == module.LARGE_PLACES + 1

    run(steps)


def test_who_waits_for_a_job_has_no_place() -> None:
    """A user can have more waiting calls than places, except calls with a long message, which keep theirs."""

    async def steps(sends: list[bytes], expected: int) -> None:
        server = Server(waits=True)
        async with anyio.create_task_group() as group:
            for _ in range(module.MAX_OPEN_PER_USER - 1):
                group.start_soon(Message(sends=sends).post, server.auth)
            while server.busy < expected or server.portal.asked < module.MAX_OPEN_PER_USER - 1:
                await anyio.sleep(0.01)
            for _ in range(100):
                await anyio.sleep(0)  # Every message with a place gets to the app.
            assert server.busy == expected
            server.go.set()

    run(lambda: steps([b"{}"], module.MAX_OPEN_PER_USER - 1))
    run(lambda: steps([b" " * (MAX_WAITING_MESSAGE_BYTES + 1)], module.PLACES_PER_USER))


def test_so_many_requests_of_a_user_are_open() -> None:
    """A user's request beyond the limit is rejected before its credential is checked; another user's is served."""

    async def steps() -> None:
        server = Server(waits=True)
        async with anyio.create_task_group() as group:
            for _ in range(module.MAX_OPEN_PER_USER):
                group.start_soon(Message().post, server.auth)
            while server.busy < module.MAX_OPEN_PER_USER:
                await anyio.sleep(0.01)
            asked = server.portal.asked
            late = await Message().post(server.auth)
            assert (late.status, server.portal.asked) == (429, asked)
            server.go.set()
            assert (await Message("bob").post(server.auth)).status == 200

    run(steps)
