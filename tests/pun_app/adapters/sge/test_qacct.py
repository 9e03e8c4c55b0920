"""pun_app/adapters/sge/qacct.py, with records of Son of Grid Engine 8.1.9 and Open Cluster Scheduler 9."""

from __future__ import annotations

import pytest

from pun_app.adapters.sge.qacct import parse_records, parse_time
from tests.pun_app.adapters.sge.common import record


@pytest.mark.parametrize(
    ("failed", "status", "category", "outcome", "exit_code"),
    [
        ("0    ", "0", "NONE", "succeeded", 0), ("0    ", "3", "NONE", "failed", 3),
        ("100 : assumedly after job", "137                  (Killed)", "NONE", "cancelled", None),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137", "-l h_rt=10", "timed_out", None),
        ("100 : assumedly after job", "137", "-l h_rt=10", "timed_out", None),
        ("100 : assumedly after job", "137", "-l h_rt=1000,h_vmem=1M", "out_of_memory", None),
        ("100 : assumedly after job", "139", "NONE", "failed", 139), ("26  : opening input/output file", "0", "NONE", "failed", 0),
    ],
    ids=["success", "exit code", "qdel", "run limit", "killed at its limit", "memory limit", "killed itself", "no start"],
)  # fmt: skip
def test_outcome_from_failed_and_exit_status(
    failed: str, status: str, category: str, outcome: str, exit_code: int | None
) -> None:
    """The limits are in the category of the record."""
    (past,) = parse_records(record(failed=failed, status=status, category=category), "alice")
    assert (past.job.outcome, past.job.exit_code) == (outcome, exit_code)


def test_all_fields_of_a_record() -> None:
    """A record of another user and one that was cut off are left out."""
    (past,) = parse_records(record(category="-l h_vmem=1G"), "alice")
    assert (past.job.submitted_at, past.job.started_at, past.job.ended_at) == (1795412473, 1795412474, 1795412484)
    assert (past.cpus, past.cpu_time, past.memory_used, past.memory_requested) == (2, 5, 3 * 1024**2, 2 * 1024**3)
    assert parse_records(record(), "bob") == []
    assert parse_records(record()[:200], "alice") == []
    assert [job.job.id for job in parse_records(record("2") + record("3"), "alice", "3")] == ["3.3"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("Mon Nov 23 05:41:13 2026", 1795412473), ("2026-11-23 05:41:13.123456", 1795412473), ("2026-11-23T05:41:13", 1795412473),
     ("11/23/2026 05:41:13.123", 1795412473), ("11/23/2026 05:41:13", 1795412473), ("-/-", None), ("13/40/2026 05:41:13", None), ("", None)],
)  # fmt: skip
def test_times_of_grid_engine_and_its_descendants(text: str, seconds: int | None) -> None:
    """Son of Grid Engine and Univa before 8.2, Open Cluster Scheduler 9, Altair."""
    assert parse_time(text, 1795461000) == seconds


OCS_RECORD = """==============================================================
qname                              all.q
owner                              alice
jobname                            sleep
jobnumber                          7
taskid                             undefined
pe_taskid                          NONE
account                            sge
qsub_time                          2026-11-23 05:41:13.123456
submit_cmd_line                    qsub -l h_rt=60 -terse
start_time                         2026-11-23 05:41:14.000001
end_time                           2026-11-23 05:41:24.999999
granted_pe                         NONE
slots                              1
failed                             {failed}
exit_status                        {status}
{more}ru_wallclock                       10
wallclock                          10.734
cpu                                5.250
maxvmem                            3145728
maxrss                             1048576
"""


@pytest.mark.parametrize(
    ("failed", "status", "more", "outcome"),
    [("0    ", "0", "", "succeeded"), ("100 : assumedly after job", "137", "deleted_by                         alice\n", "cancelled"),
     ("100 : assumedly after job", "137", "", "cancelled"), ("100 : assumedly after job", "137", "deleted_by                 NONE\n", "failed")],
)  # fmt: skip
def test_a_record_of_open_cluster_scheduler(failed: str, status: str, more: str, outcome: str) -> None:
    """It has no category, its columns are wider, and its times have microseconds."""
    (past,) = parse_records(OCS_RECORD.format(failed=failed, status=status, more=more), "alice")
    assert (past.job.id, past.job.outcome, past.job.wallclock_limit) == ("7", outcome, 60)
    assert (past.job.submitted_at, past.job.started_at, past.job.ended_at) == (1795412473, 1795412474, 1795412484)
    assert (past.cpu_time, past.memory_used) == (5, 3145728)
    assert parse_records(OCS_RECORD.format(failed=failed, status=status, more=more)[:-40], "alice") != []
    assert parse_records(OCS_RECORD.format(failed=failed, status=status, more=more)[:-90], "alice") == []
