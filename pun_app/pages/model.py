"""What a page's handler is given, and what it returns: no WSGI object."""

from __future__ import annotations

from dataclasses import dataclass, field

from pun_app.access import Visitor
from pun_app.settings import Settings
from tokens.manage import TokenManager


@dataclass
class PageRequest:
    """One request of a signed-in visitor; a form was found to be of our own page, and of this session.

    ``origin`` says where it came from, for the audit log.
    """

    visitor: Visitor
    manager: TokenManager
    settings: Settings
    form: dict[str, list[str]] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    def given(self, name: str) -> str:
        """A field's one value; empty where there is none, or more than one."""
        values = self.form.get(name, [])
        return values[0] if len(values) == 1 else ""


@dataclass
class Page:
    """A rendered page, or with ``location`` the way to another."""

    status: int
    body: str = ""
    location: str = ""
