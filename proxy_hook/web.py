"""Requests and responses of the hook's pages, without a web framework. Runs in the hook."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.http import parse_cookie

from proxy_hook.errors import HttpError

Headers = list[tuple[bytes, bytes]]

MAX_FORM_BYTES = 16 * 1024
MAX_FORM_FIELDS = 20


def header_of(headers: Headers, name: str) -> str | None:
    """Return a header's value; None if it is missing. Raises HttpError (400) if the header occurs twice."""
    values = [value for key, value in headers if key.lower() == name.lower().encode()]
    if len(values) > 1:
        raise HttpError(400, "bad_request", f"The request has more than one {name} header; send exactly one")
    return values[0].decode("latin-1") if values else None


@dataclass
class WebRequest:
    """A request, as nginx passed it on.

    ``query`` and ``form`` have only the parameters that occur once. ``fields`` has all fields of the form, in order.
    """

    method: str
    path: str
    headers: Headers
    query: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    fields: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return a header's value; None if it is missing. Raises HttpError (400) if the header occurs twice."""
        return header_of(self.headers, name)

    def cookie(self, name: str) -> str | None:
        """Return a cookie's value; None if it is missing or occurs twice.

        If there are two cookies with the same name, one may come from another site, and they cannot be told apart.
        """
        lines = [value.decode("latin-1") for key, value in self.headers if key.lower() == b"cookie"]
        values = parse_cookie("; ".join(lines)).getlist(name)
        return values[0] if len(values) == 1 else None

    @property
    def origin(self) -> dict[str, str | None]:
        """The origin of the request, for the audit log. nginx sets these headers, and clients cannot."""
        return {"address": self.header("x-punway-peer"), "request_id": self.header("x-request-id")}


@dataclass
class WebResponse:
    """A page or a redirect. ``cookies`` are complete Set-Cookie values."""

    status: int
    body: str = ""
    location: str = ""
    cookies: list[str] = field(default_factory=list)
    content_type: str = "text/html; charset=utf-8"

    def headers(self) -> Headers:
        """Return the response's headers."""
        headers = [(b"content-type", self.content_type.encode()), (b"cache-control", b"no-store")]
        if self.location:
            headers.append((b"location", self.location.encode()))
        return headers + [(b"set-cookie", cookie.encode()) for cookie in self.cookies]


async def request_from(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]]) -> WebRequest:
    """Read the request of an ASGI call. Raises HttpError if the body is too large (413) or not a form (415)."""
    request = WebRequest(scope["method"], scope["path"], scope["headers"])
    request.query = _single(scope["query_string"])
    if request.method == "POST":
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > MAX_FORM_BYTES:
                raise HttpError(
                    413, "payload_too_large", f"The form is larger than {MAX_FORM_BYTES // 1024} kB; shorten it"
                )
            if not message.get("more_body"):
                break
        content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if body and content_type != "application/x-www-form-urlencoded":
            raise HttpError(
                415, "unsupported_media_type", "Send the form with Content-Type: application/x-www-form-urlencoded"
            )
        request.fields = _pairs(body)
        request.form = _single(body)
    return request


def _pairs(encoded: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        return []


def _single(encoded: bytes) -> dict[str, str]:
    """Return the parameters that occur exactly once."""
    pairs = _pairs(encoded)
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}
