"""A form for a new token that was sent after the session had expired, saved in a cookie until the user has signed in.

Runs in the hook, where every way of signing in ends. The hook then opens the form again, filled in from the cookie.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

FORM_COOKIE_AGE_S = 3600
NOTHING_TO_SAVE = "-"
"""The cookie's value if the session expired, but there is nothing to save."""
MAX_FIELD_LENGTH = 100
MAX_FIELDS = 20
_FIELDS = ("name", "preset", "scope", "expires", "date")
# nginx rejects these texts in addresses because they may be tokens. A token that was typed as a name must not be saved.
_SECRET = re.compile(r"[0-9a-f]{64}|eyJ[A-Za-z0-9_-]+\.|access_token", re.IGNORECASE)


def form_cookie_value(fields: list[tuple[str, str]]) -> str:
    """Return the cookie's value that saves a form."""
    return _query(fields) or NOTHING_TO_SAVE


def query_from(value: str) -> str:
    """Return the query that fills the form in from the cookie's value. Only the form's own fields are used."""
    try:
        return _query(parse_qsl(value, max_num_fields=MAX_FIELDS))
    except ValueError:
        return ""


def _query(fields: list[tuple[str, str]]) -> str:
    saved = [
        (name, value[:MAX_FIELD_LENGTH]) for name, value in fields if name in _FIELDS and not _SECRET.search(value)
    ]
    return urlencode(saved[:MAX_FIELDS])
