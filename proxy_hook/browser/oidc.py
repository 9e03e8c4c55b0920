"""Signing a browser in by OpenID Connect: authorization code, PKCE, state and nonce. Runs in the hook.

Nothing is kept here between the question and the answer: the browser's cookie has the signed state, out of
which the nonce and PKCE's verifier are made with a key of this process (RFC 7636; OpenID Connect Core 1.0).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from typing import Any

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from itsdangerous import BadSignature, TimestampSigner

from proxy_hook.config import Config
from proxy_hook.errors import HttpError, forbidden, unavailable
from proxy_hook.idp.provider import REQUEST_TIMEOUT_S, IdentityProvider

STATE_LIFETIME_S = 600
"""Seconds that a user has for signing in at the provider."""
CALLBACK_PATH = "/login/oidc/callback"

log = logging.getLogger("punway.hook")


class _Signer(TimestampSigner):
    """A signer by the clock that nobody sets. Its signatures are for this process alone."""

    def get_timestamp(self) -> int:
        return int(time.monotonic())


class OidcSignIn:
    """The portal as a client of the provider. ``secret`` is empty for a public client."""

    def __init__(self, config: Config, provider: IdentityProvider, secret: str) -> None:
        self._config = config
        self._provider = provider
        self._secret = secret
        self._key = secrets.token_bytes(32)
        self._signer = _Signer(self._key, salt="punway oidc", digest_method=hashlib.sha256)

    async def begin(self) -> tuple[str, str]:
        """Where to send the browser, and the state that its cookie is to hold. Raises HttpError (503)."""
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
        """Who the provider's answer proves: the value of idp.user_claim. Raises HttpError: 400, 401, 403 or 503."""
        try:
            state = self._signer.unsign(cookie or "", max_age=STATE_LIFETIME_S).decode()
        except BadSignature:
            state = ""
        if not state or not hmac.compare_digest(state.encode(), query.get("state", "").encode()):
            raise HttpError(400, "bad_request", "This is no answer to a sign-in of this browser, or it took too long")
        # RFC 9207: of two providers, the one that was asked.
        if query.get("iss", self._config.idp.issuer) != self._config.idp.issuer:
            raise forbidden("Another provider answered than was asked")
        if "code" not in query:
            said = query.get("error_description") or query.get("error") or "nothing"
            raise forbidden(f"The identity provider did not sign you in; it says: {said[:200]}")
        return await self._claim(query["code"], state)

    async def _claim(self, code: str, state: str) -> object:
        name = self._config.idp.user_claim
        try:
            endpoint = await self._provider.endpoint("token_endpoint")
            async with self._client() as client:
                tokens = await client.fetch_token(endpoint, code=code, code_verifier=self._derive(state, "verifier"))
            claims = await self._provider.id_token(
                str(tokens.get("id_token", "")), self._config.login.client_id, self._derive(state, "nonce")
            )
            if name not in claims:
                claims = await self._userinfo(claims, str(tokens.get("access_token", "")))
        except OAuthError as error:
            log.warning("the identity provider refused a sign-in: %s", error)
            raise forbidden("The identity provider did not confirm the sign-in; start again") from error
        except (OSError, httpx2.HTTPError, ValueError) as error:
            raise _unreachable(error) from error
        return claims.get(name)

    async def _userinfo(self, claims: dict[str, Any], access_token: str) -> dict[str, Any]:
        """What the provider says of the user only when it is asked; it must speak of the same one."""
        endpoint = await self._provider.endpoint("userinfo_endpoint")
        if not endpoint:
            return claims
        said = await self._provider.json(endpoint, {"Authorization": f"Bearer {access_token}"})
        if said.get("sub") != claims.get("sub"):
            raise forbidden("The identity provider speaks of two users at once")
        return said

    def _client(self) -> AsyncOAuth2Client:
        # One for each sign-in: it remembers the tokens of the last one.
        return AsyncOAuth2Client(
            client_id=self._config.login.client_id,
            client_secret=self._secret or None,
            scope="openid profile email",
            redirect_uri=self._config.portal.public_url + CALLBACK_PATH,
            code_challenge_method="S256",
            timeout=REQUEST_TIMEOUT_S,
            trust_env=False,
        )

    def _derive(self, state: str, what: str) -> str:
        return hmac.new(self._key, f"{what} {state}".encode(), "sha256").hexdigest()


def _unreachable(error: Exception) -> HttpError:
    log.warning("the identity provider could not be asked: %s", error)
    return unavailable("The site's identity provider does not answer as it should; try again")
