"""Tests of idempotent and trial submits on a real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.portal import Client, Portal, User, unmount
from tests.system.slurm import SlurmCluster, wait_for

SCRIPT = "#!/bin/bash\nsleep 60\n"


def submit(client: Client, key: str | None, script: str = SCRIPT, query: str = "", **options: Any) -> requests.Response:
    body = {"cluster": "owens", "script": {"content": script}, "options": {"hold": True, **options}}
    return client("POST", f"/api/v1/jobs{query}", body, headers={"Idempotency-Key": key} if key is not None else {})


def queued(slurm: SlurmCluster, user: User) -> list[str]:
    return slurm.run("squeue", "-h", "-o", "%i", f"--user={user.name}").split()


@pytest.fixture(autouse=True)
def _no_jobs_left(slurm: SlurmCluster, alice: User, bob: User) -> Iterator[None]:
    slurm.run("scancel", f"--user={alice.name}", check=False)
    yield
    for user in (alice, bob):
        slurm.run("scancel", f"--user={user.name}", check=False)


def test_a_retried_submit_is_one_job(portal: Portal, as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    """The retry gets exactly the first answer, even from another process. The same key of another user is independent."""
    key = str(uuid.uuid4())
    first = submit(as_alice, key)
    assert first.status_code == 201 and "Idempotency-Replayed" not in first.headers
    again = submit(as_alice, key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    pun = portal.pid_of(alice)
    os.kill(pun, signal.SIGKILL)
    wait_for("another process", lambda: portal.pid_of(alice) not in (0, pun) or not submit(as_alice, key).ok)
    again = submit(portal.client(alice), key)
    assert again.json() == first.json() and again.headers["Idempotency-Replayed"] == "true"
    assert submit(as_alice, None).json()["data"]["job_id"] != first.json()["data"]["job_id"]
    assert len(queued(slurm, alice)) == 2


def test_keys_of_two_users_are_independent(as_alice: Client, as_bob: Client) -> None:
    first, bobs = submit(as_alice, "same"), submit(as_bob, "same")
    assert first.status_code == bobs.status_code == 201
    assert first.json()["data"]["job_id"] != bobs.json()["data"]["job_id"]


def test_a_key_with_another_body_is_422(as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    key = str(uuid.uuid4())
    assert submit(as_alice, key).status_code == 201
    other = submit(as_alice, key, script="#!/bin/bash\ntrue\n")
    assert other.status_code == 422 and "another body" in other.json()["message"]
    assert len(queued(slurm, alice)) == 1


@pytest.mark.parametrize(
    "key", ["x" * 256, "x" * 10_000, "two words", "ä"], ids=["too long", "far too long", "two words", "not ASCII"]
)
def test_an_invalid_key_is_400(as_alice: Client, alice: User, slurm: SlurmCluster, key: str) -> None:
    answer = submit(as_alice, key)
    assert answer.status_code == 400 and "Idempotency-Key" in answer.json()["message"]
    assert not queued(slurm, alice)


def test_a_refusal_is_repeated(as_alice: Client) -> None:
    key = str(uuid.uuid4())
    first, again = (submit(as_alice, key, queue_name="nope") for _ in range(2))
    assert first.status_code == again.status_code == 422 and first.json() == again.json()
    assert "Idempotency-Replayed" not in first.headers and again.headers["Idempotency-Replayed"] == "true"


def test_concurrent_submits_with_one_key_are_one_job(as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    key, answers = str(uuid.uuid4()), []
    threads = [threading.Thread(target=lambda: answers.append(submit(as_alice, key))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [answer.status_code for answer in answers] == [201] * 12
    assert len({answer.json()["data"]["job_id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert len(queued(slurm, alice)) == 1


def test_a_full_home(as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    """A submit whose key cannot be recorded is not made. A submit without a key is made."""
    folder = alice.home / ".local" / "share" / "punway" / "submits"
    alice.run("mkdir", "-p", str(folder))
    options = f"size=16k,mode=700,uid={alice.uid},gid={alice.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        alice.run("sh", "-c", f"head -c 100000 /dev/zero > {folder}/fill", check=False)
        answer = submit(as_alice, str(uuid.uuid4()))
        assert answer.status_code == 503 and "No space left" in answer.json()["message"]
        assert not queued(slurm, alice)
        assert submit(as_alice, None).status_code == 201
    finally:
        unmount(folder)


@pytest.fixture
def slow(folder: Path, slurm: SlurmCluster, hook_user: str) -> Iterator[tuple[Portal, Path]]:
    """Yield a portal whose sbatch submits, and then hangs while a file exists."""
    wait, program = folder / "sbatch-waits", folder / "sbatch-slow"
    program.write_text(
        f'#!/bin/sh\n/usr/bin/sbatch "$@" > {folder}/said.$$\ntouch {folder}/submitted\n'
        f"while [ -e {wait} ]; do sleep 0.1; done\ncat {folder}/said.$$\n"
    )
    program.chmod(0o755)
    folder.chmod(0o777)
    job = f"{{adapter: slurm, bin: /usr/bin, conf: {slurm.conf}, bin_overrides: {{sbatch: {program}}}}}"
    portal = Portal(folder / "idem", hook_user, {"owens": f"v2:\n  job: {job}\n"})
    try:
        yield portal.start(), wait
    finally:
        wait.unlink(missing_ok=True)
        portal.stop()
        folder.chmod(0o755)


def test_a_process_that_dies_in_a_submit(slow: tuple[Portal, Path], alice: User, slurm: SlurmCluster) -> None:
    """The retry finds the job of the first submit."""
    portal, wait = slow
    client, key = portal.client(alice), str(uuid.uuid4())
    wait.touch()
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(submit(client, key)))
    thread.start()
    wait_for("the submit", (wait.parent / "submitted").exists)
    os.kill(portal.pid_of(alice), signal.SIGKILL)
    thread.join(120)
    assert answers[0].status_code == 503
    (job,) = queued(slurm, alice)
    wait.unlink()
    again = submit(client, key)
    assert (again.status_code, again.json()["data"]["job_id"]) == (201, job), again.text
    assert again.headers["Idempotency-Replayed"] == "true"
    assert submit(client, key).json()["data"]["job_id"] == job
    assert queued(slurm, alice) == [job]


def test_a_trial_submit(as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    """The answer has the scheduler's message and the estimated start, and nothing is submitted."""
    answer = submit(as_alice, "ignored", query="?validate=true", wall_time=60)
    assert answer.status_code == 200, answer.text
    said = answer.json()["data"]
    now = datetime.now(timezone.utc)
    assert said["accepted"] is True and "in partition batch" in said["message"]
    assert now - timedelta(minutes=2) < datetime.fromisoformat(said["starts_at"].replace("Z", "+00:00"))
    later = submit(as_alice, None, query="?validate=true", native=["--begin=now+1hour"]).json()["data"]
    assert datetime.fromisoformat(later["starts_at"].replace("Z", "+00:00")) > now + timedelta(minutes=50)
    for options, word in (
        ({"queue_name": "nope"}, "partition"),
        ({"nodes": 5000}, "requested"),
        ({"accounting_id": "nope"}, "account"),
    ):
        no = submit(as_alice, None, query="?validate=true", **options)
        assert no.status_code == 422 and word in no.json()["message"].lower()
    assert submit(as_alice, None, query="?validate=maybe").status_code == 400
    assert submit(as_alice, None, script="no script", query="?validate=true").status_code == 422
    assert not queued(slurm, alice)
    assert submit(as_alice, "ignored").status_code == 201


def test_a_trial_submit_to_the_embedded_scheduler(as_alice: Client) -> None:
    jobs = len(as_alice.data("GET", "/api/v1/jobs?cluster=box"))
    body = {"cluster": "box", "script": {"content": "#!/bin/sh\ntrue\n"}}
    assert as_alice.data("POST", "/api/v1/jobs?validate=true", body)["accepted"] is True
    body["script"] = {"content": "true"}
    assert as_alice.error("POST", "/api/v1/jobs?validate=true", body)[0] == 422
    assert len(as_alice.data("GET", "/api/v1/jobs?cluster=box")) == jobs
