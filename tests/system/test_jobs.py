"""Tests of jobs of two real users on a real Slurm, through nginx, hook and PUN."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.system.portal import Client, Portal, User
from tests.system.slurm import SlurmCluster, wait_for

JOB_FIELDS = {
    "job_id", "cluster", "job_name", "job_owner", "status", "queue_name", "accounting_id", "submitted_at",
    "started_at", "wallclock_time", "wallclock_limit",
}  # fmt: skip
SLEEP = "#!/bin/bash\nsleep 300\n"


def test_a_job_runs_as_the_tokens_owner(as_alice: Client, alice: User) -> None:
    """``id -un`` in the job prints the token's owner, who also owns the output file, by default in the home."""
    job = as_alice.submit("#!/bin/bash\nid -un\npwd\n", job_name="whoami", wall_time=300)
    assert set(job) >= JOB_FIELDS
    assert (job["status"], job["job_name"], job["job_owner"], job["wallclock_limit"]) == (
        "queued",
        "whoami",
        alice.name,
        300,
    )
    done = as_alice.wait(job["job_id"], lambda j: j["status"] == "completed")
    assert (done["outcome"], done["exit_code"], done["native_state"]) == ("succeeded", 0, "COMPLETED")
    output = alice.home / f"slurm-{job['job_id']}.out"
    assert output.read_text().split() == [alice.name, str(alice.home)]
    assert output.stat().st_uid == alice.uid


def test_a_job_has_the_login_environment_and_can_run_srun(as_alice: Client, alice: User) -> None:
    """The user's profile is read, and no SLURM_EXPORT_ENV=NONE breaks the steps of the job."""
    profile = alice.home / ".profile"
    kept = profile.read_text()
    profile.write_text("export FROM_PROFILE=yes\n")
    try:
        job = as_alice.submit('#!/bin/bash\necho "$FROM_PROFILE $SLURM_EXPORT_ENV."\nsrun echo step "$FROM_PROFILE"\n')
        as_alice.wait(job["job_id"], lambda j: j["status"] == "completed")
        assert (alice.home / f"slurm-{job['job_id']}.out").read_text().splitlines() == ["yes .", "step yes"]
    finally:
        profile.write_text(kept)


def test_options_reach_slurm(as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    """``scontrol show job`` shows each option of the contract's table."""
    (alice.home / "work").mkdir(exist_ok=True)
    (alice.home / "work").chmod(0o755)
    job = as_alice.submit(
        SLEEP, job_name="all of them", queue_name="short", accounting_id="chem", wall_time=60,
        output_path="out-%j.txt", error_path="err-%j.txt", native=["-n", "2", "--hold"], workdir=f"{alice.home}",
    )  # fmt: skip
    shown = slurm.run("scontrol", "show", "job", job["job_id"])
    for part in ("JobName=all of them", "Partition=short", "Account=chem", "TimeLimit=00:01:00", f"WorkDir={alice.home}",
                 f"StdOut={alice.home}/out-{job['job_id']}.txt", f"StdErr={alice.home}/err-{job['job_id']}.txt",
                 "NumTasks=2", "Comment=punway:"):  # fmt: skip
        assert part in shown
    got = as_alice.job(job["job_id"])
    assert (got["queue_name"], got["accounting_id"], got["wallclock_limit"]) == ("short", "chem", 60)
    as_alice.data("DELETE", f"/api/v1/jobs/{job['job_id']}?cluster=owens")


@pytest.mark.parametrize(
    ("content", "native"),
    [(SLEEP, ["--hold", "--comment=mine"]), (SLEEP, ["--hold", "--comment", "mine"]),
     ("#!/bin/bash\n#SBATCH --hold --comment='mine'\nsleep 9\n", [])],
    ids=["native", "native-two-words", "directive"],
)  # fmt: skip
def test_a_users_own_comment_stays(as_alice: Client, slurm: SlurmCluster, content: str, native: list[str]) -> None:
    """The submit tag is added to the user's comment and does not replace it."""
    job = as_alice.submit(content, native=native)
    assert "Comment=mine punway:" in slurm.run("scontrol", "show", "job", job["job_id"])
    as_alice.data("DELETE", f"/api/v1/jobs/{job['job_id']}?cluster=owens")


def test_hold_release_and_cancel(as_alice: Client) -> None:
    """A held job is queued_held, a released one queued again, a cancelled one completed as cancelled."""
    where = "?cluster=owens"
    blocker = as_alice.submit(SLEEP, native=["--exclusive"])["job_id"]
    as_alice.wait(blocker, lambda j: j["status"] == "running")
    job = as_alice.submit(SLEEP)["job_id"]
    assert as_alice.data("POST", f"/api/v1/jobs/{job}/hold{where}") == {"job_id": job, "status": "queued_held"}
    held = as_alice.job(job)
    assert (held["status"], held["native_state"], held["native_reason"]) == ("queued_held", "PENDING", "JobHeldUser")
    assert as_alice.data("POST", f"/api/v1/jobs/{job}/release{where}") == {"job_id": job, "status": "queued"}
    as_alice.wait(job, lambda j: j["status"] == "queued" and j["started_at"] is None)
    assert as_alice.error("POST", f"/api/v1/jobs/{blocker}/hold{where}")[:2] == (422, "unprocessable_entity")
    for one in (job, blocker):
        assert as_alice.data("DELETE", f"/api/v1/jobs/{one}{where}") == {"job_id": one, "status": "cancelled"}
    gone = as_alice.wait(job, lambda j: j["status"] == "completed")
    assert (gone["outcome"], gone["exit_code"], gone["native_state"]) == ("cancelled", None, "CANCELLED")
    for method, path in (("DELETE", ""), ("POST", "/hold"), ("POST", "/release")):
        status, error, message = as_alice.error(method, f"/api/v1/jobs/{job}{path}{where}")
        assert (status, error) == (422, "unprocessable_entity")
        assert "completed" in message


def test_a_failed_job_has_its_exit_code(as_alice: Client) -> None:
    """A job with ``exit 3`` is completed with outcome failed and exit code 3, in the list and by its id."""
    job = as_alice.submit("#!/bin/bash\nexit 3\n")["job_id"]
    done = as_alice.wait(job, lambda j: j["status"] == "completed")
    assert (done["outcome"], done["exit_code"], done["native_state"]) == ("failed", 3, "FAILED")
    listed = {j["job_id"]: j for j in as_alice.data("GET", "/api/v1/jobs?cluster=owens")}
    assert (listed[job]["outcome"], listed[job]["exit_code"]) == ("failed", 3)


def test_a_running_job_has_times(as_alice: Client) -> None:
    """``started_at`` is null while the job is queued and an RFC 3339 time in UTC while it runs."""
    job = as_alice.submit(SLEEP, wall_time=3600)["job_id"]
    running = as_alice.wait(job, lambda j: j["status"] == "running")
    assert running["started_at"].endswith("Z") and running["submitted_at"].endswith("Z")
    assert (running["outcome"], running["exit_code"], running["ended_at"]) == (None, None, None)
    assert running["wallclock_limit"] == 3600
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_an_array_and_its_tasks(as_alice: Client) -> None:
    """Each task is listed. The array's own id gives all tasks merged."""
    array = as_alice.submit("#!/bin/bash\nexit $SLURM_ARRAY_TASK_ID\n", native=["--array=0-2"])["job_id"]
    whole = as_alice.wait(array, lambda j: j["status"] == "completed")
    assert (whole["job_id"], whole["outcome"], whole["exit_code"]) == (array, "failed", 2)
    assert as_alice.job(f"{array}_0")["outcome"] == "succeeded"
    assert as_alice.job(f"{array}_2")["exit_code"] == 2
    listed = [j["job_id"] for j in as_alice.data("GET", "/api/v1/jobs?cluster=owens")]
    assert {f"{array}_{task}" for task in range(3)} <= set(listed)
    assert as_alice.error("GET", f"/api/v1/jobs/{array}_7?cluster=owens")[0] == 404


def test_a_dependency_by_native(as_alice: Client) -> None:
    """A job with ``--dependency=afterok`` in native starts after the first job."""
    first = as_alice.submit("#!/bin/bash\nsleep 2\n")["job_id"]
    second = as_alice.submit("#!/bin/bash\ntrue\n", native=[f"--dependency=afterok:{first}"])["job_id"]
    waiting = as_alice.job(second)
    assert (waiting["status"], waiting["native_reason"]) == ("queued", "Dependency")
    assert as_alice.wait(second, lambda j: j["status"] == "completed")["outcome"] == "succeeded"


def test_a_job_that_exceeds_its_time_limit(as_alice: Client) -> None:
    """Its status is completed and its outcome is timed_out."""
    job = as_alice.submit(SLEEP, wall_time=1)["job_id"]
    done = as_alice.wait(job, lambda j: j["status"] == "completed", seconds=240)
    assert (done["outcome"], done["native_state"], done["exit_code"]) == ("timed_out", "TIMEOUT", None)


def test_a_job_that_left_the_queue_is_in_accounting(as_alice: Client, slurm: SlurmCluster) -> None:
    """squeue omits a job after MinJobAge. From then on the API reads it from sacct."""
    script = "#!/bin/bash\n#SBATCH -o 'left %x.txt'\necho here; exit 4\n"
    job = as_alice.submit(script, job_name="a|b\\c")["job_id"]
    as_alice.wait(job, lambda j: j["status"] == "completed")
    in_queue = as_alice.job(job)
    with slurm.forgetful():
        queue = ("squeue", "-h", "--states=all", "-o", "%i")
        wait_for("the queue to forget", lambda: job not in slurm.run(*queue).split(), 240)
    from_accounting = as_alice.job(job)
    same = ("job_id", "job_name", "job_owner", "status", "outcome", "exit_code", "queue_name", "accounting_id",
            "submitted_at", "started_at", "ended_at")  # fmt: skip
    assert {k: from_accounting[k] for k in same} == {k: in_queue[k] for k in same}
    assert as_alice.error("DELETE", f"/api/v1/jobs/{job}?cluster=owens")[0] == 422
    assert as_alice.data("GET", f"/api/v1/jobs/{job}/output?cluster=owens")["content"] == "here\n"
    # Slurm itself would treat the dependency as satisfied.
    for query in ("", "?validate=true"):
        body = {"cluster": "owens", "script": {"content": script}, "options": {"afterok": [job]}}
        status, _, message = as_alice.error("POST", f"/api/v1/jobs{query}", body)
        assert (status, "options.afterok" in message, "failed" in message) == (422, True, True)
    # This submit comes last, because slurmctld may reuse the id that it has forgotten.
    waits = as_alice.submit(SLEEP, afternotok=[int(job)], hold=True)
    assert waits["dependencies_met"] == {"afternotok": [job]}
    as_alice("DELETE", f"/api/v1/jobs/{waits['job_id']}?cluster=owens")


@pytest.mark.parametrize("call", ["GET ", "DELETE ", "POST /hold", "POST /release"])
def test_another_users_job_is_not_found(as_alice: Client, as_bob: Client, call: str) -> None:
    """Bob's job is a 404 for alice in every request, is not in her list, and does not change."""
    job = as_bob.submit(SLEEP, native=["--hold"])["job_id"]
    method, _, path = call.partition(" ")
    # Without the cache: Slurm may have given bob an id that was alice's own job a moment ago.
    status, error, message = as_alice.error(
        method, f"/api/v1/jobs/{job}{path}?cluster=owens", headers={"Cache-Control": "no-cache"}
    )
    assert (status, error, message) == (404, "not_found", "Job not found")
    assert job not in [j["job_id"] for j in as_alice.data("GET", "/api/v1/jobs?cluster=owens")]
    assert as_bob.job(job)["status"] == "queued_held"
    as_bob.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_another_users_job_is_not_looked_up_in_accounting(
    counted: tuple[Portal, Path], alice: User, as_bob: Client
) -> None:
    """If ids start again, accounting may have an older job of the caller with the same id."""
    portal, folder = counted
    job = as_bob.submit(SLEEP, native=["--hold"])["job_id"]
    client, calls = portal.client(alice), folder / "sacct-calls"
    before = calls.stat().st_size
    assert client.error("GET", f"/api/v1/jobs/{job}?cluster=owens")[0] == 404
    assert calls.stat().st_size == before
    assert client.error("GET", "/api/v1/jobs/999999?cluster=owens")[0] == 404
    assert calls.stat().st_size > before
    as_bob.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_names_that_would_break_a_parser(as_alice: Client, alice: User, slurm: SlurmCluster) -> None:
    """Newlines, separators and quotes in a job's name change no other field and hide no other job."""
    name = "a\nb|c\x1fd;e 'f' \"g\" $(id) JobState=RUNNING"
    made = alice.run(
        "sbatch", "--parsable", "--hold", f"--job-name={name}", "--wrap=true", environment=slurm.environment
    ).stdout.strip()
    after = as_alice.submit(SLEEP, native=["--hold"], job_name="after")["job_id"]
    listed = {j["job_id"]: j for j in as_alice.data("GET", "/api/v1/jobs?cluster=owens")}
    assert (listed[made]["job_name"], listed[made]["status"]) == (name, "queued_held")
    assert listed[after]["job_name"] == "after"
    for job in (made, after):
        as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_an_answer_is_reused_for_a_second(as_alice: Client) -> None:
    """An answer is reused for a second, with its age. With no-cache the scheduler is asked again."""
    path = "/api/v1/jobs?cluster=owens"
    as_alice("GET", path)
    assert "Age" in as_alice("GET", path).headers
    fresh = as_alice("GET", path, headers={"Cache-Control": "no-cache"})
    assert fresh.headers["Age"] == "0"


def test_a_submitted_job_is_in_the_list_at_once(as_alice: Client) -> None:
    """A submit drops the cached answers."""
    as_alice.data("GET", "/api/v1/jobs?cluster=owens")
    job = as_alice.submit(SLEEP, native=["--hold"])["job_id"]
    assert job in [j["job_id"] for j in as_alice.data("GET", "/api/v1/jobs?cluster=owens")]
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_a_submit_whose_answer_was_lost_is_found_by_its_submit_tag(
    portal: Portal, as_alice: Client, slurm: SlurmCluster
) -> None:
    """sbatch hangs after Slurm has accepted the job. It is killed in time, and the answer has the job."""
    sbatch = portal.folder / "hanging-sbatch"
    sbatch.write_text('#!/bin/sh\n/usr/bin/sbatch "$@" >/dev/null\nsleep 1000\n')
    sbatch.chmod(0o755)
    file = portal.folder / "clusters.d" / "hanging.yml"
    file.write_text(
        f"v2:\n  job: {{adapter: slurm, bin: /usr/bin, conf: {slurm.conf}, bin_overrides: {{sbatch: {sbatch}}}}}\n"
    )
    try:
        job = as_alice.submit(SLEEP, "hanging", native=["--hold", "--comment=mine"], job_name="lost")
        assert (job["job_name"], job["status"]) == ("lost", "queued_held")
        assert "Comment=mine punway:" in slurm.run("scontrol", "show", "job", job["job_id"])
        as_alice.data("DELETE", f"/api/v1/jobs/{job['job_id']}?cluster=owens")
    finally:
        file.unlink()


def test_a_submit_to_a_hung_controller_says_that_it_is_not_known(
    as_alice: Client, alice: User, slurm: SlurmCluster
) -> None:
    """The 503 names the submit tag, which finds the job if the controller accepts it later."""
    controller = slurm.processes["slurmctld"].pid
    os.kill(controller, signal.SIGSTOP)
    try:
        status, error, message = as_alice.error(
            "POST", "/api/v1/jobs", {"cluster": "owens", "script": {"content": SLEEP}}
        )
    finally:
        os.kill(controller, signal.SIGCONT)
    assert (status, error) == (503, "service_unavailable")
    assert "not known whether the job was submitted" in message
    submit_tag = re.search("punway:[0-9a-f]{16}", message)
    assert submit_tag
    wait_for("the controller", lambda: "UP" in slurm.run("scontrol", "ping", check=False))
    as_alice.until_answered()
    taken = [
        line
        for line in slurm.run("squeue", "--array", "-h", "-u", alice.name, "-O", "JobID:|,Comment:|").split()
        if submit_tag[0] in line
    ]
    for line in taken:
        as_alice.data("DELETE", f"/api/v1/jobs/{line.split('|')[0]}?cluster=owens")
