"""The app of the HTML pages: it authorises, matches and handles a request, and turns every error into a page once.

These addresses need a browser's session, and accept no token. A session is accepted nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Request as HttpRequest
from werkzeug.wrappers import Response

from pun_app.access import ASSERTION, Access, Visitor
from pun_app.errors import ApiError, Forbidden, Internal, TooLarge, UnsupportedMedia
from pun_app.match import Table
from pun_app.pages.flash import Flashes
from pun_app.pages.model import Notice, Page, PageRequest
from pun_app.pages.render import error_page
from pun_app.settings import Settings
from tokens.csrf import csrf_token, is_csrf_token, is_own_page
from tokens.manage import TokenManager

MAX_FORM_BYTES = 64 * 1024
"""Maximum size of a form."""

log = logging.getLogger("punway.pun")


@dataclass(frozen=True)
class PageRoute:
    """A row of the table of pages."""

    method: str
    path: str
    handler: Callable[[PageRequest], Page]


class Pages:
    """The app for every address below /settings/."""

    def __init__(self, rows: Sequence[PageRoute], access: Access, manager: TokenManager, settings: Settings) -> None:
        self._table = Table(rows, "Page not found")
        self._access = access
        self._manager = manager
        self._settings = settings
        self._flashes: Flashes[Notice] = Flashes()

    def answer(self, http: HttpRequest) -> Response:
        visitor = None
        try:
            visitor = self._access.visitor(http.headers.get("X-Pun-Assertion"), http.environ.get(ASSERTION))
            route, _ = self._table.match(http)
            page = route.handler(self._request(http, visitor))
        except ApiError as error:
            page = _error(error, visitor)
        except Exception:
            log.exception("%s %s failed", http.method, http.path)
            page = _error(Internal(), visitor)
        response = Response(page.body, page.status, content_type="text/html; charset=utf-8")
        if page.location:
            response.headers["Location"] = page.location
            response.autocorrect_location_header = False
        response.headers["Cache-Control"] = "no-store"
        return response

    def _request(self, http: HttpRequest, visitor: Visitor) -> PageRequest:
        request = PageRequest(
            visitor,
            self._manager,
            self._settings,
            self._flashes,
            query=http.args.to_dict(flat=False),
            head_only=http.method == "HEAD",
            origin={
                "address": http.headers.get("X-Punway-Peer", ""),
                "request_id": http.headers.get("X-Request-Id", ""),
            },
        )
        if http.method == "POST":
            request.form = self._form(http, visitor)
        return request

    def _form(self, http: HttpRequest, visitor: Visitor) -> dict[str, list[str]]:
        """Return the form. Raises Forbidden unless one of our own pages sent it, in this session."""
        ours = self._settings.origin
        if not is_own_page(http.headers.get("Origin"), http.headers.get("Sec-Fetch-Site"), ours):
            raise Forbidden(f"This form did not come from a page of {ours}; open the page there and try again")
        if http.mimetype != "application/x-www-form-urlencoded":
            raise UnsupportedMedia("This address accepts only forms, in the format that browsers send")
        try:
            http.max_content_length = http.max_form_memory_size = MAX_FORM_BYTES
            form = http.form.to_dict(flat=False)
        except RequestEntityTooLarge as error:
            raise TooLarge("This form is too large; shorten its fields and try again") from error
        if not is_csrf_token("".join(form.get("csrf_token", [])), visitor.sid):
            raise Forbidden("Your session has expired. Reload the page and try again")
        return form


def _error(error: ApiError, visitor: Visitor | None) -> Page:
    token = csrf_token(visitor.sid) if visitor else ""
    user = visitor.user if visitor else ""
    return Page(error.status, error_page(error.message, csrf_token=token, user=user))
