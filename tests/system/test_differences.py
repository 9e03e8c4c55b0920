"""Tests of the deliberate differences from the original API (docs/users/differences.md), on a real Slurm."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.system.portal import Client, Portal, User, refusal
from tests.system.slurm import wait_for

SLEEP = "#!/bin/sh\nsleep 100\n"


def submit_body(cluster: Any = "owens", workdir: str | None = None, **options: Any) -> dict[str, Any]:
    script = {"content": SLEEP} if workdir is None else {"content": SLEEP, "workdir": workdir}
    return {"cluster": cluster, "script": script, "options": options}


@pytest.mark.parametrize("job_id", ["abc", "--help", "--user=root", "3,7", "3+", "0", "3\n7"], ids=ascii)
def test_an_impossible_job_id_is_404(as_alice: Client, job_id: str) -> None:
    """The id is a 404 and does not become an option of a command."""
    for method in ("GET", "DELETE"):
        assert as_alice.error(method, f"/api/v1/jobs/{quote(job_id, safe='')}?cluster=owens")[:2] == (404, "not_found")


REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "workdir that does not exist": (submit_body(workdir="/nonexistent"), 422),
    "unknown member": ({**submit_body(), "options": {"wall_tim": 60}}, 400),
    "wall_time as text": (submit_body(wall_time="60"), 400),
    "wall_time with a fraction": (submit_body(wall_time=1.9), 400),
    "hexadecimal wall_time": (submit_body(wall_time="0x10"), 400),
    "number as name": (submit_body(job_name=5), 400),
    "object as name": (submit_body(job_name={"a": 1}), 400),
    "newline in the name": (submit_body(job_name="a\nb"), 400),
    "blank output_path": (submit_body(output_path=""), 400),
    "NUL in a path": (submit_body(error_path="a\0b"), 400),
    "native as text": (submit_body(native=""), 400),
    "steering variable": (submit_body(environment={"SBATCH_PARTITION": "x"}), 422),
    "unknown dependency": (submit_body(afterok=["999999"]), 422),
    "descending array": (submit_body(array="3-1"), 422),
    "array with step 0": (submit_body(array="1-4:0"), 422),
    "native that replaces the script": (submit_body(native=["--wrap=id"]), 422),
    "cluster as number": (submit_body(cluster=5), 400),
    "cluster as list": (submit_body(cluster=["owens"]), 400),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_submit_is_rejected(as_alice: Client, case: str) -> None:
    body, status = REFUSED[case]
    assert as_alice.error("POST", "/api/v1/jobs", body)[0] == status


def test_a_submit_with_a_fraction_and_a_null(as_alice: Client, alice: User) -> None:
    """60.0 means 60, null means omitted, and the job starts in the home."""
    body = submit_body(wall_time=60.0, job_name=None)
    body["script"]["content"] = "#!/bin/sh\npwd > there\n"
    job = as_alice.data("POST", "/api/v1/jobs", body, 201)
    as_alice.wait(job["job_id"], lambda job: job["status"] == "completed")
    assert (alice.home / "there").read_text() == f"{alice.home}\n"


def test_changes_of_a_job(as_alice: Client) -> None:
    """A held job is shown as held. A running job cannot be held, and a finished one cannot be cancelled."""
    job = as_alice.submit(SLEEP, hold=True)["job_id"]
    path = f"/api/v1/jobs/{job}"
    assert as_alice.job(job)["status"] == "queued_held"
    as_alice.data("POST", f"{path}/release?cluster=owens")
    as_alice.wait(job, lambda job: job["status"] == "running")
    assert as_alice.error("POST", f"{path}/hold?cluster=owens")[:2] == (422, "unprocessable_entity")
    as_alice.data("DELETE", f"{path}?cluster=owens")
    as_alice.wait(job, lambda job: job["status"] == "completed")
    status, _, message = as_alice.error("DELETE", f"{path}?cluster=owens")
    assert (status, "already completed" in message) == (422, True)


def test_the_history_names_the_account_and_times_are_utc(as_alice: Client) -> None:
    job = as_alice.submit("#!/bin/sh\ntrue\n")["job_id"]

    def past() -> list[Any]:
        listed = as_alice.data("GET", "/api/v1/jobs/historic?cluster=owens")
        return [one for one in listed if one["job_id"] == job]

    wait_for("the job in the history", past)
    assert past()[0]["accounting_id"]
    assert past()[0]["ended_at"].endswith("Z")


def test_a_request_that_another_site_links_to(portal: Portal, as_alice: Client) -> None:
    assert as_alice("GET", "/api/v1/clusters", headers={"Referer": "https://elsewhere.example/"}).status_code == 200
    assert refusal(as_alice("GET", "/api/v1/files?path=/"))[:2] == (404, "not_found")
    assert refusal(as_alice("OPTIONS", "/api/v1/jobs"))[:2] == (405, "method_not_allowed")
