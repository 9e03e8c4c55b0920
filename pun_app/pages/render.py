"""The rendering of pages. Jinja2 is imported with the first page, so a PUN that serves only the API does without it."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING

from tokens.token import utc_now

if TYPE_CHECKING:
    from jinja2 import Environment

# Each unit has its length and the shortest time that is written in it, in seconds. 90 days are not written as 2 months.
_UNITS = (
    ("year", 31_536_000, 31_104_000),
    ("month", 2_628_000, 10_368_000),
    ("day", 86_400, 86_400),
    ("hour", 3600, 3600),
    ("minute", 60, 60),
)


def render(name: str, **values: object) -> str:
    """Return a template of pun_app/pages/templates/ with its values, all of which are escaped."""
    return _environment().get_template(name).render(**values)


def error_page(message: str, *, csrf_token: str = "", user: str = "") -> str:
    """Return a page with an error message. With a session's CSRF token it has a button to sign out."""
    return render("error.html", message=message, csrf_token=csrf_token, user=user, site_url="")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("pun_app.pages"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ago=ago, exact=exact)
    return environment


def ago(when: datetime, now: datetime | None = None) -> str:
    """Return ``3 minutes ago``, ``in 90 days`` or ``just now``. Past times are rounded down, future times rounded."""
    seconds = int(((now or utc_now()) - when).total_seconds())
    for unit, length, least in _UNITS:
        if abs(seconds) >= least:
            count = seconds // length if seconds > 0 else round(-seconds / length)
            words = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "just now" if seconds >= 0 else "in a moment"


def exact(when: datetime) -> str:
    """Return a time as ``2026-11-22 18:00:00 UTC``."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
