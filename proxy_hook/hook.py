"""The hook's decision about a request: it authenticates the caller, starts the caller's PUN, and signs an assertion.

The steps are credential → principal → account → PUN socket and assertion. Runs as the hook's user. app.py calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy_hook.browser.sign_in import SignIn
from proxy_hook.credentials import BearerToken, credential
from proxy_hook.errors import CHALLENGE, HttpError, unauthorized, unavailable
from proxy_hook.identify import ByJwt, Principal, by_session, by_token
from proxy_hook.idp.resource_metadata import ResourceMetadata
from proxy_hook.lru_cache import LruCache
from proxy_hook.rate_limits import RateLimits
from proxy_hook.spawner_client import SpawnerClient
from proxy_hook.token_routes import RouteTable
from proxy_hook.web import Headers, WebRequest, header_of
from tokens.assertion import LIFETIME_S, Signer
from tokens.lifetime import Policy

MAX_CACHED_ASSERTIONS = 10_000


class AssertionCache:
    """A cache of signed assertions. Each is reused for half its life, because signing takes half of the hook's time.

    The lifetime is measured by the wall clock, because the PUN checks it by that clock too. After the clock has been
    set, assertions are signed again.
    """

    def __init__(self, signer: Signer, clock: Callable[[], float]) -> None:
        self._signer = signer
        self._clock = clock
        self._signed: LruCache[str, tuple[float, Principal, str]] = LruCache(MAX_CACHED_ASSERTIONS)

    def assertion(self, principal: Principal) -> str:
        """Return a signed assertion about a principal."""
        cached = self._signed.get(principal.key)
        now = self._clock()
        if cached and 0 <= now - cached[0] < LIFETIME_S / 2 and cached[1] == principal:
            return cached[2]
        account = principal.account
        signed = self._signer.sign(
            account.uid, account.name, principal.via, principal.sha256, principal.scopes, principal.sid
        )
        self._signed.put(principal.key, (now, principal, signed))
        return signed


@dataclass
class Hook:
    """The hook, assembled from its parts.

    ``by_jwt`` is None if the portal accepts no tokens of an identity provider. ``clock`` gives Unix times in seconds.
    """

    routes: RouteTable
    spawner: SpawnerClient
    signer: Signer
    by_jwt: ByJwt | None
    sign_in: SignIn
    metadata: ResourceMetadata
    limits: RateLimits
    policy: Policy
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._assertions = AssertionCache(self.signer, self.clock)

    async def authenticate_client(self, headers: Headers) -> Principal:
        """Authenticate a request by its bearer token: a Punway token, or a JWT of the identity provider.

        Raises HttpError: 400, 401, 403 or 503, and 429 for too many invalid credentials from one address.
        """
        address = header_of(headers, "x-punway-peer") or ""
        try:
            given = credential(headers)
            if isinstance(given, BearerToken):
                return await by_token(self.routes, self.policy, given, self.clock())
            if self.by_jwt is None:
                raise unauthorized("Invalid or missing API token: a token is 64 hex characters", "invalid_token")
            return await self.by_jwt(given)
        except HttpError as error:
            # A request without a credential is not an attempt to guess one.
            is_guess = error.status == 401 and error.challenge != CHALLENGE
            raise self.limits.count_invalid_credential(address, error) if is_guess else error from error

    async def authenticate_browser(self, headers: Headers) -> Principal:
        """Authenticate a request for a page by the browser's session, and by nothing else. Raises HttpError."""
        session = await self.sign_in.session(WebRequest("GET", "", headers))
        if session is None:
            # Send no challenge: browsers do not need one, and nginx would pass it on.
            raise HttpError(401, "unauthorized", "You are not signed in")
        return by_session(session)

    async def admit(self, principal: Principal) -> Headers:
        """Start the user's PUN if it is not running, and return the headers that nginx needs to pass the request on.

        They contain the PUN's socket, the assertion and the user name. Raises HttpError.
        """
        socket = await self.spawner.socket_of(principal.account)
        return [
            (b"x-pun-socket", socket.encode()),
            (b"x-pun-assertion", self._assertions.assertion(principal).encode()),
            (b"x-pun-user", principal.account.name.encode()),
        ]

    async def health(self) -> dict[str, Any]:
        """Return the health of hook and spawner, as a JSON object. Raises HttpError (503)."""
        if not await self.spawner.alive():
            raise unavailable("The spawner does not answer")
        return {"data": {"status": "ok", "hook": "ok", "spawner": "ok"}}
