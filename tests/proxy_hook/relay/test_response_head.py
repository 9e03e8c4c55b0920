"""proxy_hook/relay/response_head.py: any bytes are either a valid head or rejected."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy_hook.relay.response_head import ALLOWED, ALLOWED_OF_MCP_SERVER, BadResponse, ResponseHead, parse_head

LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 304 X", b"Content-Length: 4", b"Content-Length:0",
             b"Location: /a", b"Location: //a", b"WWW-Authenticate: Bearer a=\"b\"", b"Set-Cookie: a", b" folded", b"",
             b"Transfer-Encoding: chunked", b"Retry-After: 5", b"ETag: \"\xff\""]
        ),
        st.binary(max_size=40),
        st.builds(lambda name, value: name + b": " + value, st.sampled_from(sorted(ALLOWED)), st.binary(max_size=20)),
    ),
    max_size=8,
)  # fmt: skip


def parse(head: bytes, *, to_head_request: bool = False) -> ResponseHead:
    return parse_head(head, to_head_request=to_head_request, allowed=ALLOWED)


@given(LINES.map(b"\r\n".join), st.booleans())
@example(b"HTTP/1.1 100 Continue\r\nContent-Length: 4", False)
@example(b"HTTP/1.1 101 Switching Protocols", True)
@example(b"HTTP/1.1 600 X\r\nContent-Length: 4", False)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: a\r\n b", False)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nLocation: /\t/evil", False)
def test_any_head_is_well_formed_or_refused(head: bytes, to_head_request: bool) -> None:
    """A valid head has one status from 200 on, known headers at most once each, and printable values."""
    try:
        parsed = parse(head, to_head_request=to_head_request)
    except BadResponse:
        return
    first, *lines = parsed.text.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert parsed.text.endswith(b"\r\n\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 [2-5]\d\d [A-Za-z' -]*", first)
    names = []
    for line in lines:
        name, colon, value = line.partition(b": ")
        assert colon and re.fullmatch(rb"[\t\x20-\x7e\x80-\xff]*", value)
        names.append(name.lower())
    assert set(names) <= {*ALLOWED, b"content-length"}
    assert len(names) == len(set(names))
    assert b"content-length" in names or parsed.body_bytes == 0


@pytest.mark.parametrize("header", [b"X-Punway-Token-Id", b"X-Punway-Token-Name"])
@pytest.mark.parametrize(
    ("value", "is_passed_on"),
    [("Zürich 1".encode(), True), (b"x", True), ("a\u2028b".encode(), False), ("a\u2029".encode(), False),
     ("\u0085".encode(), False), ("\u202e".encode(), False), (b"\xff", False), (b"\xed\xa0\x80", False), (b"a\tb", False)],
)  # fmt: skip
def test_what_the_audit_log_gets_is_one_line_of_text(header: bytes, value: bytes, is_passed_on: bool) -> None:
    """A user's process may send anything. Values that are not text, or end a line for some reader, are omitted."""
    text = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + header + b": " + value).text
    assert (header.lower() in text.lower()) is is_passed_on


def test_what_a_pun_sends_is_passed_on() -> None:
    head = b"HTTP/1.1 201 CREATED\r\nCache-Control: no-store\r\nContent-Length: 7\r\nContent-Type: application/json\r\nDate: x"
    assert parse(head) == ResponseHead(
        b"HTTP/1.1 201 Created\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n",
        7,
    )


@pytest.mark.parametrize(
    "lines",
    [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity\r\nContent-Length: 4", b"ETag: a", b"Content-Length: 4, 4",
     b"Content-Length: 4\r\ncontent-length: 4", b"Content-Length: -4", b"Content-Length: \xb2", b"Content-Length:",
     b"Content-Length: 4\r\nETag: a\r\nETag: a", b"Content-Length: 4\r\n", b"Content-Length: 4\r\n folded"],
)  # fmt: skip
def test_a_head_that_is_refused(lines: bytes) -> None:
    """The length is given once and in one way, and each known header occurs once."""
    with pytest.raises(BadResponse):
        parse(b"HTTP/1.1 200 OK\r\n" + lines)


def test_a_response_without_a_body_announces_none() -> None:
    for head in (b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9"):
        assert parse(head).body_bytes == 0
        assert b"Content-Length" not in parse(head).text
    assert parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9", to_head_request=True) == ResponseHead(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 0
    )
    assert parse(b"HTTP/1.1 200 OK", to_head_request=True).body_bytes == 0


@pytest.mark.parametrize(
    ("value", "passed"),
    [("/", True), ("/settings/api_tokens?x=1#y", True), ("//a", False), ("/\\a", False), ("https://a", False), ("", False),
     ("/a b", False), ("/\t/a", False), ("/a\\b", False), ("settings", False), ("/\xe9", False)],
)  # fmt: skip
def test_a_location_is_a_path_of_the_portal(value: str, passed: bool) -> None:
    text = parse(b"HTTP/1.1 303 X\r\nContent-Length: 0\r\nLocation: " + value.encode("latin-1")).text
    assert (b"Location: " + value.encode("latin-1") in text) == passed
    assert (b"Location" in text) == passed


@pytest.mark.parametrize(
    ("value", "passed"),
    [("Bearer", True), ('Bearer realm="a"', True), ('Bearer realm="a", error="b c", scope=""', True), ("Basic", False),
     ('Bearer realm="a", Basic realm="b"', False), ("Bearer, Basic", False), ("bearer", False), ('Bearer a="\\""', False),
     ('Bearer a="b" Basic', False)],
)  # fmt: skip
def test_a_challenge_is_for_bearer_tokens(value: str, passed: bool) -> None:
    text = parse(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\nWWW-Authenticate: " + value.encode()).text
    assert (b"Www-Authenticate: " + value.encode() in text) == passed
    assert (b"Www-Authenticate" in text) == passed


def test_rate_limits_of_an_agents_credential_are_passed_on() -> None:
    """Only the MCP server may send them. For users' processes, nginx adds them itself."""
    head = b'HTTP/1.1 429 X\r\nContent-Length: 0\r\nRateLimit: "a";r=0'
    assert b"Ratelimit: " in parse_head(head, to_head_request=False, allowed=ALLOWED_OF_MCP_SERVER).text
    assert b"Ratelimit: " not in parse(head).text
