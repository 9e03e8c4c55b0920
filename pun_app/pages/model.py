"""What a page's handler is given, and what it returns: no WSGI object."""

from __future__ import annotations

from dataclasses import dataclass, field

from pun_app.access import Visitor
from pun_app.pages.flash import Flashes
from pun_app.settings import Settings
from tokens.manage import TokenManager
from tokens.token import Token


@dataclass(frozen=True)
class Notice:
    """What a page says first.

    ``new`` and ``secret`` are set when a token was made: the one time it is shown. ``text`` is about ``revoked``.
    """

    text: str = ""
    is_error: bool = False
    new: Token | None = None
    secret: str = field(default="", repr=False)
    revoked: Token | None = None


@dataclass
class PageRequest:
    """One request of a signed-in visitor; a form was found to be of our own page, and of this session.

    ``origin`` says where it came from, for the audit log. ``flashes`` keeps what the next page says; a page that is
    only asked for its headers takes nothing of it.
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
        """A field's one value; empty where there is none, or more than one."""
        return _one(self.form, name)

    def asked(self, name: str) -> str:
        """The same of the query."""
        return _one(self.query, name)


@dataclass
class Page:
    """A rendered page, or with ``location`` the way to another."""

    status: int
    body: str = ""
    location: str = ""


def _one(values: dict[str, list[str]], name: str) -> str:
    given = values.get(name, [])
    return given[0] if len(given) == 1 else ""
