"""The HTML pages of the hook, and the cookies that go with them. Runs in the hook."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from werkzeug.http import dump_cookie


def cookie(name: str, value: str, *, secure: bool, age: int | None) -> str:
    """Return a Set-Cookie value for all paths of this host, and no other host.

    ``age`` is in seconds. Without it, the cookie lasts until the browser is closed.
    """
    return dump_cookie(name, value, max_age=age, path="/", secure=secure, httponly=True, samesite="Lax")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("proxy_hook.browser", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(name: str, **values: object) -> str:
    """Return a page made from a template in proxy_hook/browser/templates/. Every value is escaped."""
    return _templates().get_template(name).render(**{"site_url": "", **values})
