"""address → row of a table: for the API and for the pages alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.exceptions import NotFound as WerkzeugNotFound
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.wrappers import Request as HttpRequest

from pun_app.errors import BadRequest, MethodNotAllowed, NotFound

# What another program on the way may read otherwise than we do: nginx matched the path with these resolved.
_AMBIGUOUS = re.compile(r"//|/\.\.?(/|$)|%2e|%2f|%5c|%00|[\\;\x00]", re.IGNORECASE)


class Row(Protocol):
    """What a table's rows have."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=Row)


class Table(Generic[R]):
    """The rows of one table. ``elsewhere`` is what an address that is in none of them is told."""

    def __init__(self, rows: Sequence[R], elsewhere: str) -> None:
        self._elsewhere = elsewhere
        # An address of its own is no id, whatever the method: DELETE /jobs/historic cancels nothing.
        self._own: dict[str, set[str]] = {}
        for row in rows:
            if "<" not in row.path:
                self._own.setdefault(row.path, set()).update(
                    {row.method} | ({"HEAD"} if row.method == "GET" else set())
                )
        rules = [Rule(row.path, methods=[row.method], endpoint=row) for row in rows]
        self._map = Map(rules, strict_slashes=True, merge_slashes=False, redirect_defaults=False)

    def match(self, http: HttpRequest) -> tuple[R, dict[str, str]]:
        """The row of a request, and the values in its address. Raises BadRequest, MethodNotAllowed, NotFound."""
        raw = http.environ.get("REQUEST_URI", http.path).partition("?")[0]
        if _AMBIGUOUS.search(raw):
            raise BadRequest("The address is ambiguous: it has //, ., .., ; or an encoded slash or dot in it")
        methods = self._own.get(http.path)
        if methods and http.method not in methods:
            raise MethodNotAllowed(", ".join(sorted(methods)))
        try:
            # werkzeug reads the path's bytes as UTF-8; what is none has been replaced.
            return self._map.bind_to_environ(http.environ).match()  # type: ignore[return-value]
        except WerkzeugMethodNotAllowed as error:
            raise MethodNotAllowed(", ".join(sorted(error.valid_methods or ()))) from error
        except (WerkzeugNotFound, RequestRedirect) as error:
            raise NotFound(self._elsewhere) from error
