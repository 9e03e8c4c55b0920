"""The input and the output of a page's handler. Neither has a WSGI object in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pun_app.access import Visitor
from pun_app.pages.flash import Flashes
from pun_app.settings import Settings
from tokens.manage import TokenManager
from tokens.token import Token


@dataclass(frozen=True)
class Notice:
    """A message at the top of a page.

    ``new`` and ``secret`` are a token that was just made; this is the only time that the secret is shown. If a token
    was revoked, ``revoked`` is the token and ``text`` the rest of a sentence about it.
    """

    text: str = ""
    is_error: bool = False
    new: Token | None = None
    secret: str = field(default="", repr=False)
    revoked: Token | None = None


@dataclass
class PageRequest:
    """A request of a signed-in visitor. Its form comes from one of our own pages and from this session.

    ``origin`` has the client's address and the request's id, for the audit log. ``flashes`` keeps the messages for the
    next page. A request with ``head_only`` takes no message.
    """

    visitor: Visitor
    manager: TokenManager
    settings: Settings
    flashes: Flashes[Notice]
    form: dict[str, list[str]] = field(default_factory=dict)
    query: dict[str, list[str]] = field(default_factory=dict)
    head_only: bool = False
    origin: dict[str, str] = field(default_factory=dict)

    def given(self, name: str) -> str:
        """Return the value of a form field, or "" unless the field has exactly one value."""
        return _one(self.form, name)

    def asked(self, name: str) -> str:
        """Return the value of a query parameter, or "" unless it has exactly one value."""
        return _one(self.query, name)


@dataclass
class Page:
    """A rendered page, or a redirect to ``location``."""

    status: int
    body: str = ""
    location: str = ""


def _one(values: dict[str, list[str]], name: str) -> str:
    given = values.get(name, [])
    return given[0] if len(given) == 1 else ""
