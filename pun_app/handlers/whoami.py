"""The handler of GET /api/v1/whoami: the caller and the scopes of the credential."""

from __future__ import annotations

from pun_app.handlers.request import Answer, Request
from pun_app.schemas import WhoAmI
from tokens import scopes
from tokens.token import to_text


def who_am_i(request: Request) -> Answer[WhoAmI]:
    """Return the user, the kind of the credential, and its scopes. A write scope includes the read scope."""
    caller = request.caller
    return Answer(
        WhoAmI(
            user=caller.user,
            via=caller.via,
            scopes=[scope for scope in scopes.ALL if scopes.allows(caller.scopes, scope)],
            token_id=caller.token_id,
            token_name=caller.token_name,
            expires_at=to_text(caller.expires_at),
        )
    )
