"""Limits on a real portal: of a token, of a user, of an address; and what no limit is to touch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.system.portal import Client, Portal, User, unique

READS, WRITES, REFUSED = 20, 5, 10


@pytest.fixture
def narrow(folder: Path, hook_user: str, mcp_user: str) -> Iterator[Portal]:
    """A portal with limits that a test can meet."""
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
    """Reads and writes apart; another token has its own until the user's are used up; another user is not touched."""
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
    """The tools' calls are the token's; one that is refused is a 429 before the tool."""
    client = narrow.client(alice)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_clusters", "arguments": {}}}
    headers = {"Accept": "application/json, text/event-stream"}
    answers = [client("POST", "/mcp", message, headers=headers) for _ in range(READS)]
    assert answers[0].status_code == 200
    last = answers[-1]
    assert last.status_code == 429 and int(last.headers["Retry-After"]) > 0 and last.headers["RateLimit"]


def test_credentials_that_are_refused(narrow: Portal, alice: User) -> None:
    """Guessing gets 429, whatever is guessed; a good token from the same address passes, also one that is new."""
    good = narrow.client(alice)
    guesses = ["0" * 63 + "f", "f" * 64, "not-a-token", "eyJhbGciOiJub25lIn0.e30."]
    answers = [
        Client(narrow.url, guesses[number % 4]) ("GET", "/api/v1/clusters") for number in range(REFUSED)
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} == {401}
    for guess in guesses:
        no = Client(narrow.url, guess)("GET", "/api/v1/clusters")
        assert no.status_code == 429 and no.json()["error"] == "too_many_requests"
        assert 1 <= int(no.headers["Retry-After"]) <= 60 and "WWW-Authenticate" not in no.headers
    assert requests.get(f"{narrow.url}/api/v1/clusters", timeout=30).status_code == 401, (
        "who sends none has guessed none"
    )
    assert good("GET", "/api/v1/clusters").status_code == 200
    assert narrow.client(alice)("GET", "/api/v1/clusters").status_code == 200
    with ThreadPoolExecutor(16) as pool:
        bad = Client(narrow.url, "e" * 64)
        flood = {
            answer.status_code for answer in pool.map(lambda _: bad("GET", "/api/v1/clusters"), range(REFUSED * 12))
        }
    assert flood == {429}
    assert good("GET", "/api/v1/clusters").status_code == 200
    assert narrow.client(alice)("GET", "/api/v1/clusters").status_code == 200
    refused = [line for line in narrow.audit() if line.get("status") == 429]
    assert refused and all(line["outcome"] == "refused" for line in refused)


def test_a_flood(folder: Path, hook_user: str, alice: User) -> None:
    """nginx caps what one address may cost, and says so in the contract's form."""
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


def test_the_limits_of_a_fresh_portal_are_far_away(as_alice: Client) -> None:
    """What a client with 500 pollers does in a second."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: as_alice("GET", "/api/v1/jobs?cluster=owens").status_code, range(500)))
    assert answers == [200] * 500
