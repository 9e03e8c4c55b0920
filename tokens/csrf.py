"""What the hook and a PUN ask of a browser's form before they do what it says."""

from __future__ import annotations

import hmac


def csrf_token(sid: str) -> str:
    """What each form of a session carries, and a page of another origin cannot know.

    ``sid`` names the session, and is known to the hook and to its user's PUN alone.
    """
    return hmac.new(sid.encode(), b"punway form", "sha256").hexdigest()


def is_csrf_token(given: str, sid: str) -> bool:
    return hmac.compare_digest(given.encode(), csrf_token(sid).encode())


def is_own_page(origin: str | None, fetch_site: str | None, ours: str) -> bool:
    """Whether a form was sent from a page of ours, by its Origin and Sec-Fetch-Site headers (Fetch, W3C).

    Browsers send both with every form; where a header is missing, the form's token alone decides.
    """
    return origin in (None, "", ours) and fetch_site in (None, "", "same-origin")
