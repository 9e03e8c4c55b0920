"""Sign-in by OpenID Connect: authorization code, PKCE, state and nonce. Runs in the hook.

The hook stores nothing about a sign-in that is in progress. The browser's cookie contains the signed state; nonce and
PKCE verifier are derived from the state with a key of this process (RFC 7636; OpenID Connect Core 1.0).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from itsdangerous import BadSignature, TimestampSigner

from proxy_hook.config import Config
from proxy_hook.errors import HttpError, forbidden, unavailable
from proxy_hook.idp.provider import REQUEST_TIMEOUT_S, IdentityProvider

STATE_LIFETIME_S = 600
"""How long a user may take to sign in at the provider."""
CALLBACK_PATH = "/login/oidc/callback"
MAX_REASON_LENGTH = 200
"""The maximum length of the provider's reason that a page shows, in characters."""

log = logging.getLogger("punway.hook")


class _Signer(TimestampSigner):
    """A signer whose timestamps are monotonic time, so that setting the wall clock ends no sign-in.

    Only this process can verify its signatures.
    """

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        super().__init__(key, salt="punway oidc", digest_method=hashlib.sha256)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())


class OidcSignIn:
    """The portal as a client of the identity provider. ``secret`` is empty for a public client."""

    def __init__(
        self,
        config: Config,
        provider: IdentityProvider,
        secret: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._provider = provider
        self._secret = secret
        self._key = secrets.token_bytes(32)
        self._signer = _Signer(self._key, clock)

    async def begin(self) -> tuple[str, str]:
        """Begin a sign-in. Return the address to send the browser to, and the value of its state cookie.

        Raises HttpError (503).
        """
        state = secrets.token_urlsafe(32)
        try:
            endpoint = await self._provider.endpoint("authorization_endpoint")
        except OSError as error:
            raise _unreachable(error) from error
        async with self._client() as client:
            address, _ = client.create_authorization_url(
                endpoint, state=state, nonce=self._derive(state, "nonce"), code_verifier=self._derive(state, "verifier")
            )
        return address, self._signer.sign(state).decode()

    async def finish(self, query: dict[str, str], cookie: str | None) -> object:
        """Finish a sign-in with the parameters that the provider sent. Return the value of the claim idp.user_claim.

        Raises HttpError: 400, 401, 403 or 503.
        """
        try:
            state = self._signer.unsign(cookie or "", max_age=STATE_LIFETIME_S).decode()
        except BadSignature:
            state = ""
        if not state or not hmac.compare_digest(state.encode(), query.get("state", "").encode()):
            raise HttpError(
                400,
                "bad_request",
                "This browser did not begin this sign-in, or the sign-in took too long; sign in again",
            )
        # The response must come from the provider that the browser was sent to (RFC 9207).
        if query.get("iss", self._config.idp.issuer) != self._config.idp.issuer:
            raise forbidden("The response comes from another identity provider; sign in again")
        if "code" not in query:
            reason = query.get("error_description") or query.get("error") or "no reason given"
            raise forbidden(f"The identity provider did not sign you in: {reason[:MAX_REASON_LENGTH]}")
        return await self._claim(query["code"], state)

    async def _claim(self, code: str, state: str) -> object:
        name = self._config.idp.user_claim
        try:
            endpoint = await self._provider.endpoint("token_endpoint")
            async with self._client() as client:
                tokens = await client.fetch_token(endpoint, code=code, code_verifier=self._derive(state, "verifier"))
            claims = await self._provider.verify_id_token(
                str(tokens.get("id_token", "")), self._config.login.client_id, self._derive(state, "nonce")
            )
            if name not in claims:
                claims = await self._userinfo(claims, str(tokens.get("access_token", "")))
        except OAuthError as error:
            log.warning("the identity provider rejected a sign-in: %s", error)
            raise forbidden("The identity provider did not confirm the sign-in; sign in again") from error
        except (OSError, httpx2.HTTPError, ValueError) as error:
            raise _unreachable(error) from error
        return claims.get(name)

    async def _userinfo(self, claims: dict[str, Any], access_token: str) -> dict[str, Any]:
        """Return the claims of the provider's userinfo endpoint, which must be about the same user.

        Return ``claims`` if the provider has no such endpoint.
        """
        endpoint = await self._provider.endpoint("userinfo_endpoint")
        if not endpoint:
            return claims
        userinfo = await self._provider.get_json(endpoint, {"Authorization": f"Bearer {access_token}"})
        if userinfo.get("sub") != claims.get("sub"):
            raise forbidden("The identity provider's responses are about two different users; sign in again")
        return userinfo

    def _client(self) -> AsyncOAuth2Client:
        # Each sign-in has a client of its own, because a client stores the tokens of its last sign-in.
        return AsyncOAuth2Client(
            client_id=self._config.login.client_id,
            client_secret=self._secret or None,
            scope="openid profile email",
            redirect_uri=self._config.portal.public_url + CALLBACK_PATH,
            code_challenge_method="S256",
            timeout=REQUEST_TIMEOUT_S,
            trust_env=False,
        )

    def _derive(self, state: str, purpose: str) -> str:
        return hmac.new(self._key, f"{purpose} {state}".encode(), "sha256").hexdigest()


def _unreachable(error: Exception) -> HttpError:
    log.warning("a request to the identity provider failed: %s", error)
    return unavailable("The site's identity provider does not answer as expected; try again")
