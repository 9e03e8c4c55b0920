"""Tests of unusual output: each has a clear answer, and the user's own permissions apply."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.system.agents import Agent, with_agent
from tests.system.portal import Client, Portal, User
from tests.system.slurm import wait_for

QUERIES = {
    "no stream": "stream=both",
    "tail 0": "tail=0",
    "tail -1": "tail=-1",
    "tail too long": "tail=10001",
    "tail 1e3": "tail=1e3",
    "other digits": "tail=１２",
    "offset -1": "offset=-1",
    "offset too far": "offset=99999999999999999999",
    "limit 0": "limit=0",
    "limit too large": "limit=1048577",
    "twice": "tail=1&tail=2",
}


@pytest.fixture
def ended(as_alice: Client, alice: User) -> Any:
    """Return a finished job and the path of its output."""
    path = alice.home / "strange.out"
    job = as_alice.submit("#!/bin/sh\ntrue\n", output_path=str(path))["job_id"]
    as_alice.wait(job, lambda j: j["status"] == "completed")
    wait_for("the output", path.exists)
    path.unlink()
    yield f"/api/v1/jobs/{job}/output?cluster=owens", path
    path.unlink(missing_ok=True)


def test_unusual_files_in_place_of_the_output(as_alice: Client, alice: User, bob: User, ended: Any) -> None:
    """The path may have no file, a FIFO, a link to another user's private file, binary data, or a shorter file than before."""
    url, path = ended
    status, error, message = as_alice.error("GET", url)
    assert (status, error, str(path) in message) == (404, "not_found", True)

    alice.run("mkfifo", str(path))
    assert as_alice.error("GET", url)[0] == 422
    path.unlink()

    secret = bob.home / "secret"
    bob.run("sh", "-c", f"umask 077; echo private > {secret}")
    alice.run("ln", "-s", str(secret), str(path))
    status, _, message = as_alice.error("GET", url)
    assert (status, "ermission denied" in message, "private" in message) == (422, True, False)
    path.unlink()

    path.write_bytes(bytes(range(256)) * 10)
    os.chown(path, alice.uid, alice.gid)
    read = as_alice.data("GET", f"{url}&tail=3")
    assert (read["lossy"], read["next_offset"], read["content"].count("\n")) == (True, 2560, 2)
    path.write_bytes(b"new\n")
    shorter = as_alice.data("GET", f"{url}&offset=2560")
    assert (shorter["content"], shorter["next_offset"]) == ("", 0)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_an_invalid_query_is_400(as_alice: Client, ended: Any, query: str) -> None:
    assert as_alice.error("GET", f"{ended[0]}&{query}")[0] == 400


def test_the_output_of_a_running_job_can_be_followed(as_alice: Client) -> None:
    """A client reads from one offset to the next until the job has ended and all output is read."""
    job = as_alice.submit("#!/bin/sh\nfor n in 1 2 3 4; do echo line $n; sleep 1; done\n")["job_id"]
    url = f"/api/v1/jobs/{job}/output?cluster=owens"
    wait_for("the output", lambda: as_alice("GET", url).status_code == 200)
    read, offset, grew = "", 0, False
    while True:
        part = as_alice.data("GET", f"{url}&offset={offset}")
        read, offset = read + part["content"], part["next_offset"]
        grew = grew or part["may_grow"]
        if not part["may_grow"] and offset == part["size"]:
            break
    assert (read, grew) == ("line 1\nline 2\nline 3\nline 4\n", True)


def test_the_output_needs_the_scope_jobs_read(portal: Any, alice: User, ended: Any) -> None:
    client = portal.client(alice, "--scopes", "clusters:read")
    assert client.error("GET", ended[0])[:2] == (403, "insufficient_scope")


def test_the_last_lines_of_a_piece(as_alice: Client, ended: tuple[str, Path]) -> None:
    """A request may have both tail and offset. ``limit`` bounds the bytes."""
    url, path = ended
    path.write_text("one\ntwo\nthree\nfour\n")
    said = as_alice.data("GET", f"{url}&offset=4&limit=10&tail=1")
    assert (said["content"], said["offset"], said["next_offset"]) == ("three\n", 8, 14)
    said = as_alice.data("GET", f"{url}&tail=10&limit=7")
    assert (said["content"], said["offset"], said["next_offset"]) == ("e\nfour\n", 12, 19)


def test_a_progress_bar_of_a_megabyte_costs_little(
    portal: Portal, as_alice: Client, alice: User, ended: tuple[str, Path]
) -> None:
    """REST clients and agents get its last state, long lines are limited in bytes, and pieces are exact."""
    url, path = ended
    job_id = url.split("/")[-2]
    bar = "".join(f"\r{n / 100:7.3f} %" for n in range(100_001))

    def read_both(content: str, **asked: int) -> tuple[Any, Any]:
        alice.run("sh", "-c", f"cat > {path}", input=content)

        async def as_agent(agent: Agent) -> Any:
            return await agent.tool("read_job_output", cluster="owens", job_id=job_id, **asked)

        query = "".join(f"&{name}={value}" for name, value in asked.items())
        return as_alice.data("GET", url + query), with_agent(portal.url, as_alice.token, as_agent)

    for read in read_both(f"begun\n{bar}\n"):
        assert (read["content"], read["truncated"]) == ("begun\n1000.000 %\n", True)
    for read in read_both("one\r\ntwo\n", tail=1):
        assert (read["content"], read["truncated"]) == ("two\n", False)
    rest, agents = read_both("x" * 100_000)
    assert (len(rest["content"]), rest["truncated"], rest["offset"]) == (64 * 1024, True, 100_000 - 64 * 1024)
    assert (len(agents["content"]), agents["truncated"], agents["next_offset"]) == (8 * 1024, True, 100_000)
    for read in read_both("x" * 100_000, limit=90_000, tail=3):
        assert (len(read["content"]), read["truncated"]) == (90_000, True)
    for read in read_both(bar, offset=11, limit=22):
        assert (read["content"], read["truncated"], read["next_offset"]) == (bar[11:33], False, 33)
