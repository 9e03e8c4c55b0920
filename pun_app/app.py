"""One call: match, authorise, decode, handle, encode; errors are caught once, here.

Every request is authorised by this process itself: what the front matched was a normalised path, and what
arrives here is the raw one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.exceptions import NotFound as WerkzeugNotFound
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.wrappers import Request as HttpRequest
from werkzeug.wrappers import Response

from pun_app.access import Access
from pun_app.clusters.load import ClusterFolder
from pun_app.errors import (
    ApiError,
    BadRequest,
    Internal,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    UnsupportedMedia,
)
from pun_app.handlers.request import Request
from pun_app.routes import ROUTES, Route

# What another program on the way may read otherwise than we do: nginx matched the path with these resolved.
_AMBIGUOUS = re.compile(r"//|/\.\.?(/|$)|%2e|%2f|%5c|%00|[\\;\x00]", re.IGNORECASE)
_EXPECTED = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?$", re.DOTALL)

log = logging.getLogger("punway.pun")


class App:
    """The WSGI app of one PUN. ``max_body`` is in bytes."""

    def __init__(self, access: Access, clusters: ClusterFolder, max_body: int) -> None:
        self._access = access
        self._clusters = clusters
        self._max_body = max_body
        rules = [Rule(r.path, methods=[r.method], endpoint=r) for r in ROUTES]
        self._map = Map(rules, strict_slashes=True, merge_slashes=False, redirect_defaults=False)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        http = HttpRequest(environ)
        try:
            response = self._answer(http)
        except ApiError as error:
            response = _error(error)
        except Exception:
            log.exception("%s %s failed", http.method, http.path)
            response = _error(Internal())
        return response(environ, start_response)

    def _answer(self, http: HttpRequest) -> Response:
        caller = self._access.caller(http.headers.get("X-Pun-Assertion"))
        route, values = self._match(http)
        caller.need(route.scope)
        request = Request(
            caller=caller,
            clusters=self._clusters,
            id=values.get("id", ""),
            query=http.args.to_dict(flat=False),
            fresh="no-cache" in http.headers.get("Cache-Control", ""),
        )
        if route.body:
            request.body = decode_body(http, route.body, self._max_body)
        answer = route.handler(request)
        response = Response(msgspec.json.encode({"data": answer}), route.status)
        if route.method == "GET":
            response.headers["Age"] = str(int(request.age))
        return _finished(response)

    def _match(self, http: HttpRequest) -> tuple[Route, dict[str, str]]:
        raw = http.environ.get("REQUEST_URI", http.path).partition("?")[0]
        if _AMBIGUOUS.search(raw):
            raise BadRequest("The address is ambiguous: it has //, ., .., ; or an encoded slash or dot in it")
        try:
            # werkzeug reads the path's bytes as UTF-8; what is none has been replaced.
            return self._map.bind_to_environ(http.environ).match()  # type: ignore[return-value]
        except WerkzeugMethodNotAllowed as error:
            raise MethodNotAllowed(", ".join(sorted(error.valid_methods or ()))) from error
        except (WerkzeugNotFound, RequestRedirect) as error:
            raise NotFound("No such address; the API is under /api/v1/") from error


def decode_body(http: HttpRequest, kind: type[msgspec.Struct], max_body: int) -> msgspec.Struct:
    """The request's body as a Struct. Raises UnsupportedMedia, TooLarge, and BadRequest naming the field."""
    if http.mimetype != "application/json":
        raise UnsupportedMedia("Send the body as Content-Type: application/json")
    if http.content_length is not None and http.content_length > max_body:
        raise TooLarge(f"The body is larger than {max_body} bytes")
    try:
        http.max_content_length = max_body
        content = http.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise TooLarge(f"The body is larger than {max_body} bytes") from error
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(_field_first(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}") from error


def _field_first(said: str) -> str:
    """``Expected `int`, got `str` - at `$.options.wall_time``` → ``options.wall_time: expected int, got str``."""
    match = _EXPECTED.match(said)
    what, where = (match["what"], match["where"]) if match else (said, None)
    what = what.replace("`", "")
    what = what[:1].lower() + what[1:]
    return f"{where}: {what}" if where else f"The body: {what}"


def _error(error: ApiError) -> Response:
    body = {"error": error.error, "message": error.message}
    response = Response(msgspec.json.encode(body), error.status)
    response.headers.update(error.headers())
    return _finished(response)


def _finished(response: Response) -> Response:
    response.content_type = "application/json"
    response.headers["Cache-Control"] = "no-store"
    return response
