"""Rate limits of tokens, users and addresses on a real portal, and requests that no limit may affect."""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.system.portal import Client, Portal, User, children_of, refusal, unique
from tests.system.slurm import wait_for

READS, WRITES, REFUSED = 20, 5, 10


@pytest.fixture
def narrow(folder: Path, hook_user: str, mcp_user: str) -> Iterator[Portal]:
    """A portal whose limits are so low that a test can reach them."""
    limits = {"token_reads": READS, "token_writes": WRITES, "user_reads": READS * 2, "user_writes": WRITES * 2,
              "refused": REFUSED, "flood": 0}  # fmt: skip
    portal = Portal(
        folder / unique("l"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, tables={"limits": limits},
        mcp_user=mcp_user,
    )  # fmt: skip
    try:
        yield portal.start()
    finally:
        portal.stop()


def test_a_tokens_and_a_users_limit(narrow: Portal, alice: User, bob: User) -> None:
    """Reads and writes have separate limits, and so do tokens, until the user's limit is reached. Others are not affected."""
    first, second, third, bobs = (narrow.client(user) for user in (alice, alice, alice, bob))
    answers = [first("GET", "/api/v1/clusters") for _ in range(READS)]
    assert {answer.status_code for answer in answers} == {200}
    left = [int(re.search(r";r=(\d+);", answer.headers["RateLimit"])[1]) for answer in answers]
    assert left == list(range(READS - 1, -1, -1))
    assert answers[0].headers["RateLimit-Policy"] == f'"token-reads";q={READS};w=60, "user-reads";q={READS * 2};w=60'
    status, error, message = first.error("GET", "/api/v1/clusters")
    assert (status, error) == (429, "too_many_requests") and "token-reads" in message
    no = first("GET", "/api/v1/clusters")
    assert 1 <= int(no.headers["Retry-After"]) <= 60
    assert re.fullmatch(r'"token-reads";r=0;t=\d+', no.headers["RateLimit"])
    # It may still write, which is counted apart.
    assert first.error("DELETE", "/api/v1/jobs/999999?cluster=box")[0] == 404
    assert {second("GET", "/api/v1/clusters").status_code for _ in range(READS)} == {200}
    answer = third("GET", "/api/v1/clusters")
    assert answer.status_code == 429 and "user-reads" in answer.json()["message"]
    assert bobs("GET", "/api/v1/clusters").status_code == 200
    for _ in range(WRITES):
        assert bobs.error("DELETE", "/api/v1/jobs/999999?cluster=box")[0] == 404
    assert bobs.error("DELETE", "/api/v1/jobs/999999?cluster=box")[0] == 429
    body = {"jobs": [{"cluster": "box", "job_id": "1"}]}
    assert bobs("POST", "/api/v1/jobs/status", body).status_code == 200, "it changes nothing, so it is a read"
    assert bobs.error("POST", "/api/v1/jobs/status/", body)[0] == 429


def test_an_agent_is_told_when_to_come_again(narrow: Portal, alice: User) -> None:
    """Calls of tools count for the token. A refused call is a 429, and the tool is not called."""
    client = narrow.client(alice)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_clusters", "arguments": {}}}
    headers = {"Accept": "application/json, text/event-stream"}
    answers = [client("POST", "/mcp", message, headers=headers) for _ in range(READS)]
    assert answers[0].status_code == 200
    last = answers[-1]
    assert last.status_code == 429 and int(last.headers["Retry-After"]) > 0 and last.headers["RateLimit"]


def test_credentials_that_are_refused(narrow: Portal, alice: User) -> None:
    """Guesses of any form get a 429. Valid tokens from the same address still work, even new ones."""
    good = narrow.client(alice)
    guesses = ["0" * 63 + "f", "f" * 64, "not-a-token", "eyJhbGciOiJub25lIn0.e30.", "e" * 64]
    began, refused = time.monotonic(), []

    def guess(number: int) -> requests.Response:
        answer = Client(narrow.url, guesses[number % 5])("GET", "/api/v1/clusters")
        refused.append(answer.status_code)
        return answer

    assert {guess(number).status_code for number in range(REFUSED)} == {401}
    for number in range(5):
        no = guess(number)
        if (
            no.status_code == 429
        ):  # Otherwise a minute has passed since the first guess; the number of 401s is checked below.
            assert no.json()["error"] == "too_many_requests"
            assert 1 <= int(no.headers["Retry-After"]) <= 60 and "WWW-Authenticate" not in no.headers
    assert requests.get(f"{narrow.url}/api/v1/clusters", timeout=30).status_code == 401, (
        "a request without a credential is not a guess"
    )
    assert good("GET", "/api/v1/clusters").status_code == 200
    assert narrow.client(alice)("GET", "/api/v1/clusters").status_code == 200
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(guess, range(REFUSED * 12)))
    minutes = int((time.monotonic() - began) // 60) + 1
    assert set(refused) == {401, 429}
    assert REFUSED <= refused.count(401) <= REFUSED * minutes, minutes
    assert good("GET", "/api/v1/clusters").status_code == 200
    assert narrow.client(alice)("GET", "/api/v1/clusters").status_code == 200
    lines = [line for line in narrow.audit() if line.get("status") == 429]
    assert lines and all(line["outcome"] == "refused" for line in lines)


def test_a_flood(folder: Path, hook_user: str, alice: User) -> None:
    """nginx limits the requests of one address, and reports that in the form of the API's contract."""
    portal = Portal(
        folder / unique("f"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, tables={"limits": {"flood": 5}}
    )
    try:
        client = portal.start().client(alice)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: client("GET", "/api/v1/clusters"), range(100)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429} and statuses.count(200) >= 5
        no = next(answer for answer in answers if answer.status_code == 429)
        assert no.json()["error"] == "too_many_requests" and no.headers["Retry-After"] == "1"
    finally:
        portal.stop()


@contextmanager
def few_files(limit: int) -> Iterator[None]:
    """Set the soft limit of open files for processes that are started in the block, as systemd and shells do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_half_sent_requests_stop_nobody(folder: Path, hook_user: str, alice: User) -> None:
    """nginx has room for 2,400 of them from one address in addition to other requests, and ends each of them."""
    portal = Portal(folder / unique("h"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"})
    try:
        with few_files(1024):
            portal.start()
        client = portal.client(alice)
        workers = children_of(portal.part("nginx"))

        def all_fit() -> bool:
            with ExitStack() as stack:
                half = [stack.enter_context(socket.create_connection(("127.0.0.1", portal.port))) for _ in range(2400)]
                for connection in half:
                    connection.sendall(b"GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\nX-Half: ")
                answer = client("GET", "/api/v1/clusters")
                taken = sum(len(os.listdir(f"/proc/{worker}/fd")) for worker in workers)
                if answer.status_code == 200 and taken > len(half):
                    for connection in half:
                        connection.settimeout(60)
                        with suppress(ConnectionResetError):
                            assert not connection.recv(1024).startswith(b"HTTP/1.1 2")
                    return True
                return False

        # On a busy machine, the first ones may end before all of them are open. Then try again.
        wait_for("all of them in nginx", all_fit)
    finally:
        portal.stop()


def open_requests(portal: Portal, token: str, count: int, address: str, header: str = "") -> list[socket.socket]:
    """Open requests without sending their bodies, from one of the host's addresses."""
    head = (
        f"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"{header}Content-Length: 9\r\n\r\n"
    )
    made = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", portal.port), timeout=60, source_address=(address, 0))
        connection.sendall(head.encode())
        made.append(connection)
    return made


def status_of(connection: socket.socket) -> int:
    """Send the body of an open request, and return the status of the response."""
    connection.sendall(b'{"a": 1}\n')
    return int(connection.recv(65_536).split()[1])


def test_open_requests_of_one_address(folder: Path, hook_user: str, mcp_user: str, alice: User) -> None:
    """Requests beyond limits.connections get a 429. Each address has its own limit, and an agent's call counts once."""
    portal = Portal(
        folder / unique("c"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"},
        tables={"limits": {"connections": 5}}, mcp_user=mcp_user,
    )  # fmt: skip
    try:
        client = portal.start().client(alice)
        assert client("GET", "/api/v1/clusters").status_code == 200
        opened = open_requests(portal, client.token, 4, "127.0.0.1")
        headers = {"Accept": "application/json, text/event-stream"}
        call = {"name": "list_clusters", "arguments": {}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        wait_for("four to be open", lambda: client("POST", "/mcp", message, headers=headers).status_code == 200)

        def is_full() -> bool:
            """Return whether the next request is refused. If it is not, open one more."""
            answers.append(client("GET", "/api/v1/clusters"))
            if answers[-1].status_code == 429:
                return True
            opened.extend(open_requests(portal, client.token, 1, "127.0.0.1"))
            return False

        # The refused request itself: nginx may still have counted one that had just been answered.
        answers: list[requests.Response] = []
        wait_for("a refusal", is_full)
        no = answers[-1]
        assert refusal(no)[:2] == (429, "too_many_requests") and int(no.headers["Retry-After"]) > 0
        (other,) = open_requests(portal, client.token, 1, "127.0.0.2")
        assert status_of(other) == 400
        assert [status_of(connection) for connection in opened].count(400) <= 5
        wait_for("the end of the others", lambda: client("GET", "/api/v1/clusters").status_code == 200)
        for connection in (other, *opened):
            connection.close()
    finally:
        portal.stop()


def test_behind_a_balancer(folder: Path, hook_user: str, alice: User) -> None:
    """Limits and audit log use the client's address that the balancer reports. Others cannot report an address."""
    portal = Portal(
        folder / unique("b"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, more={"proxies": ["127.0.0.2"]},
        tables={"limits": {"connections": 3}},
    )  # fmt: skip
    try:
        token = portal.start().client(alice).token

        def ask(peer: str, named: str) -> int:
            header = f"X-Forwarded-For: {named}\r\n"
            (connection,) = open_requests(portal, token, 1, peer, header)
            with connection:
                return status_of(connection)

        def last_address() -> str:
            return str([line["address"] for line in portal.audit() if line["action"] == "POST /api/v1/jobs"][-1])

        for peer, named, address in (
            ("127.0.0.2", "192.0.2.1", "192.0.2.1"),
            ("127.0.0.2", "2001:db8::7", "2001:db8::7"),
            ("127.0.0.2", "10.0.0.1, 192.0.2.1, 127.0.0.2", "192.0.2.1"),
            ("127.0.0.2", "nonsense", "127.0.0.2"),
            ("127.0.0.2", "unix:", "127.0.0.2"),
            ("127.0.0.1", "192.0.2.1", "127.0.0.1"),
        ):
            assert ask(peer, named) == 400
            wait_for(f"{address} for {named} from {peer}", lambda address=address: last_address() == address)  # type: ignore[misc]

        # Several addresses of one network reach the client's limit. Other clients are not affected.
        def is_refused() -> bool:
            with ExitStack() as opened:
                for n in range(3):
                    for connection in open_requests(
                        portal, token, 1, "127.0.0.2", f"X-Forwarded-For: 2001:db8::{n}\r\n"
                    ):
                        opened.enter_context(connection)
                if ask("127.0.0.2", "2001:db8:0:0:ffff::9") != 429:
                    return False  # nginx has not counted them yet. They end soon, so open others.
                assert ask("127.0.0.2", "2001:db8:0:1::9") == 400
                assert ask("127.0.0.2", "192.0.2.9") == 400
                return True

        wait_for("a refusal", is_refused)
    finally:
        portal.stop()


def test_a_large_jwt_is_no_large_header(portal: Portal) -> None:
    """A token of 8 kB reaches the hook, which says what is wrong with it."""
    answer = Client(portal.url, "eyJ" + "a" * 8180 + ".e30.")("GET", "/api/v1/clusters")
    assert refusal(answer)[0] == 401


def test_the_limits_of_a_fresh_portal_are_far_away(as_alice: Client) -> None:
    """A client with 500 pollers sends this many requests in a second."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: as_alice("GET", "/api/v1/jobs?cluster=owens").status_code, range(500)))
    assert answers == [200] * 500
