"""The identification of callers: one function for each kind of credential, which returns the principal.

Runs in the hook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy_hook.accounts import Accounts, UnixAccount
from proxy_hook.browser.sessions import Session
from proxy_hook.config_keys import Idp
from proxy_hook.credentials import BearerToken, Jwt
from proxy_hook.errors import unauthorized
from proxy_hook.idp.provider import IdentityProvider
from proxy_hook.idp.user_map import UserMap
from proxy_hook.token_routes import RouteTable
from tokens import scopes
from tokens.lifetime import Policy
from tokens.token import sha256_of


@dataclass(frozen=True)
class Principal:
    """The account that a credential proves, and what the credential allows.

    ``via`` is "token", "jwt" or "session". ``key`` identifies the credential and is not secret. For a JWT, ``scopes``
    are its scopes. For a token, they are those that the site allows, because only the PUN reads the token's own scopes
    in the user's file. ``sha256`` is the hash of a token. ``sid`` is the random name of a session, for the PUN.
    """

    via: str
    account: UnixAccount
    key: str
    sha256: str | None = None
    scopes: tuple[str, ...] = ()
    sid: str | None = None


async def by_token(routes: RouteTable, policy: Policy, token: BearerToken, now: float) -> Principal:
    """Return the principal of a Punway token, from the route table.

    The site's longest lifetime applies regardless of the user's file. It counts from when the hook first saw the token.
    ``now`` is a Unix time in seconds. Raises HttpError (401).
    """
    digest = sha256_of(token.secret)
    route = await routes.route_of(digest)
    if route is None:
        # Unknown tokens, revoked tokens and those of another host get the same message, so it tells a guesser nothing.
        message = (
            "Invalid or missing API token: this token is not known, or was revoked. If Open OnDemand's dashboard "
            "created it, open the portal's API Tokens page once, or run: punway token sync"
        )
        raise unauthorized(message, "invalid_token")
    if policy.longest and now >= route.first_seen + policy.longest.total_seconds():
        message = "Invalid or missing API token: this token is older than the site allows; create a new one"
        raise unauthorized(message, "invalid_token")
    return Principal("token", UnixAccount(route.uid, route.name), digest, sha256=digest, scopes=policy.scopes)


class ByJwt:
    """The identification of bearer tokens that the site's identity provider issued."""

    def __init__(self, settings: Idp, provider: IdentityProvider, accounts: Accounts, policy: Policy) -> None:
        self._settings = settings
        self._policy = policy
        self._provider = provider
        self._accounts = accounts
        self._map = UserMap(settings.user_map)

    async def __call__(self, credential: Jwt) -> Principal:
        """Return the principal of a JWT.

        Raises HttpError: 401 for an invalid token, 403 if its identity is not a user of the portal, and 503 if the
        provider's keys cannot be fetched.
        """
        claims = await self._provider.verify_access_token(credential.token)
        account = await self._accounts.named(self._map.user_of(claims.get(self._settings.user_claim)))
        held = scopes.common(scopes_of(claims.get(self._settings.scope_claim)), self._policy.scopes)
        return Principal("jwt", account, sha256_of(credential.token), scopes=held)


def scopes_of(claim: Any) -> tuple[str, ...]:
    """Return the portal's scopes in a claim, which is a text of words (RFC 8693) or an array of words."""
    listed = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return tuple(scope for scope in scopes.SCOPES if scope in listed)


def by_session(session: Session) -> Principal:
    """Return the principal of a browser's session."""
    return Principal("session", session.account, session.key, sid=session.sid)
