"""Who the caller is, for programs that want to know what their credential is good for."""

from __future__ import annotations

from pun_app.handlers.request import Answer, Request
from pun_app.schemas import WhoAmI
from tokens import scopes
from tokens.token import to_text


def who_am_i(request: Request) -> Answer[WhoAmI]:
    """Who the caller is: the user, how the credential was proved, and what it allows.

    A read that a write holds is among it.
    """
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
