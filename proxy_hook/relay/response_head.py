"""The head of a response that a user's process sends: parsed strictly, and written again for nginx.

A response is one status line, header lines and as many bytes as its one Content-Length says. That is all that Punway's
own processes send, so anything else is refused: interim responses, chunks, folded lines. Nothing is passed on that this
file does not name. nginx alone cannot do this: it passes responses of status 1xx, and what it takes for HTTP/0.9, as
bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD_BYTES = 8 * 1024
"""nginx's buffer for a response's head (proxy_buffer_size) has this size, too."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [\t\x20-\x7e\x80-\xff]*)?")
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_REASONS = {b"%d" % status: status.phrase.encode() for status in HTTPStatus if status >= HTTPStatus.OK}
_WITHOUT_BODY = (b"204", b"304")
_ANYTHING = re.compile(rb".*")
# A path of this portal. Browsers take "//host" and "/\host" for another one.
_OWN_PATH = re.compile(rb"/(?![/\\])[!-\[\]-~]*")
# No other scheme, and nothing after the challenge: "Basic" would have browsers ask for a password.
_BEARER = re.compile(rb'Bearer(?: [a-z_]+="[^"\\]*"(?:, [a-z_]+="[^"\\]*")*)?')

# For nginx's audit log, which keeps them from clients. nginx writes bytes beyond ASCII as they come.
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
"""Headers of a PUN that nginx gets, and what the value must be; one with another value is left out."""

ALLOWED_OF_MCP_SERVER = {**ALLOWED, b"ratelimit": _ANYTHING, b"ratelimit-policy": _ANYTHING}
"""The same of the MCP server, which hands on what nginx said to a credential."""


class BadResponse(Exception):
    """A response that is refused. The message says what is wrong with it."""


@dataclass(frozen=True)
class ResponseHead:
    """The head as nginx gets it, and how many bytes of body follow."""

    text: bytes
    body_bytes: int


def parse_head(head: bytes, *, to_head_request: bool, allowed: dict[bytes, re.Pattern[bytes]]) -> ResponseHead:
    """Return the head for nginx of a response's head without its last empty line. Raises BadResponse."""
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
                raise BadResponse("its Content-Length is no number, or there are two")
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
    """Whether bytes are one line of text, by every reader's idea of a line."""
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False
