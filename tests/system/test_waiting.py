"""Tests of waiting for jobs on a real Slurm: the time of the answers, and the cost of many waits."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.system.portal import Client, Portal, User
from tests.system.slurm import wait_for

SLEEP = "#!/bin/sh\nsleep 100\n"


def path(job: str, query: str) -> str:
    return f"/api/v1/jobs/{job}?cluster=owens&{query}"


def test_a_job_is_answered_when_it_gets_there(as_alice: Client) -> None:
    """The waits end when the job runs and when it has ended. A wait that is too short returns the current state."""
    job = as_alice.submit("#!/bin/sh\nsleep 4; exit 3\n", hold=True)["job_id"]
    assert as_alice.data("GET", path(job, "wait=1"))["status"] == "queued_held"
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(as_alice.data, "GET", path(job, "wait=60&until=running"))
        changed = pool.submit(as_alice.data, "GET", path(job, "wait=60&until=change"))
        ended = pool.submit(as_alice.data, "GET", path(job, "wait=60&until=completed"))
        as_alice.data("POST", f"/api/v1/jobs/{job}/release?cluster=owens")
        assert changed.result()["status"] in ("queued", "running")
        assert running.result()["status"] == "running"
        assert (ended.result()["outcome"], ended.result()["exit_code"]) == ("failed", 3)
    assert as_alice.error("GET", path("999999", "wait=60"))[0] == 404


def test_what_was_seen_is_waited_past(as_alice: Client) -> None:
    job = as_alice.submit(SLEEP, hold=True)["job_id"]
    etag = as_alice("GET", path(job, "")).headers["ETag"]
    assert as_alice("GET", path(job, ""), headers={"If-None-Match": etag}).status_code == 304
    opaque = etag.removeprefix("W/")
    # The strong form comes from proxies that remove the prefix, the list from clients with more than one ETag.
    for form in (etag, opaque, f'"else", W/{opaque}'):
        assert as_alice("GET", path(job, "wait=1&until=change"), headers={"If-None-Match": form}).status_code == 304
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")
    changed = as_alice("GET", path(job, "wait=60&until=change"), headers={"If-None-Match": etag})
    assert changed.json()["data"]["outcome"] == "cancelled"


def test_no_way_of_asking_goes_back(as_alice: Client) -> None:
    """After one request has shown that a job ended, no other shows it running, despite the cache."""
    order = ("queued", "running", "completed")
    asleep = as_alice.submit(SLEEP)["job_id"]
    for seed in range(6):
        job = as_alice.submit("#!/bin/sh\nsleep 2\n")["job_id"]
        asked = {"jobs": [{"cluster": "owens", "job_id": job}]}
        ways: list[tuple[Any, ...]] = [
            ("GET", path(job, "")),
            ("GET", path(job, "wait=0")),
            ("POST", "/api/v1/jobs/status", asked),
            ("GET", "/api/v1/jobs?cluster=owens"),
            ("GET", "/api/v1/jobs?cluster=owens&limit=50"),
        ]
        chosen, seen, after = random.Random(seed), [], 0
        while after < 20:
            told = as_alice.data(*chosen.choice(ways), headers=chosen.choice([{}, {"Cache-Control": "no-cache"}]))
            seen += [one["status"] for one in (told if isinstance(told, list) else [told]) if one["job_id"] == job]
            after += seen[-1] == "completed"
            if chosen.random() < 0.2:
                as_alice.data("GET", path(asleep, ""))
        assert seen == sorted(seen, key=order.index), seen
    as_alice.data("DELETE", f"/api/v1/jobs/{asleep}?cluster=owens")


def test_a_hundred_who_wait_cost_what_one_costs(counted: tuple[Portal, Path], alice: User) -> None:
    """A hundred waits run as many scheduler commands as one, and other requests are answered at the same time."""
    portal, folder = counted
    calls = folder / "squeue-calls"
    client = portal.client(alice)
    jobs = [client.submit(SLEEP, hold=True)["job_id"] for _ in range(10)]

    def commands(waiting: int) -> int:
        before = calls.stat().st_size
        with ThreadPoolExecutor(waiting) as pool:
            answers = [pool.submit(client, "GET", path(jobs[n % 10], "wait=20")) for n in range(waiting)]
            quick = [client("GET", "/api/v1/clusters").status_code for _ in range(20)]
            assert quick == [200] * 20
            assert not any(answer.done() for answer in answers)
            assert [answer.result().json()["data"]["status"] for answer in answers] == ["queued_held"] * waiting
        return calls.stat().st_size - before

    one, hundred = commands(1), commands(100)
    assert one >= 4
    assert hundred <= 2 * one + 4
    for job in jobs:
        client.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


@pytest.mark.parametrize("what", ["the list", "one job", "ten jobs", "agents"])
def test_five_hundred_who_poll_cost_one_command_a_second(counted: tuple[Portal, Path], alice: User, what: str) -> None:
    """This holds for any number of clients, any jobs and any kind of request."""
    portal, folder = counted
    client = portal.client(alice)
    jobs = [client.submit(SLEEP, hold=True)["job_id"] for _ in range(10)]
    calls = folder / "squeue-calls"
    headers = {"Authorization": f"Bearer {client.token}", "Accept": "application/json, text/event-stream"}
    call = {"name": "get_job", "arguments": {"cluster": "owens", "job_id": jobs[0]}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}

    async def poll(http: httpx2.AsyncClient, number: int) -> None:
        for _ in range(4):
            next_at = time.monotonic() + 1
            if what == "agents":
                answer = await http.post("/mcp", json=message)
            elif what == "the list":
                answer = await http.get("/api/v1/jobs?cluster=owens")
            else:
                answer = await http.get(path(jobs[number % (10 if what == "ten jobs" else 1)], ""))
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def all_of_them() -> None:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=portal.url, headers=headers, timeout=100, limits=limits) as http:
            await asyncio.gather(*(poll(http, number) for number in range(500 if what != "agents" else 100)))

    before, began = calls.stat().st_size, time.monotonic()
    asyncio.run(all_of_them())
    made, seconds = calls.stat().st_size - before, time.monotonic() - began
    assert 3 <= made <= seconds + 2, (made, seconds)
    for job in jobs:
        client.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def wait_on(portal: Portal, client: Client, job: str) -> socket.socket:
    """Return the connection of a waiting request."""
    connection = socket.create_connection(("127.0.0.1", portal.port), timeout=330)
    connection.sendall(
        f"GET {path(job, 'wait=300')} HTTP/1.1\r\nHost: 127.0.0.1:{portal.port}\r\n"
        f"Authorization: Bearer {client.token}\r\nConnection: close\r\n\r\n".encode()
    )
    return connection


def count(pid: int, what: str) -> int:
    """Return the number of a process's threads (task) or descriptors (fd)."""
    return len(os.listdir(f"/proc/{pid}/{what}"))


def test_a_client_that_hangs_up_is_not_waited_for(counted: tuple[Portal, Path], alice: User) -> None:
    """Its connection is closed long before its time is up."""
    portal, _ = counted
    client = portal.client(alice)
    job = client.submit(SLEEP, hold=True)["job_id"]
    pid = portal.pid_of(alice)
    before = count(pid, "fd")
    connections = [wait_on(portal, client, job) for _ in range(10)]
    wait_for("ten more connections", lambda: count(pid, "fd") >= before + 10)
    for connection in connections:
        connection.close()
    wait_for("as many connections as before", lambda: count(pid, "fd") <= before)
    client.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_a_token_that_is_revoked_during_a_wait(portal: Portal, as_alice: Client, alice: User) -> None:
    """The waiting request is rejected when its wait is over."""
    job = as_alice.submit("#!/bin/sh\nsleep 600\n", "box")
    waiting = portal.client(alice)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(waiting, "GET", f"/api/v1/jobs/{job['job_id']}?cluster=box&wait=120")
        wait_for("the request to be noted", lambda: any(t["last_used_at"] for t in _tokens(alice)[-1:]))
        portal.punway("token", "revoke", _tokens(alice)[-1]["id"], user=alice)
        as_alice("DELETE", f"/api/v1/jobs/{job['job_id']}?cluster=box")
        assert answer.result().status_code == 401


def _tokens(user: User) -> list[dict[str, Any]]:
    """Return the entries of a user's token file, the latest last."""
    entries: list[dict[str, Any]] = json.loads(user.token_file.read_text())
    return entries


def test_two_hundred_who_wait_hold_no_thread(counted: tuple[Portal, Path], alice: User) -> None:
    """A single thread polls for all of them. One more request is a 503, and all are answered in the end."""
    portal, _ = counted
    client = portal.client(alice)
    job = client.submit(SLEEP, hold=True)["job_id"]
    pid = portal.pid_of(alice)
    threads, files = count(pid, "task"), count(pid, "fd")
    with ExitStack() as stack:
        connections = [stack.enter_context(wait_on(portal, client, job)) for _ in range(200)]
        wait_for("two hundred more connections", lambda: count(pid, "fd") >= files + 200)

        def is_full() -> bool:
            answer = client("GET", path(job, "wait=1"))
            if answer.status_code == 200:
                # This request took a place itself, so one of the others may have found none.
                for number, connection in enumerate(connections):
                    if select.select([connection], [], [], 0)[0]:
                        connections[number] = stack.enter_context(wait_on(portal, client, job))
                return False
            assert answer.status_code == 503
            assert "wait already" in answer.json()["message"]
            assert "Retry-After" in answer.headers
            return True

        wait_for("all to wait", is_full)
        assert client("GET", path(job, "")).status_code == 200
        # A thread may be writing the tokens' last use.
        assert count(pid, "task") <= threads + 2
        client.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")
        for connection in connections:
            assert connection.recv(12) == b"HTTP/1.1 200"
    wait_for("as many connections as before", lambda: count(pid, "fd") <= files)


def test_a_pun_that_leaves_answers_those_who_wait(counted: tuple[Portal, Path], alice: User) -> None:
    """The answers have the current state of the job, and no error."""
    portal, _ = counted
    client = portal.client(alice)
    job = client.submit(SLEEP, hold=True)["job_id"]
    before = portal.pid_of(alice)
    files = count(before, "fd")
    with ThreadPoolExecutor(5) as pool:
        waiting: list[Any] = [pool.submit(client, "GET", path(job, "wait=300")) for _ in range(5)]
        wait_for("five to wait", lambda: count(before, "fd") >= files + 5)
        portal.punway("admin", "stop", alice.name)
        answers = [one.result(60) for one in waiting]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert {answer.json()["data"]["status"] for answer in answers} == {"queued_held"}
    client.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")
