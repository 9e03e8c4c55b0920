"""Cursors: where the next page of a list begins."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

from pun_app.errors import BadRequest


def cursor_after(last: str) -> str:
    """Return the cursor of the page after an entry. ``last`` identifies the entry, in ASCII."""
    return urlsafe_b64encode(last.encode("ascii")).decode()


def entry_before(cursor: str | None) -> str | None:
    """Return the text that a cursor was made from, or None without a cursor.

    Raises BadRequest for a cursor that ``cursor_after`` did not make. The list checks that the text is one of its own.
    """
    if cursor is None:
        return None
    try:
        entry = urlsafe_b64decode(cursor.encode("ascii")).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise unknown_cursor() from error
    if cursor_after(entry) != cursor:
        # The decoder skips characters that are not in its alphabet.
        raise unknown_cursor()
    return entry


def unknown_cursor() -> BadRequest:
    """Return the error for a cursor that the list did not give."""
    return BadRequest("Unknown cursor. Pass `next_cursor` from the previous page, or omit it for the first page.")
