"""The protection of forms against cross-site request forgery, in hook and PUN: CSRF tokens and origin checks."""

from __future__ import annotations

import hmac


def csrf_token(sid: str) -> str:
    """Return the CSRF token that every form of a session contains.

    It is derived from ``sid``, the name of the session. Only the hook and the user's PUN know that name, so a page of
    another origin cannot compute the token.
    """
    return hmac.new(sid.encode(), b"punway form", "sha256").hexdigest()


def is_csrf_token(given: str, sid: str) -> bool:
    """Return whether ``given`` is the CSRF token of the session ``sid``. The comparison takes constant time."""
    return hmac.compare_digest(given.encode(), csrf_token(sid).encode())


def is_own_page(origin: str | None, fetch_site: str | None, own_origin: str) -> bool:
    """Return whether a form came from the portal's own pages, by its Origin and Sec-Fetch-Site headers (Fetch, W3C).

    Current browsers send both headers with every form. If one is missing, the CSRF token alone decides.
    """
    return origin in (None, "", own_origin) and fetch_site in (None, "", "same-origin")
