"""pun_app/adapters/slurm/sacct.py: what sacct of Slurm 22.05 printed, read."""

from __future__ import annotations

import pytest

from pun_app.adapters.model import OUTCOMES, Job, PastJob, Period
from pun_app.adapters.parse import size
from pun_app.adapters.slurm.sacct import parse_history, sacct_history_command

D = "\x1fabc\x1f"
TRES = "billing=2,cpu=2,mem=200M,node=1"
ROWS = [
    "1|FAILED|3:0|1001|alice|physics|batch|100|110|120|10|60|n1|ci|00:05.002|2|{t}|{t}||",
    "1.batch|FAILED|3:0|||physics||110|110|120|10||n1|batch|00:05.002|2|cpu=2,mem=200M||51200K|1",
    "1.0|COMPLETED|0:0|||physics||110|111|119|8||n1|step|00:01.000|2|cpu=2,mem=200M||20M|2",
    "3|CANCELLED by 1001|0:0|1001|alice|physics|batch|100|105|105|0|Partition_Limit|None assigned|never ran|00:00:00|1||{t}||",
    "4_1|TIMEOUT|0:0|1002|bob|physics|batch|100|110|170|60|1|n1|a\nb|1-00:00:01|1|cpu=1|cpu=1,mem=1G||",
    "4_1.batch|CANCELLED|0:15|||physics||110|110|170|60||n1|batch||1|cpu=1|||1",
]
TEXT = "".join(D.join([*row.format(t=TRES).split("|"), "\n"]) for row in ROWS)


def test_a_job_with_what_its_steps_used() -> None:
    """Time of the job's own row, memory of its largest step; of one that never ran, nothing."""
    rows = parse_history(TEXT, D)
    assert [uid for uid, _ in rows] == [1001, 1001, 1002]
    failed, never, late = (past for _, past in rows)
    assert (failed.job.id, failed.job.outcome, failed.job.exit_code) == ("1", "failed", 3)
    assert (failed.cpus, failed.cpu_time, failed.memory_used) == (2, 5, 51_200 * 1024)
    assert failed.memory_requested == 200 * 1024**2
    assert (failed.cpu_efficiency, failed.memory_efficiency) == (0.25, 0.25)
    assert (never.job.outcome, never.job.started_at, never.cpus, never.memory_used) == ("cancelled", None, None, None)
    assert (never.cpu_efficiency, never.memory_efficiency) == (None, None)
    assert (late.job.id, late.job.name, late.job.outcome) == ("4_1", "a\nb", "timed_out")
    assert (late.cpu_time, late.memory_requested, late.memory_used) == (86_401, 1024**3, None)


def test_a_period_is_asked_for_without_a_zone() -> None:
    argv = sacct_history_command(D, "alice", Period(2_000_000, 3_000_000, ("failed", "timed_out")))
    assert {"--user=alice", "--starttime=uts2000000", "--endtime=uts3000000", "--state=FAILED,TIMEOUT,DEADLINE"} <= set(
        argv
    )
    assert "NODE_FAIL" in " ".join(sacct_history_command(D, "alice", Period(100, 200)))
    assert {"--starttime=uts1000000", "--endtime=uts1000000"} <= set(
        sacct_history_command(D, "alice", Period(100, 200))
    )


def test_cut_off_output_and_none() -> None:
    assert parse_history("", D) == []
    assert len(parse_history(TEXT[:-40], D)) == 3
    assert len(parse_history(TEXT[: TEXT.index("4_1.batch") - 30], D)) == 2


@pytest.mark.parametrize(
    ("ended", "outcome", "held"),
    [(100, "failed", True), (199, "failed", True), (200, "failed", False), (99, "failed", False), (None, "failed", False),
     (150, "cancelled", False), (150, None, False)],
)  # fmt: skip
def test_a_period_holds_what_ended_in_it(ended: int | None, outcome: str | None, held: bool) -> None:
    assert Period(100, 200, ("failed",)).holds(Job("1", ended_at=ended, outcome=outcome)) is held
    assert set(OUTCOMES) == set(Period(0, 1).outcomes)


def test_efficiency_of_what_is_not_counted() -> None:
    job = Job("1", wallclock_time=0)
    assert PastJob(job, cpus=1, cpu_time=5).cpu_efficiency is None
    assert PastJob(job, memory_used=5, memory_requested=0).memory_efficiency is None


@pytest.mark.parametrize(
    ("text", "size_in_bytes"),
    [("500M", 500 * 2**20), ("1.5G", 3 * 2**29), ("2048K", 2**21), ("7", 7), ("1T", 2**40), ("16gb", 2**34), ("", None),
     ("M", None), ("-1M", None), ("1Z", None), ("UNLIMITED", None)],
)  # fmt: skip
def test_sizes(text: str, size_in_bytes: int | None) -> None:
    assert size(text) == size_in_bytes
