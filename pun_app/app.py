"""The WSGI app of a PUN: it authorises, matches, decodes, handles and encodes a request, and catches every error once.

The HTML pages have an app of their own (pages/auth.py). This process authorises every request itself, because nginx
matched a normalised path and this process receives the raw one.
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
from pun_app.decode import decode, decode_query
from pun_app.errors import ApiError, BadRequest, Internal, TooLarge, Unauthorized, UnsupportedMedia
from pun_app.expiring_files import ExpiringFiles, folder_of_user
from pun_app.gate import Gates
from pun_app.handlers.request import Place, Request
from pun_app.idempotency import KEY_TTL_S, Submits, checked_key
from pun_app.long_poll import LongPoll, Parked, Wait
from pun_app.match import Table
from pun_app.pages.auth import Pages
from pun_app.routes import BODY_LIMIT, ROUTES, Route
from pun_app.scheduler_errors import api_error
from pun_app.settings import Settings
from pun_app.validation_errors import explain

_CLOCK = re.compile(rb'"wallclock_time":[0-9]+')
_LARGE = {(route.method, route.path) for route in ROUTES if route.large}
PARKED_CALL = "punway.parked_call"
"""The key in the WSGI environment of the Call that the server resumes after a wait."""
ARRIVED = "punway.arrived"
"""The key in the WSGI environment of the request's arrival: the time at which the request had been read or, after a
wait for a job, at which the wait ended. In seconds of the monotonic clock."""

log = logging.getLogger("punway.pun")


@dataclass(frozen=True)
class Call:
    """An authorised and decoded request, and the route that answers it."""

    caller: Caller
    route: Route
    request: Request


class App:
    """The WSGI app of one PUN. It raises Parked for a request that has to wait."""

    def __init__(self, access: Access, clusters: ClusterFolder, pages: Pages, settings: Settings) -> None:
        self._access = access
        self._clusters = clusters
        self._pages = pages
        self.verify_assertion = access.verify_assertion
        self._gates = Gates(settings.threads)
        self._settings = settings
        self.long_poll = LongPoll(os.geteuid())
        self._submits = Submits(ExpiringFiles(folder_of_user() / "submits", KEY_TTL_S))
        self._table = Table(ROUTES, "Unknown address; /api/v1/docs lists the API's addresses")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        http = HttpRequest(environ)
        answer = self._pages.answer if http.path.startswith("/settings/") else self._answer
        return answer(http)(environ, start_response)

    def body_limit(self, method: str, path: str) -> int:
        """Return the maximum size of a request's body, in bytes."""
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
                # The request may have waited for minutes.
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
            _name_token(response, caller.token_id, caller.token_name or "")
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
            site_docs=self._settings.site_docs,
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
                _name_token(response, error.token.id, error.token.name)
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
            # RFC 9110, section 15.4.5: the client's copy is current, so a 304 without a body is enough.
            response = Response(status=304)
        response.headers["ETag"] = quote_etag(etag, weak=True)
        response.headers["Age"] = str(int(answer.age))
    return _finished(response)


def _encoded(answer: dict[str, Any]) -> bytes:
    """Return an answer as JSON. A file name may have bytes that are not UTF-8; each of them becomes ``?``."""
    try:
        return msgspec.json.encode(answer)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(answer), ensure_ascii=False).encode("utf-8", "replace")


def _etag(content: bytes) -> str:
    """Return a hash of an answer that ignores ``wallclock_time``: a job that has run longer has not changed.

    JSON escapes the quotation marks in a string, so the pattern matches members only. 2,500 jobs take about 4 ms.
    """
    return blake2b(_CLOCK.sub(b"", content), digest_size=8).hexdigest()


def decode_body(http: HttpRequest, route: Route, limit: int) -> msgspec.Struct:
    """Return the request's body as a Struct.

    ``limit`` is the maximum size in bytes. The body is decoded straight into the route's type, so that a small body
    costs little memory whatever its content. Raises UnsupportedMedia, TooLarge, and BadRequest, which names the field.
    """
    if http.mimetype != "application/json":
        raise UnsupportedMedia("Send the body as Content-Type: application/json")
    try:
        http.max_content_length = limit
        content = http.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise TooLarge(f"The body is larger than {limit} bytes; send a smaller one") from error
    assert route.body
    try:
        if len(content) > BODY_LIMIT:
            _check_size(content, route)
        return decode(content, route.body)
    except msgspec.ValidationError as error:
        raise BadRequest(explain(error, route.body)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON; correct it and try again: {error}") from error


def _check_size(content: bytes, route: Route) -> None:
    """Raise TooLarge if the body exceeds BODY_LIMIT even without the one field that may be large."""
    large: msgspec.Raw = getattr(msgspec.json.decode(content, type=_part(route.large)), route.large)
    if len(content) - len(memoryview(large)) > BODY_LIMIT:
        raise TooLarge(
            f"The body without {route.large} is larger than {BODY_LIMIT} bytes; only {route.large} may be larger"
        )


@cache
def _part(field: str) -> type[msgspec.Struct]:
    """Return a Struct type that keeps one field of a body as raw JSON and skips the others."""
    return msgspec.defstruct("Part", [(field, msgspec.Raw, msgspec.Raw())])


def _name_token(response: Response, token_id: str, name: str) -> None:
    """Add the headers that name the token in nginx's audit log. nginx does not pass them on to the client.

    A header is one line of bytes, so characters that do not print become blanks.
    """
    for header, text in (("X-Punway-Token-Id", token_id), ("X-Punway-Token-Name", name)):
        line = "".join(c if c.isprintable() else " " for c in text)[:200]
        response.headers[header] = line.encode().decode("latin-1")


def _finished(response: Response) -> Response:
    response.content_type = "application/json"
    response.headers["Cache-Control"] = "no-store"
    return response
