"""One call: authorise, match, decode, handle, encode; errors are caught once, here. Pages have a call of their own.

Every request is authorised by this process itself: what the front matched was a normalised path, and what
arrives here is the raw one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Request as HttpRequest
from werkzeug.wrappers import Response

from pun_app.access import Access, Caller
from pun_app.clusters.load import ClusterFolder
from pun_app.errors import ApiError, BadRequest, Internal, TooLarge, Unauthorized, UnsupportedMedia
from pun_app.handlers.request import Request
from pun_app.kept import Kept, folder_of_user
from pun_app.match import Table
from pun_app.pages.door import Pages
from pun_app.routes import ROUTES
from pun_app.settings import Settings
from pun_app.submits import KEPT, Submits, checked_key
from pun_app.waiting import Waiters

_EXPECTED = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?$", re.DOTALL)

log = logging.getLogger("punway.pun")


class App:
    """The WSGI app of one PUN."""

    def __init__(self, access: Access, clusters: ClusterFolder, pages: Pages, settings: Settings) -> None:
        self._access = access
        self._clusters = clusters
        self._pages = pages
        self._settings = settings
        self.waiters = Waiters()
        self._submits = Submits(Kept(folder_of_user() / "submits", KEPT))
        self._table = Table(ROUTES, "No such address; the API is under /api/v1/")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        http = HttpRequest(environ)
        answer = self._pages.answer if http.path.startswith("/settings/") else self._answer
        return answer(http)(environ, start_response)

    def _answer(self, http: HttpRequest) -> Response:
        caller = None
        try:
            caller = self._access.caller(http.headers.get("X-Pun-Assertion"))
            response = self._handle(http, caller)
        except ApiError as error:
            response = self._error(error)
        except Exception:
            log.exception("%s %s failed", http.method, http.path)
            response = self._error(Internal())
        if caller and caller.token_id is not None:
            _tell_token(response, caller.token_id, caller.token_name or "")
        return response

    def _handle(self, http: HttpRequest, caller: Caller) -> Response:
        route, values = self._table.match(http)
        if route.scope:
            caller.need(route.scope)
        request = Request(
            caller=caller,
            clusters=self._clusters,
            notes=self._settings.notes,
            id=values.get("id", ""),
            query=http.args.to_dict(flat=False),
            fresh="no-cache" in http.headers.get("Cache-Control", ""),
            seen=http.headers.get("If-None-Match"),
            key=checked_key(http.headers.get("Idempotency-Key")),
            submits=self._submits,
            waiters=self.waiters,
            gone=http.environ.get("waitress.client_disconnected", lambda: False),
        )
        if route.body:
            request.body = decode_body(http, route.body, self._settings.max_body)
        answer = route.handler(request)
        whole = {"data": answer}
        if request.next_cursor is not None:
            whole["next_cursor"] = request.next_cursor or None
        if request.etag is not None and request.etag == request.seen:
            # RFC 9110, section 15.4.5: nothing has changed, and there is no body.
            response = Response(status=304)
        else:
            response = Response(msgspec.json.encode(whole), request.status or route.status)
        if request.etag is not None:
            response.headers["ETag"] = request.etag
        if request.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        if route.method == "GET":
            response.headers["Age"] = str(int(request.age))
        return _finished(response)

    def _error(self, error: ApiError) -> Response:
        body = {"error": error.error, "message": error.message}
        response = Response(msgspec.json.encode(body), error.status)
        response.headers.update(error.headers())
        if isinstance(error, Unauthorized):
            if self._settings.metadata_url:
                response.headers["WWW-Authenticate"] += f', resource_metadata="{self._settings.metadata_url}"'
            if error.token:
                _tell_token(response, error.token.id, error.token.name)
        return _finished(response)


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
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.ValidationError:
            # To JSON Schema (and to OpenAPI, which has it) 60.0 is a whole number.
            return msgspec.convert(_whole_numbers(msgspec.json.decode(content)), kind)
    except msgspec.ValidationError as error:
        raise BadRequest(_field_first(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}") from error


def _whole_numbers(value: Any) -> Any:
    """The same, with each number that is whole as int."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _field_first(said: str) -> str:
    """``Expected `int`, got `str` - at `$.options.wall_time``` → ``options.wall_time: expected int, got str``."""
    match = _EXPECTED.match(said)
    what, where = (match["what"], match["where"]) if match else (said, None)
    what = what.replace("`", "")
    what = what[:1].lower() + what[1:]
    return f"{where}: {what}" if where else f"The body: {what}"


def _tell_token(response: Response, token_id: str, name: str) -> None:
    """For nginx's audit log; it keeps these headers to itself. A header is one line, of bytes."""
    for header, text in (("X-Punway-Token-Id", token_id), ("X-Punway-Token-Name", name)):
        line = "".join(c if c.isprintable() else " " for c in text)[:200]
        response.headers[header] = line.encode().decode("latin-1")


def _finished(response: Response) -> Response:
    response.content_type = "application/json"
    response.headers["Cache-Control"] = "no-store"
    return response
