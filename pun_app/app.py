"""One call: authorise, match, decode, handle, encode; errors are caught once, here. Pages have a call of their own.

Every request is authorised by this process itself: what the front matched was a normalised path, and what
arrives here is the raw one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from typing import Any

import msgspec
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import quote_etag
from werkzeug.wrappers import Request as HttpRequest
from werkzeug.wrappers import Response

from pun_app.access import ASSERTION, Access, Caller
from pun_app.adapters.errors import SchedulerError
from pun_app.clusters.load import ClusterFolder
from pun_app.deadline import time_limit, until
from pun_app.decode import decode
from pun_app.errors import ApiError, BadRequest, Internal, TooLarge, Unauthorized, UnsupportedMedia
from pun_app.expiring_files import ExpiringFiles, folder_of_user
from pun_app.gate import Gates
from pun_app.handlers.request import Place, Request
from pun_app.idempotency import KEPT, Submits, checked_key
from pun_app.long_poll import LongPoll, Parked, Wait
from pun_app.match import Table
from pun_app.pages.auth import Pages
from pun_app.queries import decode_query
from pun_app.routes import BODY_LIMIT, ROUTES, Route
from pun_app.scheduler_errors import api_error
from pun_app.settings import Settings
from pun_app.validation_errors import explain

_CLOCK = re.compile(rb'"wallclock_time":[0-9]+')
_LARGE = {(route.method, route.path) for route in ROUTES if route.large}
PARKED_CALL = "punway.parked_call"
"""Where the server puts the Call of a request that it calls the app for again, in the environment."""
ARRIVED = "punway.arrived"
"""Where it puts when a request had been read, in seconds of the monotonic clock; for one that has waited for a job,
when that wait was over."""

log = logging.getLogger("punway.pun")


@dataclass(frozen=True)
class Call:
    """An authorised request, its body decoded, and the route that answers it."""

    caller: Caller
    route: Route
    request: Request


class App:
    """The WSGI app of one PUN. Raises Parked for a request that waits."""

    def __init__(self, access: Access, clusters: ClusterFolder, pages: Pages, settings: Settings) -> None:
        self._access = access
        self._clusters = clusters
        self._pages = pages
        self.arrived = access.arrived
        self._gates = Gates(settings.threads)
        self._settings = settings
        self.long_poll = LongPoll(os.geteuid())
        self._submits = Submits(ExpiringFiles(folder_of_user() / "submits", KEPT))
        self._table = Table(ROUTES, "No such address; the API is under /api/v1/")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        http = HttpRequest(environ)
        answer = self._pages.answer if http.path.startswith("/settings/") else self._answer
        return answer(http)(environ, start_response)

    def body_limit(self, method: str, path: str) -> int:
        """Return how many bytes the body of a request may have."""
        return self._settings.max_body if (method, path) in _LARGE else min(BODY_LIMIT, self._settings.max_body)

    def _answer(self, http: HttpRequest) -> Response:
        call: Call | None = http.environ.get(PARKED_CALL)
        caller = call.caller if call else None
        keeps_place = False
        try:
            if call is None:
                caller = self._access.caller(http.headers.get("X-Pun-Assertion"), http.environ.get(ASSERTION))
                call = self._call(http, caller)
            else:
                # The request has waited, for minutes maybe.
                self._access.check_again(call.caller)
            began = http.environ.get(ARRIVED, call.request.arrived)
            with until(began + time_limit(http.method, http.path)):
                response = _handled(call)
        except Parked as parked:
            assert call
            if isinstance(parked.wait, Wait):
                call = replace(call, request=replace(call.request, wait=parked.wait))
            else:
                keeps_place = True
            parked.call = call
            raise
        except ApiError as error:
            response = self._error(error)
        except SchedulerError as error:
            response = self._error(api_error(error))
        except Exception:
            log.exception("%s %s failed", http.method, http.path)
            response = self._error(Internal())
        finally:
            if call is not None and not keeps_place:
                call.request.place.leave()
        if caller and caller.token_id is not None:
            _tell_token(response, caller.token_id, caller.token_name or "")
        return response

    def _call(self, http: HttpRequest, caller: Caller) -> Call:
        route, values = self._table.match(http)
        if route.scope:
            caller.need(route.scope)
        request = Request(
            caller=caller,
            clusters=self._clusters,
            long_poll=self.long_poll,
            submits=self._submits,
            place=Place(self._gates),
            site_docs=self._settings.notes,
            id=values.get("id", ""),
            query=decode_query(http.args.to_dict(flat=False), route.query),
            body=decode_body(http, route, self.body_limit(route.method, route.path)) if route.body else None,
            no_cache="no-cache" in http.headers.get("Cache-Control", ""),
            if_none_match=http.if_none_match,
            idempotency_key=checked_key(http.headers.get("Idempotency-Key")),
            arrived=http.environ.get(ARRIVED) or time.monotonic(),
        )
        return Call(caller, route, request)

    def _error(self, error: ApiError) -> Response:
        response = Response(_encoded({"error": error.error, "message": error.message}), error.status)
        response.headers.update(error.headers())
        if isinstance(error, Unauthorized):
            if self._settings.metadata_url:
                response.headers["WWW-Authenticate"] += f', resource_metadata="{self._settings.metadata_url}"'
            if error.token:
                _tell_token(response, error.token.id, error.token.name)
        return _finished(response)


def _handled(call: Call) -> Response:
    route, request = call.route, call.request
    answer = route.handler(request)
    members = {"data": answer.data}
    if answer.next_cursor is not None:
        members["next_cursor"] = answer.next_cursor or None
    content = _encoded(members)
    response = Response(content, answer.status or route.status)
    if answer.is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    if route.method == "GET":
        etag = answer.etag or _etag(content)
        if request.if_none_match.contains_weak(etag):
            # RFC 9110, section 15.4.5: nothing has changed, and there is no body.
            response = Response(status=304)
        response.headers["ETag"] = quote_etag(etag, weak=True)
        response.headers["Age"] = str(int(answer.age))
    return _finished(response)


def _encoded(answer: dict[str, Any]) -> bytes:
    """Return an answer as JSON. A name of the site's files need not be text: what UTF-8 cannot say becomes ``?``."""
    try:
        return msgspec.json.encode(answer)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(answer), ensure_ascii=False).encode("utf-8", "replace")


def _etag(content: bytes) -> str:
    """Return what tells one answer from another, without how long jobs have run: that alone is no news.

    In a text a quotation mark is escaped, so only members are left out. It takes some 4 ms for 2,500 jobs.
    """
    return blake2b(_CLOCK.sub(b"", content), digest_size=8).hexdigest()


def decode_body(http: HttpRequest, route: Route, limit: int) -> msgspec.Struct:
    """The request's body as a Struct. Raises UnsupportedMedia, TooLarge, and BadRequest naming the field.

    Only what the route's types ask for is made of the body, so that a small one costs little whatever is in it.
    """
    if http.mimetype != "application/json":
        raise UnsupportedMedia("Send the body as Content-Type: application/json")
    try:
        http.max_content_length = limit
        content = http.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise TooLarge(f"The body is larger than {limit} bytes") from error
    assert route.body
    try:
        if len(content) > BODY_LIMIT:
            _check_size(content, route)
        return decode(content, route.body)
    except msgspec.ValidationError as error:
        raise BadRequest(explain(error, route.body)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}") from error


def _check_size(content: bytes, route: Route) -> None:
    """Raise TooLarge for a large body whose size is not in the one field that may be large."""
    large: msgspec.Raw = getattr(msgspec.json.decode(content, type=_part(route.large)), route.large)
    if len(content) - len(memoryview(large)) > BODY_LIMIT:
        raise TooLarge(f"Only {route.large} may be large: the rest of the body is larger than {BODY_LIMIT} bytes")


@cache
def _part(field: str) -> type[msgspec.Struct]:
    """Return a Struct that has one field of a body as it is written, and skips the others."""
    return msgspec.defstruct("Part", [(field, msgspec.Raw, msgspec.Raw())])


def _tell_token(response: Response, token_id: str, name: str) -> None:
    """For nginx's audit log; it keeps these headers to itself. A header is one line, of bytes."""
    for header, text in (("X-Punway-Token-Id", token_id), ("X-Punway-Token-Name", name)):
        line = "".join(c if c.isprintable() else " " for c in text)[:200]
        response.headers[header] = line.encode().decode("latin-1")


def _finished(response: Response) -> Response:
    response.content_type = "application/json"
    response.headers["Cache-Control"] = "no-store"
    return response
