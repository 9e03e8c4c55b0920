"""credential → Principal: who a credential proves, by each of the ways that there are. Runs in the hook."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from proxy_hook.accounts import Accounts, UnixAccount, UserMap
from proxy_hook.browser.sessions import Session
from proxy_hook.config import Idp
from proxy_hook.credentials import BearerToken, Jwt
from proxy_hook.errors import unauthorized
from proxy_hook.idp.provider import IdentityProvider
from proxy_hook.token_routes import RouteTable
from tokens import scopes
from tokens.lifetime import Policy
from tokens.token import sha256_of


@dataclass(frozen=True)
class Principal:
    """Who was proved, and as which account. ``key`` names the credential, and is no secret.

    ``scopes`` are those of a JWT, or for a token the ones that the site allows; the token's own are in the user's
    file, which the PUN reads. ``sha256`` is a token's hash. ``sid`` names a session to the PUN.
    """

    via: str
    account: UnixAccount
    key: str
    sha256: str | None = None
    scopes: tuple[str, ...] = ()
    sid: str | None = None


async def by_token(routes: RouteTable, policy: Policy, token: BearerToken) -> Principal:
    """Return the principal of one of our tokens, through the route table.

    The site's policy holds whatever the user's file says: the lifetime is counted from when the hook first saw the
    token. Raises HttpError (401).
    """
    digest = sha256_of(token.secret)
    route = await routes.route_of(digest)
    if route is None:
        # Unknown, revoked and another host's are one answer: which it is, a guesser need not know.
        message = (
            "Invalid or missing API token: this token is not known, or was revoked. If Open OnDemand's dashboard made "
            "it, open the portal's API Tokens page once, or run: punway token sync"
        )
        raise unauthorized(message, "invalid_token")
    if policy.longest and time.time() >= route.first_seen + policy.longest.total_seconds():
        message = "Invalid or missing API token: this token is older than the site allows; make a new one"
        raise unauthorized(message, "invalid_token")
    return Principal("token", UnixAccount(route.uid, route.name), digest, sha256=digest, scopes=policy.scopes)


class ByJwt:
    """The principals of the identity provider's bearer tokens."""

    def __init__(self, settings: Idp, provider: IdentityProvider, accounts: Accounts, policy: Policy) -> None:
        self._settings = settings
        self._policy = policy
        self._provider = provider
        self._accounts = accounts
        self._map = UserMap(settings.user_map)

    async def __call__(self, credential: Jwt) -> Principal:
        """Raises HttpError: 401, 403 for an identity that is no user here, 503 without the provider's keys."""
        claims = await self._provider.access_token(credential.token)
        account = await self._accounts.named(self._map.name_of(claims.get(self._settings.user_claim)))
        held = scopes.common(scopes_of(claims.get(self._settings.scope_claim)), self._policy.scopes)
        return Principal("jwt", account, sha256_of(credential.token), scopes=held)


def scopes_of(claim: Any) -> tuple[str, ...]:
    """Those of the portal's scopes that a claim lists: words of one text (RFC 8693), or an array of them."""
    listed = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return tuple(scope for scope in scopes.SCOPES if scope in listed)


def by_session(session: Session) -> Principal:
    """The principal of a browser's session."""
    return Principal("session", session.account, session.key, sid=session.sid)
