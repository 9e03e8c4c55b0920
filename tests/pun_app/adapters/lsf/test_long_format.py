"""pun_app/adapters/lsf/long_format.py against recorded output of volclava 2.2."""

from __future__ import annotations

import pytest

from pun_app.adapters.lsf.long_format import job_of, parse_long_format
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED
from tests.pun_app.adapters.lsf.common import RECORDED


@pytest.mark.parametrize(
    ("name", "status", "outcome", "exit_code"),
    [
        ("bjobs-l-full", RUNNING, None, None), ("bjobs-l-dep", QUEUED, None, None), ("bjobs-l-psusp", QUEUED_HELD, None, None),
        ("bjobs-l-ususp", SUSPENDED, None, None), ("bjobs-l-done", COMPLETED, "succeeded", 0), ("bjobs-l-e127", COMPLETED, "failed", 127),
        ("bjobs-l-e255", COMPLETED, "failed", 255), ("bjobs-l-sigkill", COMPLETED, "failed", 137),
        ("bjobs-l-runlimit", COMPLETED, "timed_out", None), ("bjobs-l-killed-pending", COMPLETED, "cancelled", None),
        ("bjobs-l-array2-elem", COMPLETED, "failed", 2), ("bjobs-l-nasty", QUEUED_HELD, None, None),
    ],
)  # fmt: skip
def test_status_and_outcome_of_each_recorded_job(
    name: str, status: str, outcome: str | None, exit_code: int | None
) -> None:
    """Each recorded job has its status, outcome and exit code."""
    (record,) = parse_long_format(RECORDED.output(name).out)
    job = job_of(record)
    assert (job.status, job.outcome, job.exit_code) == (status, outcome, exit_code)
    assert job.owner == "pbsa"
    assert job.submitted_at is not None


def test_all_fields_of_a_record() -> None:
    """A record has the job's names, limit and times."""
    (record,) = parse_long_format(RECORDED.output("bjobs-l-full").out)
    job = job_of(record)
    assert (job.id, job.name, job.queue, job.account, job.wallclock_limit) == ("2", "demo-job", "short", "proj123", 300)
    assert (job.submitted_at, job.started_at) == (1795375187, 1795375189)
    (nasty,) = parse_long_format(RECORDED.output("bjobs-l-nasty").out)
    assert nasty.name == 'we"ird nm <x>'
