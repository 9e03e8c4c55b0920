"""The router: it finds the row of a table for a request's address, for the API and the pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.exceptions import NotFound as WerkzeugNotFound
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.wrappers import Request as HttpRequest

from pun_app.errors import BadRequest, MethodNotAllowed, NotFound

# Parts of a path that programs read in different ways: nginx resolves them before it matches a location.
_AMBIGUOUS = re.compile(r"//|/\.\.?(/|$)|%2e|%2f|%5c|%00|[\\;\x00]", re.IGNORECASE)


class Row(Protocol):
    """The attributes of a table's rows that the router reads."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=Row)


class Table(Generic[R]):
    """The rows of one table. ``not_found`` is the error message for an address that is in no row."""

    def __init__(self, rows: Sequence[R], not_found: str) -> None:
        self._not_found = not_found
        # A fixed address is never read as an id, whatever the method: DELETE /jobs/historic cancels nothing.
        self._fixed: dict[str, set[str]] = {}
        for row in rows:
            if "<" not in row.path:
                self._fixed.setdefault(row.path, set()).update(
                    {row.method} | ({"HEAD"} if row.method == "GET" else set())
                )
        rules = [Rule(row.path, methods=[row.method], endpoint=row) for row in rows]
        self._map = Map(rules, strict_slashes=True, merge_slashes=False, redirect_defaults=False)

    def match(self, http: HttpRequest) -> tuple[R, dict[str, str]]:
        """Return a request's row and the values in its address. Raises BadRequest, MethodNotAllowed and NotFound."""
        raw = http.environ.get("REQUEST_URI", http.path).partition("?")[0]
        if _AMBIGUOUS.search(raw):
            raise BadRequest("The address is ambiguous. Remove //, ., .., ; and encoded slashes or dots from it.")
        methods = self._fixed.get(http.path)
        if methods and http.method not in methods:
            raise MethodNotAllowed(", ".join(sorted(methods)))
        try:
            # werkzeug decodes the path as UTF-8 and has replaced invalid bytes.
            return self._map.bind_to_environ(http.environ).match()  # type: ignore[return-value]
        except WerkzeugMethodNotAllowed as error:
            raise MethodNotAllowed(", ".join(sorted(error.valid_methods or ()))) from error
        except (WerkzeugNotFound, RequestRedirect) as error:
            raise NotFound(self._not_found) from error
