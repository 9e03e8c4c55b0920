"""What nginx asks: credential → principal → account → PUN socket → 204. Runs as the hook's user.

An ASGI app of two addresses: ``/auth/api``, which nginx's auth_request asks for each request, and
``/health``. auth_request knows 2xx, 401 and 403 alone, so a no says its own status, body and wait in
headers, out of which nginx makes the client's answer.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from proxy_hook.accounts import account_of
from proxy_hook.credentials import credential
from proxy_hook.denied import Denied, unavailable
from proxy_hook.identify import Principal, by_token
from proxy_hook.routes import RouteTable
from proxy_hook.spawner_client import SpawnerClient
from tokens.assertion import LIFETIME, Signer

Headers = list[tuple[bytes, bytes]]
log = logging.getLogger("punway.hook")


class Assertions:
    """Signed notes, each used for half its life: signing costs as much as the rest of the hook's work."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._signed: dict[str, tuple[float, int, str]] = {}

    def note(self, principal: Principal) -> str:
        key = principal.sha256 or ""
        signed = self._signed.get(key)
        if signed and signed[0] > time.monotonic() and signed[1] == principal.uid:
            return signed[2]
        note = self._signer.sign(principal.uid, principal.name, principal.via, principal.sha256, principal.scopes)
        if len(self._signed) > 10_000:
            self._signed.clear()
        self._signed[key] = (time.monotonic() + LIFETIME / 2, principal.uid, note)
        return note

    def forget(self, sha256: str) -> None:
        self._signed.pop(sha256, None)


class Hook:
    """The ASGI app."""

    def __init__(self, routes: RouteTable, spawner: SpawnerClient, signer: Signer) -> None:
        self._routes = routes
        self._spawner = spawner
        self._assertions = Assertions(signer)
        routes.on_drop = self._assertions.forget

    async def admit(self, headers: Headers) -> Headers:
        """The way of one request: where its user's app is, and the note for it. Raises Denied."""
        principal = await by_token(self._routes, credential(headers))
        account = account_of(principal)
        socket = await self._spawner.socket_of(account)
        return [
            (b"x-pun-socket", socket.encode()),
            (b"x-pun-assertion", self._assertions.note(principal).encode()),
        ]

    async def health(self) -> dict[str, Any]:
        """Whether the portal's parts answer, and nothing else. Raises Denied (503)."""
        if not await self._spawner.alive():
            raise unavailable("The spawner does not answer")
        return {"data": {"status": "ok", "hook": "ok", "spawner": "ok"}}

    async def __call__(
        self,
        scope: dict[str, Any],
        _receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        status, headers, body = await self._answer(scope["path"], scope["headers"])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, path: str, headers: Headers) -> tuple[int, Headers, bytes]:
        try:
            if path == "/health":
                return 200, _JSON, json.dumps(await self.health()).encode()
            if path == "/auth/api":
                return 204, await self.admit(headers), b""
            raise Denied(404, "not_found", "No such address")
        except Denied as denied:
            no = denied
        except Exception:
            log.exception("a request could not be judged")
            no = unavailable("The portal cannot check credentials just now; try again")
        body = json.dumps({"error": no.error, "message": no.message}).encode()
        if path == "/health":
            return no.status, [*_JSON, (b"retry-after", b"5")], body
        told = [(b"x-punway-status", str(no.status).encode()), (b"x-punway-answer", body)]
        if no.retry_after:
            told.append((b"x-punway-retry-after", str(no.retry_after).encode()))
        if no.challenge:
            told.append((b"www-authenticate" if no.status == 401 else b"x-punway-challenge", no.challenge.encode()))
        return (401 if no.status == 401 else 403), told, b""


_JSON: Headers = [(b"content-type", b"application/json")]
