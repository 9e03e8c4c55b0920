"""Schedulers and homes that hang: requests for them end in time, and other requests are answered as usual."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system.conftest import cluster_files
from tests.system.portal import Client, Portal, User, refusal
from tests.system.slurm import SlurmCluster, wait_for
from tests.system.test_process import HungHome

SCRIPT = "#!/bin/sh\nsleep 60\n"
HUNG, OTHER = "/api/v1/jobs?cluster=hung", "/api/v1/jobs?cluster=owens"


@pytest.fixture(scope="module")
def hanging(folder: Path, slurm: SlurmCluster, hook_user: str) -> Iterator[Portal]:
    """Start a portal whose cluster ``hung`` has commands that never end while the file ``hangs`` exists.

    Otherwise they are Slurm's commands.
    """
    bin_folder = folder / "hang-bin"
    bin_folder.mkdir()
    for name in ("squeue", "sbatch", "scancel", "scontrol", "sacct"):
        program = bin_folder / name
        program.write_text(
            f'#!/bin/sh\necho >> {folder}/hung-calls\n[ -e {folder}/hangs ] && exec sleep 1000\nexec /usr/bin/{name} "$@"\n'
        )
        program.chmod(0o755)
    (folder / "hung-calls").touch()
    (folder / "hung-calls").chmod(0o666)
    hung = f"v2:\n  job: {{adapter: slurm, bin: {bin_folder}, conf: {slurm.conf}}}\n"
    portal = Portal(folder / "hang", hook_user, {**cluster_files(slurm), "hung": hung})
    try:
        yield portal.start()
    finally:
        portal.stop()


@contextmanager
def hang(folder: Path) -> Iterator[None]:
    """Make the commands of the cluster ``hung`` hang."""
    (folder / "hangs").touch()
    try:
        yield
    finally:
        (folder / "hangs").unlink()


def calls(folder: Path) -> int:
    """Return the number of commands that the cluster ``hung`` has run."""
    return (folder / "hung-calls").stat().st_size


def state_of(client: Client, cluster: str) -> str | None:
    """Return the state of a cluster in the API."""
    state: str | None = client.data("GET", f"/api/v1/clusters/{cluster}")["state"]
    return state


def test_fifty_requests_for_a_hung_cluster_do_not_block_others(hanging: Portal, folder: Path, alice: User) -> None:
    """Other requests are answered while all fifty are open, and all fifty are 503 and never 401."""
    client = hanging.client(alice)
    assert client("GET", OTHER).status_code == client("GET", HUNG).status_code == 200
    before = calls(folder)
    with hang(folder), ThreadPoolExecutor(50) as pool:
        open_ones = [pool.submit(client, "GET", f"/api/v1/jobs/{n}?cluster=hung") for n in range(100_000, 100_050)]
        wait_for("commands that hang", lambda: calls(folder) - before >= 6)
        for _ in range(5):
            assert client("GET", "/api/v1/whoami").status_code == 200
            assert client("GET", OTHER, headers={"Cache-Control": "no-cache"}).status_code == 200
        assert not any(one.done() for one in open_ones)
        answers = [one.result() for one in open_ones]
        assert {refusal(answer)[:2] for answer in answers} == {(503, "service_unavailable")}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        assert state_of(client, "hung") == "down" and state_of(client, "owens") == "up"
        # A cluster that is known to be down is not asked by each request, and a submit says that nothing was sent.
        calls_before = calls(folder)
        wait_for("an answer at once", lambda: "Try again in" in client("GET", HUNG).text)
        status, _, message = client.error("POST", "/api/v1/jobs", {"cluster": "hung", "script": {"content": SCRIPT}})
        assert status == 503 and "not known" not in message
        both = {"jobs": [{"cluster": cluster, "job_id": "999999"} for cluster in ("hung", "owens")]}
        hung, owens = client.data("POST", "/api/v1/jobs/status", both)
        assert (hung["error"], owens["error"]) == ("service_unavailable", "not_found")
        assert calls(folder) - calls_before <= 4
    client.until_answered("hung")
    assert state_of(client, "hung") == "up"
    client.data("DELETE", f"/api/v1/jobs/{client.submit(SCRIPT, 'hung', hold=True)['job_id']}?cluster=hung")


def test_a_wait_and_a_batch_end_in_time(hanging: Portal, folder: Path, bob: User) -> None:
    """A cluster that hangs from the first command on is 503, and the batch has the other cluster's status."""
    client = hanging.client(bob)
    job = client.submit(SCRIPT, hold=True)["job_id"]
    both = {"jobs": [{"cluster": cluster, "job_id": job} for cluster in ("hung", "owens")]}
    with hang(folder), ThreadPoolExecutor(2) as pool:
        wait = pool.submit(client, "GET", f"/api/v1/jobs/{job}?cluster=hung&wait=5")
        batch = pool.submit(client.data, "POST", "/api/v1/jobs/status", both)
        hung, owens = batch.result()
        assert (hung["error"], owens["status"]) == ("service_unavailable", "queued_held")
        assert refusal(wait.result())[0] == 503
        # They ended at their deadlines: no command has ended yet.
        assert state_of(client, "hung") is None
    client.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_a_long_poll_ends_in_time_when_the_controller_hangs(as_alice: Client, slurm: SlurmCluster) -> None:
    """It returns the last known state of the job, or 503."""
    job = as_alice.submit(SCRIPT, hold=True)["job_id"]
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        wait = pool.submit(as_alice, "GET", f"/api/v1/jobs/{job}?cluster=owens&wait=6")
        wait_for("the cluster to be asked", lambda: state_of(as_alice, "owens") == "up")
        controller = slurm.processes["slurmctld"].pid
        stack.callback(os.kill, controller, signal.SIGCONT)
        os.kill(controller, signal.SIGSTOP)
        answer = wait.result()
        assert (answer.status_code == 200 and answer.json()["data"]["status"] == "queued_held") or (
            answer.status_code == 503 and "Retry-After" in answer.headers
        )
    as_alice.until_answered()
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_a_home_that_hangs_under_a_process_at_work(hanging: Portal, bob: User, new_user: Callable[..., User]) -> None:
    """Its PUN answers 503 with Retry-After, and other users are served.

    Afterwards the PUN serves its user again, though more requests were stuck than it has threads.
    """
    user = new_user("pwhome")
    client, other = hanging.client(user), hanging.client(bob)
    job = client.submit("#!/bin/sh\necho hello\n", "box")["job_id"]
    client.wait(job, lambda job: job["status"] == "completed", "box")
    with HungHome(user), ThreadPoolExecutor(40) as pool:
        body = {"cluster": "box", "script": {"content": SCRIPT}}
        reads = [pool.submit(client, "GET", "/api/v1/whoami") for _ in range(30)]
        reads += [pool.submit(client, "GET", f"/api/v1/jobs/{job}/output?cluster=box")]
        submit = pool.submit(client, "POST", "/api/v1/jobs", body, headers={"Idempotency-Key": "k"})
        assert other("GET", "/api/v1/whoami").status_code == 200
        for one in reads:
            answer = one.result()
            assert refusal(answer)[:2] == (503, "service_unavailable"), answer.text
            assert int(answer.headers["Retry-After"]) > 0
        # Either message may be true: it depends on which request got a thread first.
        assert refusal(submit.result())[0] == 503 and re.search("not known whether|not begun", submit.result().text)
        assert not any(one.result().elapsed.total_seconds() > 300 for one in (*reads, submit))
        pun = hanging.pid_of(user)
        assert len(os.listdir(f"/proc/{pun}/task")) <= 8 + 16 + 8
    wait_for("the home", lambda: client("GET", "/api/v1/whoami").status_code == 200)
    assert hanging.pid_of(user) == pun
    assert client.data("GET", f"/api/v1/jobs/{job}/output?cluster=box")["content"] == "hello\n"
    wait_for("as few threads as before", lambda: len(os.listdir(f"/proc/{pun}/task")) <= 8 + 8)
