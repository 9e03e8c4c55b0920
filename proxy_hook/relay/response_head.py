"""The head of a response from a user's process: it is parsed strictly, and rewritten for nginx.

A response is a status line, header lines, and as many bytes as its only Content-Length says. Punway's own processes
send nothing else, so everything else is rejected: interim responses, chunked encoding, folded lines. Only headers that
this file lists are passed on. nginx alone cannot do this: it passes on 1xx responses, and data that it takes for
HTTP/0.9, as bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD_BYTES = 8 * 1024
"""The maximum size of a head. nginx's buffer for it (proxy_buffer_size) has the same size."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [\t\x20-\x7e\x80-\xff]*)?")
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_REASONS = {b"%d" % status: status.phrase.encode() for status in HTTPStatus if status >= HTTPStatus.OK}
_WITHOUT_BODY = (b"204", b"304")
_ANYTHING = re.compile(rb".*")
# A path of this portal. Browsers interpret "//host" and "/\host" as another host.
_OWN_PATH = re.compile(rb"/(?![/\\])[!-\[\]-~]*")
# Only the scheme Bearer, with one challenge: "Basic" would make browsers ask for a password.
_BEARER = re.compile(rb'Bearer(?: [a-z_]+="[^"\\]*"(?:, [a-z_]+="[^"\\]*")*)?')

# Headers for nginx's audit log; nginx does not send them to clients. It logs non-ASCII bytes unchanged.
_FOR_THE_LOG = (b"x-punway-token-id", b"x-punway-token-name")

ALLOWED = {
    **dict.fromkeys(
        (b"content-type", b"etag", b"last-modified", b"cache-control", b"age", b"allow", b"retry-after"), _ANYTHING
    ),
    b"idempotency-replayed": _ANYTHING,
    b"location": _OWN_PATH,
    b"www-authenticate": _BEARER,
    **dict.fromkeys(_FOR_THE_LOG, _ANYTHING),
}
"""The headers of a PUN that nginx gets, each with a pattern for its value. A header with another value is omitted."""

ALLOWED_OF_MCP_SERVER = {**ALLOWED, b"ratelimit": _ANYTHING, b"ratelimit-policy": _ANYTHING}
"""The headers of the MCP server that nginx gets. It also passes on the rate limits that nginx reported to it."""


class BadResponse(Exception):
    """A rejected response. The message says what is wrong with it."""


@dataclass(frozen=True)
class ResponseHead:
    """A head in the form that nginx gets, and the number of body bytes that follow."""

    text: bytes
    body_bytes: int


def parse_head(head: bytes, *, to_head_request: bool, allowed: dict[bytes, re.Pattern[bytes]]) -> ResponseHead:
    """Parse a head, given without its final empty line, and return the head for nginx. Raises BadResponse.

    ``to_head_request`` says that the response is to a HEAD request, and therefore has no body. ``allowed`` is ALLOWED
    or ALLOWED_OF_MCP_SERVER.
    """
    first, *lines = head.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(first)
    if not status_line:
        raise BadResponse(f"its status line is {first[:40]!r}")
    status = status_line[1]
    if status not in _REASONS:
        raise BadResponse(f"its status is {status.decode()}")
    length, passed = None, {}
    for line in lines:
        header = _HEADER_LINE.fullmatch(line)
        if not header:
            raise BadResponse(f"a header line is {line[:40]!r}")
        name, value = header[1].lower(), header[2].rstrip(b" \t")
        if name == b"transfer-encoding":
            raise BadResponse("it has a Transfer-Encoding; it must have a Content-Length")
        if name == b"content-length":
            if length is not None or not re.fullmatch(rb"\d{1,15}", value):
                raise BadResponse("its Content-Length is not a number, or there are two")
            length = int(value)
        elif name in allowed and allowed[name].fullmatch(value) and (name not in _FOR_THE_LOG or _is_line(value)):
            if name in passed:
                raise BadResponse(f"it has two {name.decode()} headers")
            passed[name] = value
    bodiless = status in _WITHOUT_BODY
    if length is None and not (bodiless or to_head_request):
        raise BadResponse("it has no Content-Length")
    if length is not None and not bodiless:
        passed[b"content-length"] = b"%d" % length
    headers = b"".join(b"%s: %s\r\n" % (name.title(), value) for name, value in passed.items())
    text = b"HTTP/1.1 %s %s\r\n%s\r\n" % (status, _REASONS[status], headers)
    return ResponseHead(text, 0 if bodiless or to_head_request or length is None else length)


def _is_line(value: bytes) -> bool:
    """Return whether bytes are one line of text by every definition of a line."""
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False
