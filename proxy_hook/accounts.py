"""Principal → Unix account, never root. Runs in the hook, which asks no name service for it:
a token's row has the uid and the name that the kernel and the name service gave when it was registered,
and the spawner's child looks both up again before it becomes anyone.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy_hook.denied import forbidden
from proxy_hook.identify import Principal


@dataclass(frozen=True)
class UnixAccount:
    uid: int
    name: str


def account_of(principal: Principal) -> UnixAccount:
    """The account that a principal acts as. Raises Denied (403) for root's."""
    if principal.uid == 0 or principal.name == "root":
        raise forbidden("root is not served")
    return UnixAccount(principal.uid, principal.name)
