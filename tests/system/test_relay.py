"""The relay on a real portal: responses of hostile user processes, and the effect of a stopped one on other users."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.system.fake_pun import OF_NGINX, fake_pun, raw_pun
from tests.system.portal import Client, Portal, User, raw, refusal
from tests.system.slurm import wait_for

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
EVIL = b"HTTP/1.1 200 OK\r\nSet-Cookie: evil=1\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nevil"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"

REFUSED = {
    "three interim responses": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + EVIL,),
    "interim responses one by one": (b"HTTP/1.1 100 Continue\r\n\r\n",) * 3 + (EVIL,),
    "an interim response with headers": (b"HTTP/1.1 100 Continue\r\nSet-Cookie: evil=1\r\n\r\n" + GOOD,),
    "100 without a reason": (b"HTTP/1.1 100\r\n\r\n" + EVIL,),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: upgrade\r\n\r\n" + EVIL,),
    "102": (b"HTTP/1.1 102 Processing\r\n\r\n" + EVIL,),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\nLink: </evil.js>; rel=preload\r\n\r\n" + GOOD,),
    "199": (b"HTTP/1.1 199 Evil\r\n\r\n" + EVIL,),
    "HTTP/0.9": (b"evil",),
    "HTTP/0.9 that is a response": (b"evil\r\n" + EVIL,),
    "a leading line break": (b"\r\n" + EVIL,),
    "leading line breaks": (b"\r\n\r\n" + EVIL,),
    "a leading blank": (b" " + EVIL,),
    "HTTP/2": (EVIL.replace(b"HTTP/1.1", b"HTTP/2.0"),),
    "HTTP/1.10": (EVIL.replace(b"HTTP/1.1", b"HTTP/1.10"),),
    "another name": (EVIL.replace(b"HTTP/1.1", b"ICY"),),
    "a status that is none": (EVIL.replace(b"200", b"999"),),
    "a status of two digits": (EVIL.replace(b"200", b"20"),),
    "a status of four digits": (EVIL.replace(b"200", b"2000"),),
    "a status that nginx has a meaning for": (EVIL.replace(b"200", b"499"),),
    "no status": (EVIL.replace(b"200", b""),),
    "two lengths": (HEAD + b"Content-Length: 4\r\n\r\nevil",),
    "two lengths that differ": (HEAD + b"Content-Length: 400\r\n\r\nevil",),
    "a list of lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\nevil",),
    "a length with a sign": (b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nevil",),
    "a length in hexadecimal": (b"HTTP/1.1 200 OK\r\nContent-Length: 0x4\r\n\r\nevil",),
    "a length below zero": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nevil",),
    "a length of many digits": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nevil",),
    "no length": (b"HTTP/1.1 200 OK\r\nSet-Cookie: evil=1\r\n\r\nevil",),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",),
    "chunks with trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\r\n2\r\n{}\r\n0\r\nSet-Cookie: evil\r\n\r\n",
    ),
    "chunks and a length": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",),
    "an unknown encoding": (HEAD + b"Transfer-Encoding: identity\r\n\r\nevil",),
    "a folded header": (HEAD + b"ETag: a\r\n Set-Cookie: evil\r\n\r\nevil",),
    "a header without a colon": (HEAD + b"evil\r\n\r\nevil",),
    "a header without a name": (HEAD + b": evil\r\n\r\nevil",),
    "a blank before the colon": (HEAD + b"Set-Cookie : evil\r\n\r\nevil",),
    "a NUL": (HEAD + b"ETag: a\0Set-Cookie: evil\r\n\r\nevil",),
    "a carriage return": (HEAD + b"ETag: a\rSet-Cookie: evil\r\n\r\nevil",),
    "a line feed": (HEAD + b"ETag: a\nSet-Cookie: evil\r\n\r\nevil",),
    "line feeds alone": (EVIL.replace(b"\r\n", b"\n"),),
    "a control character": (HEAD + b"ETag: a\x1b[2Jevil\r\n\r\nevil",),
    "a header twice": (HEAD + b"ETag: a\r\nETag: evil\r\n\r\nevil",),
    "headers of 4 MB": (HEAD + b"".join(b"X-Evil-%d: evil\r\n" % n for n in range(200_000)) + b"\r\nevil",),
    "one header of 4 MB": (HEAD + b"X-Evil: " + b"evil" * 1_000_000 + b"\r\n\r\nevil",),
    "a head that does not end": (HEAD + b"X-Evil: evil\r\n",),
    "nothing": (b"",),
}


def ask(portal: Portal, client: Client, line: str = "GET /api/v1/clusters") -> tuple[int, dict[str, str], bytes]:
    """Send a request on a new connection. Return status, headers and all bytes after the head."""
    response = raw(
        portal.port, f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\nConnection: close\r\n\r\n".encode()
    )  # fmt: skip
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert re.fullmatch(r"HTTP/1\.1 \d{3} [A-Za-z -]+", lines[0])
    headers = {}
    for header in lines[1:]:
        name, _, value = header.partition(": ")
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value
    return int(lines[0].split()[1]), headers, body


@pytest.mark.parametrize("name", REFUSED)
def test_a_response_that_is_refused(portal: Portal, alice: User, as_alice: Client, name: str) -> None:
    """The client gets the portal's 503, and no byte of the response."""
    with raw_pun(portal, alice, as_alice, *REFUSED[name]):
        status, headers, body = ask(portal, as_alice)
    assert status == 503
    assert set(headers) <= OF_NGINX | {"retry-after"}
    assert json.loads(body)["error"] == "service_unavailable"
    assert b"evil" not in body


def test_a_response_that_is_refused_on_a_page(portal: Portal, alice: User, as_alice: Client) -> None:
    """A browser gets the portal's own page."""
    client = requests.Session()
    client.post(portal.link(alice), timeout=60)
    with raw_pun(portal, alice, as_alice, REFUSED["three interim responses"][0]):
        page = client.get(f"{portal.url}/settings/api_tokens", timeout=60)
    assert (page.status_code, page.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "evil" not in page.text


def test_no_more_than_one_response(portal: Portal, alice: User, as_alice: Client) -> None:
    """Neither a second response nor bytes beyond the length reach the client."""
    for response in (GOOD + EVIL, GOOD + b"evil"):
        with raw_pun(portal, alice, as_alice, response):
            assert ask(portal, as_alice)[::2] == (200, b"{}")
    for response in (
        b"HTTP/1.1 304 Not Modified\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
    ):
        with raw_pun(portal, alice, as_alice, response):
            status, _, body = ask(portal, as_alice)
            assert status in (204, 304) and body == b""
    with raw_pun(portal, alice, as_alice, EVIL):
        status, headers, body = ask(portal, as_alice, "HEAD /api/v1/clusters")
        assert (status, headers["content-length"], body) == (200, "4", b"")


def test_a_response_that_is_not_whole(portal: Portal, alice: User, as_alice: Client) -> None:
    """If a PUN dies during a response, the client gets fewer bytes than were announced."""
    with raw_pun(portal, alice, as_alice, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x" * 500_000):
        status, headers, body = ask(portal, as_alice)
    assert (status, headers["content-length"]) == (200, "1000000")
    assert len(body) <= 500_000


def test_the_reason_is_not_the_puns(portal: Portal, alice: User, as_alice: Client) -> None:
    with raw_pun(portal, alice, as_alice, GOOD.replace(b"OK", b"evil")):
        response = raw(
            portal.port, f"GET /api/v1/clusters HTTP/1.0\r\nAuthorization: Bearer {as_alice.token}\r\n\r\n".encode()
        )
    assert response.startswith(b"HTTP/1.1 200 OK\r\n") and b"evil" not in response


KNOWN = {
    "Content-Type": "text/html", "ETag": '"a"', "Last-Modified": "Sun, 01 Jan 2023 00:00:00 GMT", "Cache-Control": "no-cache",
    "Age": "7", "Allow": "GET", "Retry-After": "3", "Idempotency-Replayed": "true", "Location": "/settings/api_tokens?a=b#c",
    "WWW-Authenticate": 'Bearer realm="punway", error="invalid_token", resource_metadata="https://x/.well-known/y"',
}  # fmt: skip


def test_known_headers_of_a_pun_are_passed_on(portal: Portal, alice: User, as_alice: Client) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in KNOWN.items())
    with fake_pun(portal, alice, as_alice, headers):
        status, got, _ = ask(portal, as_alice)
    assert status == 200
    assert set(got) <= OF_NGINX | {name.lower() for name in KNOWN}
    for name, value in KNOWN.items():
        assert got[name.lower()] == value, name


@pytest.mark.parametrize(
    "header",
    ["Location: https://evil.example", "Location: //evil.example", "Location: /\\evil.example", "Location: \\\\evil.example",
     "Location: /\t/evil.example", "Location: javascript:evil", "Location: evil", "Location: /a\\..\\evil",
     "WWW-Authenticate: Basic", 'WWW-Authenticate: basic realm="evil"', "WWW-Authenticate: Negotiate",
     'WWW-Authenticate: Bearer realm="a", Basic realm="evil"', 'WWW-Authenticate: Bearer, Basic realm="evil"',
     'WWW-Authenticate: Bearer realm="a" Digest realm="evil"'],
)  # fmt: skip
def test_headers_with_a_bad_value_are_left_out(portal: Portal, alice: User, as_alice: Client, header: str) -> None:
    """No response redirects to another site, or has a scheme for which browsers would ask for a password."""
    for status in (b"303 See Other", b"401 Unauthorized"):
        with raw_pun(
            portal, alice, as_alice, b"HTTP/1.1 %s\r\n%s\r\nContent-Length: 0\r\n\r\n" % (status, header.encode())
        ):
            got, headers, _ = ask(portal, as_alice)
        assert got == int(status[:3])
        assert set(headers) <= OF_NGINX


def test_a_response_before_the_request_is_whole(portal: Portal, alice: User, as_alice: Client) -> None:
    """If a PUN rejects a large body at once, the client gets the response while it still sends."""
    response = b"HTTP/1.1 415 X\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with raw_pun(portal, alice, as_alice, response):
        answer = as_alice("POST", "/api/v1/jobs", {"x": "y" * 8_000_000})
    assert (answer.status_code, answer.text) == (415, "{}")


def test_why_a_response_was_refused_is_logged_once_a_minute(portal: Portal, new_user: Callable[..., User]) -> None:
    """The line has the socket's path. A user cannot fill the log."""
    user = new_user("pwlog")
    client = portal.client(user)
    for _ in range(5):
        with raw_pun(portal, user, client, b"HTTP/1.1 101 \x1b[2J\r\n\r\n"):
            assert ask(portal, client)[0] == 503
    lines = [line for line in portal.log().splitlines() if f"/puns/{user.name}/" in line and "no response" in line]
    assert len(lines) == 1 and "\x1b" not in lines[0]


def test_without_the_relay(portal: Portal, as_alice: Client) -> None:
    """Requests get a 503 in the form of the contract while it is down, and a 200 after it is back."""
    assert as_alice("GET", "/api/v1/clusters").status_code == 200
    relay = portal.part("relay")
    os.kill(relay, signal.SIGKILL)
    seen = []

    def is_back() -> bool:
        answer = as_alice("GET", "/api/v1/clusters")
        seen.append(answer.status_code if answer.status_code == 200 else refusal(answer)[0])
        return seen[-1] == 200 and portal.part("relay") != relay

    wait_for("the relay", is_back)
    assert set(seen) <= {200, 503}


def test_the_relay_is_nginxs_user_and_nobody_else(portal: Portal) -> None:
    """It has no capabilities, and only the group of nginx's workers."""
    text = Path(f"/proc/{portal.part('relay')}/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    entry = pwd.getpwnam("www-data")
    assert status["Uid"].split() == [str(entry.pw_uid)] * 4
    assert status["Gid"].split() == [str(entry.pw_gid)] * 4
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
    assert (portal.run_dir / "relay.sock").stat().st_mode & 0o777 == 0o660


def test_a_stopped_pun_is_the_trouble_of_its_user_alone(
    portal: Portal, new_user: Callable[..., User], as_bob: Client
) -> None:
    """It gets 1,300 requests: some wait, and the rest get a 503. Other users' requests are served."""
    client = portal.client(user := new_user("pwstop"))
    for each in (client, as_bob):
        assert each("GET", "/api/v1/clusters").status_code == 200
    pun = portal.pid_of(user)
    request = f"GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n\r\n".encode()
    os.kill(pun, signal.SIGSTOP)
    with ExitStack() as stack:
        stack.callback(os.kill, pun, signal.SIGCONT)
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", portal.port))) for _ in range(1300)]
        for connection in waiting:
            connection.sendall(request)
            connection.setblocking(False)
        answers: list[bytes] = []

        def has_refused() -> bool:
            for connection in tuple(waiting):
                try:
                    answers.append(connection.recv(65_536))
                except BlockingIOError:
                    continue
                waiting.remove(connection)
            # Other users are served at the same time.
            return as_bob("GET", "/api/v1/clusters").status_code == 200 and len(answers) >= 300

        wait_for("refusals", has_refused)
        assert {answer.split()[1] for answer in answers} == {b"503"}
        assert all(b"Retry-After: " in answer for answer in answers)
        assert len(waiting) >= 500
        assert [as_bob("GET", "/api/v1/clusters").status_code for _ in range(20)] == [200] * 20
    wait_for("the user's PUN", lambda: client("GET", "/api/v1/clusters").status_code == 200)
