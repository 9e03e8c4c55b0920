"""credential → Principal: who a credential proves, by each of the ways that there are. Runs in the hook."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy_hook.credentials import BearerToken
from proxy_hook.denied import unauthorized
from proxy_hook.routes import RouteTable
from tokens.token import sha256_of


@dataclass(frozen=True)
class Principal:
    """Who was proved. For a token, ``sha256`` is its hash, and the PUN has the last word on its scopes."""

    via: str
    uid: int
    name: str
    sha256: str | None
    scopes: tuple[str, ...] = ()


async def by_token(routes: RouteTable, token: BearerToken) -> Principal:
    """The principal of one of our tokens, through the route table. Raises Denied (401)."""
    digest = sha256_of(token.secret)
    route = routes.remembered(digest) or await asyncio.to_thread(routes.find, digest)
    if route is None:
        # Unknown, revoked and another host's are one answer: which it is, a guesser need not know.
        raise unauthorized("Invalid or missing API token: this token is not known, or was revoked", "invalid_token")
    return Principal("token", route.uid, route.name, digest)
