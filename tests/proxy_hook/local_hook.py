"""A hook in the test's process, with a fake spawner and without nginx in front of it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from proxy_hook.accounts import Accounts
from proxy_hook.app import App
from proxy_hook.browser.oidc import OidcSignIn
from proxy_hook.browser.sessions import Links, Sessions
from proxy_hook.browser.sign_in import SignIn
from proxy_hook.config import Config, from_data
from proxy_hook.hook import Hook
from proxy_hook.identify import ByJwt
from proxy_hook.idp.provider import IdentityProvider
from proxy_hook.idp.resource_metadata import ResourceMetadata
from proxy_hook.rate_limits import RateLimits
from proxy_hook.spawner_client import SpawnerClient
from proxy_hook.token_routes import RouteTable
from tests.clock import Clock
from tokens.assertion import Signer, Verifier
from tokens.token import issue


class FakeSpawner(threading.Thread):
    """A spawner that gives every account the response ``answer``, and records the requests in ``asked``."""

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


@dataclass
class Answer:
    """A response of the hook."""

    status: int
    headers: dict[str, str]
    cookies: list[str]
    body: str

    @property
    def cookie(self) -> str:
        """The only cookie that was set, in the form in which a browser sends it back."""
        (cookie,) = [c for c in self.cookies if "Max-Age=0" not in c]
        return cookie.partition(";")[0]


class LocalHook:
    """A hook and its parts. All requests run in one event loop.

    ``clock`` is the wall clock of assertions and token lifetimes, which tests may replace. ``monotonic`` is the
    monotonic clock of sessions, links, sign-ins and the identity provider.
    """

    def __init__(
        self,
        folder: Path,
        tables: dict[str, Any] | None = None,
        front_secret: str = "",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config: Config = from_data(tables or {}, Path("test.toml"))
        self.monotonic = Clock()
        self.signer = Signer(wall_clock)
        (folder / "pub").write_bytes(self.signer.public_pem())
        self.verifier = Verifier(folder / "pub")
        self.routes = RouteTable.in_folder(folder, clock=wall_clock)
        self.token, self.secret = issue("x")
        self.routes.add(1001, "alice", [self.token.sha256])
        self.links = Links(self.monotonic)
        self.sessions = Sessions(self.config.login.session_lifetime, clock=self.monotonic)
        self.spawner = spawner = SpawnerClient(folder / "spawner.sock")
        self.accounts = Accounts(self.config.pun.user_regex)
        self.provider = IdentityProvider(self.config.idp, clock=self.monotonic, wall_clock=wall_clock)
        oidc = None
        if self.config.login.oidc:
            oidc = OidcSignIn(self.config, self.provider, "secret", self.monotonic)
        hook = Hook(
            routes=self.routes,
            spawner=spawner,
            signer=self.signer,
            by_jwt=self._by_jwt() if self.config.takes_jwts else None,
            sign_in=SignIn(self.config, self.sessions, self.links, self.accounts, spawner, oidc, front_secret),
            metadata=ResourceMetadata(self.config),
            limits=RateLimits(self.config.limits),
            policy=self.config.token_policy,
            clock=wall_clock,
        )
        self._app = App(hook)
        self._loop = asyncio.new_event_loop()

    def _by_jwt(self) -> ByJwt:
        return ByJwt(self.config.idp, self.provider, self.accounts, self.config.token_policy)

    def ask(
        self,
        path: str = "/auth/api",
        times: int = 1,
        method: str = "GET",
        form: dict[str, str] | None = None,
        more: tuple[tuple[str, str], ...] = (),
        **headers: str,
    ) -> list[Answer]:
        """Return the hook's answers to simultaneous requests. Underscores in header names become hyphens."""
        path, _, query = path.partition("?")
        given = [*((k.replace("_", "-"), v) for k, v in {"x_punway_peer": "192.0.2.7", **headers}.items()), *more]
        body = urlencode(form).encode() if form is not None else b""
        if form is not None:
            given.append(("content-type", "application/x-www-form-urlencoded"))
        scope = {
            "type": "http", "path": path, "query_string": query.encode(), "method": method,
            "headers": [(k.encode(), v.encode()) for k, v in given],
        }  # fmt: skip

        async def ask_all() -> list[Answer]:
            return list(await asyncio.gather(*(self._one(scope, body) for _ in range(times))))

        return self._loop.run_until_complete(ask_all())

    def one(self, path: str, **more: Any) -> Answer:
        """Return the hook's answer to one request."""
        return self.ask(path, **more)[0]

    async def _one(self, scope: dict[str, Any], body: bytes) -> Answer:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive, send)
        headers = [(k.decode(), v.decode()) for k, v in sent[0]["headers"]]
        cookies = [v for k, v in headers if k == "set-cookie"]
        return Answer(sent[0]["status"], dict(headers), cookies, sent[1]["body"].decode())

    def close(self) -> None:
        """End all tasks, threads and connections."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self.spawner.close()
            await self.provider.close()

        self._loop.run_until_complete(end())
        self._loop.close()
        self.accounts.close()
        self.routes.close()
