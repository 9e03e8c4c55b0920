"""What nginx asks: credential → principal → account → PUN socket → 204. Runs as the hook's user.

An ASGI app. nginx's auth_request asks ``/auth/api`` for each request of the API and ``/auth/mcp`` for each of the
MCP server, with its Authorization header, and ``/auth/pages`` for each of a page, with its cookie. auth_request
knows 2xx, 401 and 403 alone, so a no says its own status, body and wait in headers, out of which nginx makes the
client's answer. Besides: ``/health``, where a browser signs in (sign_in.py), and what RFC 9728 has of the portal.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from proxy_hook.browser.sign_in import SignIn, said_no_elsewhere
from proxy_hook.credentials import BearerToken, credential
from proxy_hook.errors import NO_CREDENTIAL, HttpError, unauthorized, unavailable
from proxy_hook.identify import ByJwt, Principal, by_session, by_token
from proxy_hook.idp.resource_metadata import METADATA, ResourceMetadata
from proxy_hook.lru_cache import LruCache
from proxy_hook.rate_limits import RateLimits
from proxy_hook.spawner_client import SpawnerClient
from proxy_hook.token_routes import RouteTable
from proxy_hook.web import Headers, WebAnswer, WebRequest, request_from
from tokens.assertion import LIFETIME_S, Signer
from tokens.lifetime import Policy

MAX_CACHED_ASSERTIONS = 10_000

Receive = Callable[[], Awaitable[dict[str, Any]]]
log = logging.getLogger("punway.hook")


class Assertions:
    """Signed notes, each used for half its life: signing costs as much as the rest of the hook's work.

    Its life is by the wall clock, which the PUN looks at, too; when that is set, notes are signed anew.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._signed: LruCache[str, tuple[float, Principal, str]] = LruCache(MAX_CACHED_ASSERTIONS)

    def note(self, principal: Principal) -> str:
        signed = self._signed.get(principal.key)
        now = time.time()
        if signed and 0 <= now - signed[0] < LIFETIME_S / 2 and signed[1] == principal:
            return signed[2]
        account = principal.account
        note = self._signer.sign(
            account.uid, account.name, principal.via, principal.sha256, principal.scopes, principal.sid
        )
        self._signed.put(principal.key, (now, principal, note))
        return note


@dataclass
class Hook:
    """The ASGI app. ``by_jwt`` is None where the portal takes no tokens of an identity provider."""

    routes: RouteTable
    spawner: SpawnerClient
    signer: Signer
    by_jwt: ByJwt | None
    sign_in: SignIn
    metadata: ResourceMetadata
    rates: RateLimits
    policy: Policy

    def __post_init__(self) -> None:
        self._assertions = Assertions(self.signer)

    async def admit(self, principal: Principal) -> Headers:
        """Where the principal's app is, and the note for it. Raises HttpError."""
        socket = await self.spawner.socket_of(principal.account)
        return [
            (b"x-pun-socket", socket.encode()),
            (b"x-pun-assertion", self._assertions.note(principal).encode()),
            (b"x-pun-user", principal.account.name.encode()),
        ]

    async def who_calls(self, headers: Headers) -> Principal:
        """By a token of ours, or one of the identity provider. Raises HttpError."""
        address = _said(headers, "x-punway-peer")
        try:
            given = credential(headers)
            if isinstance(given, BearerToken):
                return await by_token(self.routes, self.policy, given)
            if self.by_jwt is None:
                raise unauthorized("Invalid or missing API token: a token is 64 hex characters", "invalid_token")
            return await self.by_jwt(given)
        except HttpError as denied:
            # Who sent none has guessed none.
            guessed = denied.status == 401 and denied.challenge != NO_CREDENTIAL
            raise self.rates.count_refusal(address, denied) if guessed else denied from denied

    async def who_looks(self, headers: Headers) -> Principal:
        """By a browser's session, and by nothing else. Raises HttpError."""
        session = await self.sign_in.session(WebRequest("GET", "", headers))
        if session is None:
            # Without a challenge: to a browser it would mean nothing, and nginx would hand it on.
            raise HttpError(401, "unauthorized", "You are not signed in")
        return by_session(session)

    async def health(self) -> dict[str, Any]:
        """Whether the portal's parts answer, and nothing else. Raises HttpError (503)."""
        if not await self.spawner.alive():
            raise unavailable("The spawner does not answer")
        return {"data": {"status": "ok", "hook": "ok", "spawner": "ok"}}

    async def __call__(
        self, scope: dict[str, Any], receive: Receive, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            return
        status, headers, body = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> tuple[int, Headers, bytes]:
        path, headers, user = scope["path"], scope["headers"], ""
        try:
            if path in _DOORS:
                principal = await _DOORS[path](self, headers)
                user = principal.account.name
                left: Headers = []
                if path == "/auth/api":
                    left = self.rates.spend(principal, writes=_said(headers, "x-punway-writes") == "1")
                return 204, [*await self.admit(principal), *left], b""
            if path == "/health":
                return 200, _JSON, json.dumps(await self.health()).encode()
            answer = await self._page(path, await request_from(scope, receive))
            return answer.status, answer.head(), answer.body.encode()
        except HttpError as denied:
            no = denied
        except Exception:
            log.exception("a request could not be judged")
            no = unavailable("The portal cannot check credentials just now; try again")
        return self._refusal(path, no, user)

    async def _page(self, path: str, request: WebRequest) -> WebAnswer:
        if path == "/pages/denied":
            return said_no_elsewhere(request)
        if path == "/pages/expired":
            return self.sign_in.expired(request)
        if path.startswith(METADATA):
            return self.metadata.answer(path)
        return await self.sign_in.answer(request)

    def _refusal(self, path: str, no: HttpError, user: str) -> tuple[int, Headers, bytes]:
        body = json.dumps({"error": no.error, "message": no.message}).encode()
        if path not in _DOORS:
            return no.status, [*_JSON, (b"retry-after", b"5")] if no.status == 503 else _JSON, body
        told = [
            (b"x-punway-status", str(no.status).encode()),
            (b"x-punway-answer", body),
            (b"x-pun-user", user.encode()),
        ]
        told += no.headers
        if no.retry_after:
            told.append((b"x-punway-retry-after", str(no.retry_after).encode()))
        if no.challenge:
            challenge = no.challenge + (self.metadata.challenge(_RESOURCES.get(path, "")) if no.status == 401 else "")
            told.append((b"www-authenticate" if no.status == 401 else b"x-punway-challenge", challenge.encode()))
        return (401 if no.status == 401 else 403), told, b""


def _said(headers: Headers, name: str) -> str:
    """What nginx says of the request that it asks for."""
    return WebRequest("GET", "", headers).header(name) or ""


_DOORS: dict[str, Callable[[Hook, Headers], Awaitable[Principal]]] = {
    "/auth/api": Hook.who_calls,
    "/auth/mcp": Hook.who_calls,
    "/auth/pages": Hook.who_looks,
}
_RESOURCES = {"/auth/mcp": "/mcp"}
_JSON: Headers = [(b"content-type", b"application/json")]
