"""Lists a page at a time: how many at once, and where the next page begins."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from pun_app.errors import BadRequest, NotFound
from pun_app.handlers.request import Request

PAGE, LARGEST_PAGE = 100, 1000


def page_size(request: Request) -> int:
    """``limit``. Raises BadRequest."""
    text = request.given("limit") or str(PAGE)
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise BadRequest(f"limit must be from 1 to {LARGEST_PAGE}")
    return int(text)


def cursor_after(last: str) -> str:
    """What a client gives back for the page behind an entry. ``last`` is in ASCII."""
    return urlsafe_b64encode(last.encode("ascii")).decode()


def entry_before(request: Request) -> str | None:
    """The entry that ``cursor`` was made of. Raises NotFound, and BadRequest where it is there twice."""
    cursor = request.given("cursor", may_be_blank=True)
    if cursor is None:
        return None
    try:
        return urlsafe_b64decode(cursor.encode("ascii")).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise no_cursor() from error


def no_cursor() -> NotFound:
    return NotFound("cursor is none that this list gave; leave it out for the first page")
