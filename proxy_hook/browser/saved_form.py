"""The form for a new token that an expired session did not let through: kept by the browser until it has signed in.

Every way of signing in ends in the hook, which then leads to the form with what was typed in it. Runs in the hook.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

FORM_COOKIE_AGE_S = 3600
NOTHING_TYPED = "-"
"""What the cookie holds where the session expired and there is nothing to keep."""
_FIELDS = ("name", "preset", "scope", "expires", "date")
MAX_FIELD_LENGTH = 100
MAX_FIELDS = 20
# What nginx does not take in an address, since it may be a token; whoever typed one as a name must not have it kept.
_SECRET = re.compile(r"[0-9a-f]{64}|eyJ[A-Za-z0-9_-]+\.|access_token", re.IGNORECASE)


def saved_form_of(fields: list[tuple[str, str]]) -> str:
    """Return the cookie's value for a form that was sent."""
    return _query(fields) or NOTHING_TYPED


def query_from(cookie: str) -> str:
    """Return the query that fills the form in, for the cookie's value: of the form's own fields alone."""
    try:
        return _query(parse_qsl(cookie, max_num_fields=MAX_FIELDS))
    except ValueError:
        return ""


def _query(fields: list[tuple[str, str]]) -> str:
    kept = [(name, value[:MAX_FIELD_LENGTH]) for name, value in fields if name in _FIELDS and not _SECRET.search(value)]
    return urlencode(kept[:MAX_FIELDS])
