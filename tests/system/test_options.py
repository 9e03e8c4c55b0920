"""Tests of a submit's options on a real Slurm."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.system.portal import Client, User, unique
from tests.system.slurm import SlurmCluster


def shown(slurm: SlurmCluster, job_id: str) -> str:
    """Return scontrol's output for a job."""
    return slurm.run("scontrol", "show", "job", job_id)


def test_resources_reach_slurm(as_alice: Client, slurm: SlurmCluster) -> None:
    """scontrol shows the requests of a held job, and the answer to the submit says that it is held."""
    job = as_alice.submit(
        "#!/bin/sh\ntrue\n", hold=True, nodes=1, cores=3, memory="300M", qos="normal", email="alice@example.org"
    )
    assert job["status"] == "queued_held"
    assert as_alice.job(job["job_id"])["status"] == "queued_held"
    said = shown(slurm, job["job_id"])
    for part in (
        "NumNodes=1",
        "NumCPUs=3",
        "NumTasks=3",
        "MinMemoryNode=300M",
        "QOS=normal",
        "MailUser=alice@example.org",
    ):
        assert part in said, said
    as_alice("DELETE", f"/api/v1/jobs/{job['job_id']}?cluster=owens")


def test_an_array_runs_its_tasks(as_alice: Client, alice: User) -> None:
    out = alice.home / "array-%a"
    job = as_alice.submit("#!/bin/sh\necho $SLURM_ARRAY_TASK_ID\n", array="1-3:2%1", output_path=str(out))
    as_alice.wait(job["job_id"], lambda now: now["status"] == "completed")
    assert {name: Path(alice.home, name).read_text() for name in ("array-1", "array-3")} == {
        "array-1": "1\n",
        "array-3": "3\n",
    }


def test_dependencies_delay_a_job(as_alice: Client) -> None:
    """A job with afterok starts after a success, one with afternotok only after a failure, and the other stays queued."""
    good = as_alice.submit("#!/bin/sh\nsleep 1\n")["job_id"]
    bad = as_alice.submit("#!/bin/sh\nsleep 1; exit 1\n")["job_id"]
    both = as_alice.submit("#!/bin/sh\ntrue\n", afterok=[good], afternotok=[bad], afterany=[good, bad])["job_id"]
    never = as_alice.submit("#!/bin/sh\ntrue\n", afterok=[bad])["job_id"]
    assert as_alice.job(both)["status"] == "queued"
    assert as_alice.job(both)["native_reason"] == "Dependency"
    as_alice.wait(both, lambda now: now["outcome"] == "succeeded")
    as_alice.wait(never, lambda now: now["native_reason"] == "DependencyNeverSatisfied")
    as_alice("DELETE", f"/api/v1/jobs/{never}?cluster=owens")


def test_the_environment_reaches_the_job_and_no_list_of_processes(as_alice: Client, alice: User) -> None:
    """Variables may have any value and replace those of the login environment."""
    alice.run("sh", "-c", f"echo 'export COLOUR=of-the-login OTHER=of-the-login' >> {alice.home}/.bash_profile")
    out = alice.home / "environment"
    secret = unique("secret")
    values = {"COLOUR": f"a, b=$({secret}) 'c' \"d\"\n--export=NONE é", "EMPTY": ""}
    job = as_alice.submit(
        '#!/bin/bash\nprintf "%s|%s|%s|%s" "$COLOUR" "${EMPTY-unset}" "$OTHER" "$HOME"; srun -n1 true || echo srun failed\n',
        environment=values, output_path=str(out),
    )  # fmt: skip
    as_alice.wait(job["job_id"], lambda now: now["status"] == "completed")
    assert out.read_text() == f"{values['COLOUR']}||of-the-login|{alice.home}"
    assert secret not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
