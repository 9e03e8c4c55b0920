"""What a browser asks the hook for, and what it gets: small, and without a framework. Runs in the hook."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from werkzeug.http import dump_cookie, parse_cookie

from proxy_hook.errors import HttpError

Headers = list[tuple[bytes, bytes]]
MAX_FORM_BYTES = 16 * 1024


@dataclass
class WebRequest:
    """One request, as nginx passed it on. Of every value that is given twice, there is none but in ``fields``."""

    method: str
    path: str
    headers: Headers
    query: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    fields: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """A header's value; None where it is missing. Raises HttpError (400) where it came twice."""
        given = [value for key, value in self.headers if key.lower() == name.lower().encode()]
        if len(given) > 1:
            raise HttpError(400, "bad_request", f"The request has more than one {name} header")
        return given[0].decode("latin-1") if given else None

    def cookie(self, name: str) -> str | None:
        """A cookie's value; None also where there are two of the name, since one of them is somebody else's."""
        lines = [value.decode("latin-1") for key, value in self.headers if key.lower() == b"cookie"]
        given = parse_cookie("; ".join(lines)).getlist(name)
        return given[0] if len(given) == 1 else None

    @property
    def origin(self) -> dict[str, str | None]:
        """Where it came from, for the audit log: nginx says it, and no client can."""
        return {"address": self.header("x-punway-peer"), "request_id": self.header("x-request-id")}


@dataclass
class WebAnswer:
    """A page, or a way to one. ``cookies`` are whole Set-Cookie values."""

    status: int
    body: str = ""
    location: str = ""
    cookies: list[str] = field(default_factory=list)
    content_type: str = "text/html; charset=utf-8"

    def head(self) -> Headers:
        headers = [(b"content-type", self.content_type.encode()), (b"cache-control", b"no-store")]
        if self.location:
            headers.append((b"location", self.location.encode()))
        return headers + [(b"set-cookie", cookie.encode()) for cookie in self.cookies]


async def request_from(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]]) -> WebRequest:
    """The request of an ASGI call. Raises HttpError for a form that is too large, or none."""
    request = WebRequest(scope["method"], scope["path"], scope["headers"])
    request.query = _single(scope["query_string"])
    if request.method == "POST":
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > MAX_FORM_BYTES:
                raise HttpError(413, "payload_too_large", "The form is larger than the portal takes")
            if not message.get("more_body"):
                break
        kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if body and kind != "application/x-www-form-urlencoded":
            raise HttpError(415, "unsupported_media_type", "The portal takes forms as a browser sends them")
        request.fields = _pairs(body)
        request.form = _single(body)
    return request


def _pairs(encoded: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return []


def _single(encoded: bytes) -> dict[str, str]:
    """The values that are there once."""
    pairs = _pairs(encoded)
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}


def cookie(name: str, value: str, *, secure: bool, age: int | None) -> str:
    """A Set-Cookie for the whole portal and no other host; without an age it goes with the browser."""
    return dump_cookie(name, value, max_age=age, path="/", secure=secure, httponly=True, samesite="Lax")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("proxy_hook.browser", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(name: str, **values: object) -> str:
    """A page of proxy_hook/browser/templates/. Every value is escaped."""
    return _templates().get_template(name).render(**{"site_url": "", **values})
