"""Tests of queues, accounts, cluster usage and job history, on a real Slurm and on the embedded scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.system.portal import Client, Portal, User
from tests.system.slurm import CLUSTER, SlurmCluster, wait_for


def test_queues_of_slurm(as_alice: Client) -> None:
    """Each partition is a queue, with its state, limits and nodes."""
    queues = {queue["name"]: queue for queue in as_alice.data("GET", "/api/v1/queues?cluster=owens")}
    assert set(queues) == {"batch", "short"}
    batch, short = queues["batch"], queues["short"]
    assert (batch["state"], batch["native_state"], batch["default"], batch["time_limit"]) == ("up", "UP", True, None)
    assert (short["default"], short["time_limit"], short["total_nodes"]) == (False, 60, 1)
    assert batch["active_nodes"] + batch["idle_nodes"] == batch["total_nodes"] == 1
    assert (batch["allow_accounts"], batch["deny_accounts"], batch["tres"]["cpu"]) == (None, [], "8")


def test_a_queue_that_is_down_or_not_for_the_caller(slurm: SlurmCluster, as_alice: Client) -> None:
    """A queue has the state of its partition; partitions of other groups are not listed."""

    def queues() -> dict[str, str]:
        answer = as_alice.data("GET", "/api/v1/queues?cluster=owens", headers={"Cache-Control": "no-cache"})
        return {queue["name"]: queue["state"] for queue in answer}

    try:
        for native, state in (("DOWN", "down"), ("DRAIN", "draining"), ("INACTIVE", "inactive")):
            slurm.run("scontrol", "update", "partitionname=short", f"state={native}")
            assert queues()["short"] == state
        slurm.run("scontrol", "update", "partitionname=short", "state=UP", "AllowGroups=root")
        assert queues() == {"batch": "up"}
    finally:
        slurm.run("scontrol", "update", "partitionname=short", "state=UP", "AllowGroups=ALL")


def test_accounts_and_what_is_left_of_them(as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    """Only the user's own accounts are listed, with the limit that all members share."""
    slurm.run("sacctmgr", "-i", "add", "account", "others", f"Cluster={CLUSTER}", check=False)
    accounts = {account["name"]: account for account in as_alice.data("GET", "/api/v1/accounts?cluster=owens")}
    assert set(accounts) == {"physics", "chem"}
    assert [name for name, account in accounts.items() if account["default"]] == ["physics"]
    chem = accounts["chem"]
    assert (chem["cluster"], chem["qos"], chem["cpu_minutes_limit"]) == ("owens", ["normal"], 1_000_000)
    assert chem["cpu_minutes_left"] == 1_000_000 - chem["cpu_minutes_used"]


def test_a_user_of_no_account_has_none(portal: Portal, slurm: SlurmCluster, new_user: Callable[..., User]) -> None:
    """A user without an account gets an empty list."""
    user = new_user("pwnone")
    assert portal.client(user).data("GET", "/api/v1/accounts?cluster=owens") == []


def test_how_much_is_in_use(as_alice: Client) -> None:
    """A running job counts in the usage of its cluster and queues."""
    before = as_alice.data("GET", "/api/v1/cluster_info?cluster=owens")
    assert (before["total_nodes"], before["total_processors"], before["total_gpus"]) == (1, 8, 0)
    job = as_alice.submit("#!/bin/sh\nsleep 60\n", native=["-n", "3"])
    try:
        as_alice.wait(job["job_id"], lambda now: now["status"] == "running")
        info = as_alice.data("GET", "/api/v1/cluster_info?cluster=owens", headers={"Cache-Control": "no-cache"})
        assert info["active_nodes"] == 1
        assert info["active_processors"] >= 3
        queues = as_alice.data("GET", "/api/v1/queues?cluster=owens", headers={"Cache-Control": "no-cache"})
        assert {queue["active_nodes"] for queue in queues} == {1}
    finally:
        as_alice("DELETE", f"/api/v1/jobs/{job['job_id']}?cluster=owens")


def test_the_embedded_scheduler_has_one_queue_and_no_accounts(as_alice: Client) -> None:
    """The embedded scheduler has one queue, no accounts, and its slots as processors."""
    (queue,) = as_alice.data("GET", "/api/v1/queues?cluster=box")
    assert (queue["name"], queue["default"], queue["total_nodes"]) == ("local", True, 1)
    assert as_alice.data("GET", "/api/v1/accounts?cluster=box") == []
    assert as_alice.data("GET", "/api/v1/cluster_info?cluster=box")["total_processors"] == 2


@pytest.mark.parametrize("path", ["queues", "accounts", "cluster_info"])
def test_what_cannot_be_told(as_alice: Client, portal: Portal, path: str) -> None:
    """A missing adapter is 501, an unknown cluster is 404, and a missing cluster parameter is 400."""
    assert as_alice.error("GET", f"/api/v1/{path}?cluster=cloud")[:2] == (501, "not_implemented")
    assert as_alice.error("GET", f"/api/v1/{path}?cluster=none")[:2] == (404, "not_found")
    assert as_alice.error("GET", f"/api/v1/{path}")[:2] == (400, "bad_request")


@pytest.mark.parametrize("path", ["queues", "cluster_info"])
def test_without_the_controller_it_is_503(as_alice: Client, slurm: SlurmCluster, path: str) -> None:
    """While Slurm's controller is down the answer is 503 with Retry-After."""
    slurm.stop_controller()
    try:
        answer = as_alice("GET", f"/api/v1/{path}?cluster=owens", headers={"Cache-Control": "no-cache"})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        slurm.start_controller()
    as_alice.until_answered()
    assert as_alice("GET", f"/api/v1/{path}?cluster=owens", headers={"Cache-Control": "no-cache"}).status_code == 200


def test_jobs_of_the_past(as_alice: Client, as_bob: Client, slurm: SlurmCluster) -> None:
    """The history has the user's succeeded, failed and cancelled jobs and array tasks, with their usage."""
    busy = "#!/bin/bash\npython3 -c 'import time; x = bytearray(60_000_000)\nwhile time.process_time() < 3: pass'\n"
    good = as_alice.submit(busy, native=["--mem=200M"])["job_id"]
    bad = as_alice.submit("#!/bin/sh\nexit 3\n", job_name="a\u00e9|b")["job_id"]
    never = as_alice.submit("#!/bin/sh\ntrue\n", native=["--hold"])["job_id"]
    tasks = as_alice.submit("#!/bin/sh\ntrue\n", native=["--array=1-2"])["job_id"]
    theirs = as_bob.submit("#!/bin/sh\ntrue\n")["job_id"]
    as_alice("DELETE", f"/api/v1/jobs/{never}?cluster=owens")
    for job in (good, bad, tasks):
        as_alice.wait(job, lambda now: now["status"] == "completed")
    as_bob.wait(theirs, lambda now: now["status"] == "completed")
    wanted = {good, bad, never, f"{tasks}_1", f"{tasks}_2"}

    def past() -> dict[str, Any]:
        return {job["job_id"]: job for job in as_alice.data("GET", "/api/v1/jobs/historic?cluster=owens&limit=1000")}

    wait_for("accounting", lambda: wanted <= set(past()))
    jobs = past()
    assert theirs not in jobs
    assert {job["job_owner"] for job in jobs.values()} == {jobs[good]["job_owner"]}
    assert {job["status"] for job in jobs.values()} == {"completed"}
    assert (jobs[good]["outcome"], jobs[good]["exit_code"]) == ("succeeded", 0)
    assert 2 <= jobs[good]["cpu_time"] <= 10
    # The job had one processor; a busy machine may have given it only part of it.
    efficiency = jobs[good]["cpu_time"] / jobs[good]["wallclock_time"]
    assert jobs[good]["cpu_efficiency"] == pytest.approx(efficiency, abs=0.01) and efficiency <= 1.5
    assert jobs[good]["memory_requested"] == 200 * 2**20
    assert 0.2 < jobs[good]["memory_efficiency"] < 1
    assert (jobs[bad]["outcome"], jobs[bad]["exit_code"], jobs[bad]["job_name"]) == ("failed", 3, "a\u00e9|b")
    assert (jobs[never]["outcome"], jobs[never]["started_at"], jobs[never]["cpu_time"]) == ("cancelled", None, None)
    ends = [job["ended_at"] for job in jobs.values()]
    assert ends == sorted(ends, reverse=True)

    failed = as_alice.data("GET", "/api/v1/jobs/historic?cluster=owens&status=failed&limit=1000")
    assert bad in {job["job_id"] for job in failed}
    assert {job["outcome"] for job in failed} == {"failed"}
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        answer = as_alice("GET", f"/api/v1/jobs/historic?cluster=owens&limit=2{cursor and '&cursor=' + cursor}").json()
        seen += [job["job_id"] for job in answer["data"]]
        cursor = answer["next_cursor"]
    assert seen == list(jobs)
    assert as_alice.data("GET", "/api/v1/jobs/historic?cluster=owens&to=2020-01-01") == []
    assert as_alice.error("GET", "/api/v1/jobs/historic?cluster=cloud")[:2] == (501, "not_implemented")


def test_history_outlives_the_controller(as_alice: Client, slurm: SlurmCluster) -> None:
    """The history comes from accounting, so it is there without the controller."""
    slurm.stop_controller()
    try:
        assert as_alice("GET", "/api/v1/jobs/historic?cluster=owens").status_code == 200
    finally:
        slurm.start_controller()
