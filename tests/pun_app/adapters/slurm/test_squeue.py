"""pun_app/adapters/slurm/squeue.py: pure halves of the adapter. What Slurm really says is in tests/system/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, Rejected, SchedulerUnavailable
from pun_app.adapters.model import (
    COMPLETED,
    QUEUED,
    QUEUED_HELD,
    RUNNING,
    SUSPENDED,
    Job,
    merge_tasks,
)
from pun_app.adapters.parse import RecordStream, duration, number, records, word
from pun_app.adapters.slurm import sacct, squeue
from pun_app.adapters.slurm.adapter import SlurmAdapter
from pun_app.adapters.slurm.sacct import parse_jobs, sacct_jobs_command
from pun_app.adapters.slurm.squeue import jobs_command, parse_row
from pun_app.adapters.slurm.states import STATUS
from pun_app.clusters.cached_scheduler import CachedScheduler

D = "\x1fabc\x1f"


def parse_queue(text: str, delimiter: str) -> list[tuple[int | None, str | None, Job]]:
    """Each row's uid, comment and job."""
    return [parse_row(fields) for fields in records(text, delimiter, len(squeue.COLUMNS))]


def row(**changes: str) -> str:
    fields = {
        "JobArrayID": "7", "State": "RUNNING", "exit_code": "0", "UserID": "1001", "UserName": "alice", "Account": "physics",
        "Partition": "batch", "SubmitTime": "100", "StartTime": "200", "EndTime": "900", "TimeUsed": "1-00:00:05",
        "TimeLimit": "UNLIMITED", "NodeList": "n1", "Reason": "None", "Comment": "(null)", "Name": "n", **changes,
    }  # fmt: skip
    return "".join(f"{fields[name]}{D}" for name in squeue.COLUMNS) + "\n"


def test_a_running_job() -> None:
    ((uid, comment, job),) = parse_queue(row(), D)
    assert (uid, comment) == (1001, None)
    assert job == Job(
        id="7", name="n", owner="alice", status=RUNNING, native_state="RUNNING", queue="batch", account="physics",
        submitted_at=100, started_at=200, wallclock_time=86_405, wallclock_limit=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"State": "PENDING", "Reason": "JobHeldUser"}, {"status": QUEUED_HELD, "started_at": None, "ended_at": None}),
        ({"State": "PENDING", "Reason": "JobHeldAdmin"}, {"status": QUEUED_HELD}),
        (
            {"State": "PENDING", "Reason": "Priority"},
            {"status": QUEUED, "started_at": None, "native_reason": "Priority"},
        ),
        ({"State": "PENDING", "Reason": "PartitionTimeLimit"}, {"status": QUEUED, "can_start": False}),
        ({"State": "PENDING", "Reason": "Priority"}, {"status": QUEUED, "can_start": None, "reason": None}),
        ({"State": "RUNNING", "Reason": "PartitionTimeLimit"}, {"status": RUNNING, "can_start": None}),
        ({"State": "SUSPENDED"}, {"status": SUSPENDED}),
        (
            {"State": "FAILED", "exit_code": "768"},
            {"status": COMPLETED, "outcome": "failed", "exit_code": 3, "ended_at": 900},
        ),
        ({"State": "FAILED", "exit_code": "9"}, {"exit_code": 137}),
        ({"State": "TIMEOUT", "exit_code": "15"}, {"outcome": "timed_out", "exit_code": None}),
        ({"State": "COMPLETED"}, {"outcome": "succeeded", "exit_code": 0}),
        ({"State": "OUT_OF_MEMORY"}, {"outcome": "out_of_memory"}),
        ({"State": "BRAND_NEW"}, {"status": None, "outcome": None, "native_state": "BRAND_NEW"}),
        ({"StartTime": "N/A", "EndTime": "Unknown"}, {"started_at": None}),
        ({"State": "CANCELLED", "NodeList": ""}, {"started_at": None, "outcome": "cancelled"}),
        ({"State": "CANCELLED"}, {"started_at": 200, "outcome": "cancelled"}),
    ],
    ids=range(16),
)
def test_states_and_what_goes_with_them(changes: dict[str, str], expected: dict[str, object]) -> None:
    """Each state of Slurm has a status. An unknown state has the status null, and is still reported."""
    ((_, _, job),) = parse_queue(row(**changes), D)
    assert {name: getattr(job, name) for name in expected} == expected


def test_what_an_id_is_a_part_of() -> None:
    adapter = SlurmAdapter("c", {"adapter": "slurm"})
    assert [adapter.array_id(job_id) for job_id in ("7", "7_3", "7+1")] == ["7"] * 3


def test_a_job_that_is_requeued_at_once_is_queued() -> None:
    """Slurm 25.11 and later."""
    assert STATUS["EXPEDITING"] == STATUS["REQUEUED"] == (QUEUED, None)


def test_every_status_is_the_contracts() -> None:
    assert {status for status, _ in STATUS.values()} == {QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, COMPLETED}
    assert all((status == COMPLETED) == (outcome is not None) for status, outcome in STATUS.values())


@given(st.lists(st.text(st.characters(exclude_characters="\x1f")), min_size=1, max_size=4))
def test_any_name_hides_no_job(names: list[str]) -> None:
    """A name with newlines, quotes or whole rows stays a name, because nobody can guess the delimiter."""
    text = "".join(row(JobArrayID=str(n), Name=name) for n, name in enumerate(names))
    parsed = parse_queue(text, D)
    assert [(job.id, job.name) for _, _, job in parsed] == [(str(n), name) for n, name in enumerate(names)]


@given(st.text())
def test_any_text_is_no_crash(text: str) -> None:
    """Half a line, garbage or nothing is not a job, and raises nothing."""
    parse_queue(text, D)
    parse_jobs(text, D)
    SlurmAdapter("owens", {"adapter": "slurm"}).failure(Output(1, "", text))


def test_a_cut_off_row_is_no_row() -> None:
    assert len(parse_queue(row() + row()[:40], D)) == 1


def test_headings_of_other_clusters_are_passed_over() -> None:
    """squeue -M prints "CLUSTER: name" before its rows."""
    assert [job.id for _, _, job in parse_queue(f"CLUSTER: owens\n{row()}{row(JobArrayID='8_1')}", D)] == ["7", "8_1"]


def test_history() -> None:
    text = "".join(
        D.join([job_id, state, code, "1001", "alice", "physics", "batch", "100", start, end, "50", "60", nodes, name])
        + D
        + "\n"
        for job_id, state, code, start, end, nodes, name in (
            ("5", "CANCELLED by 1001", "0:15", "300", "300", "None assigned", "a\nb"),
            ("6_1", "FAILED", "3:0", "200", "300", "n1", "c"),
            ("9", "TIMEOUT", "0:0", "200", "300", "n1", "d"),
            ("10", "RUNNING", "0:0", "200", "Unknown", "n1", "e"),
        )
    )
    jobs = [job for _, job in parse_jobs(text, D)]
    assert [(j.id, j.status, j.outcome, j.exit_code, j.native_state) for j in jobs] == [
        ("5", COMPLETED, "cancelled", None, "CANCELLED"), ("6_1", COMPLETED, "failed", 3, "FAILED"),
        ("9", COMPLETED, "timed_out", None, "TIMEOUT"), ("10", RUNNING, None, None, "RUNNING"),
    ]  # fmt: skip
    assert (jobs[0].name, jobs[0].started_at, jobs[0].wallclock_limit) == ("a\nb", None, 3600)


def test_an_array_is_all_of_its_tasks() -> None:
    tasks = [Job(id=f"5_{n}", status=status, outcome=outcome, exit_code=code, native_state=str(status))
             for n, (status, outcome, code) in enumerate([(COMPLETED, "succeeded", 0), (COMPLETED, "failed", 4)])]  # fmt: skip
    assert (merge_tasks("5", tasks).id, merge_tasks("5", tasks).outcome, merge_tasks("5", tasks).exit_code) == (
        "5",
        "failed",
        4,
    )
    waiting = [*tasks, Job(id="5_2", status=QUEUED)]
    assert (merge_tasks("5", waiting).status, merge_tasks("5", waiting).outcome) == (QUEUED, None)
    assert merge_tasks("5", [*waiting, Job(id="5_3", status=RUNNING)]).status == RUNNING


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("slurm_load_jobs error: Invalid job id specified", JobNotFound),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", SchedulerUnavailable),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", SchedulerUnavailable),
        (
            "squeue: error: resolve_ctls_from_dns_srv\nsqueue: fatal: Could not establish a configuration source",
            SchedulerUnavailable,
        ),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", Rejected),
        ("", Rejected),
    ],
    ids=range(6),
)
def test_what_a_failure_means(said: str, kind: type[Exception]) -> None:
    adapter = SlurmAdapter("owens", {"adapter": "slurm"})
    error = adapter.failure(Output(1, "", said))
    assert isinstance(error, kind)
    assert "error:" not in error.message or kind is not Rejected


def test_ids_are_checked_before_they_are_words() -> None:
    argv = jobs_command(D, job_id="7_1") + sacct_jobs_command(D, "7_1")
    assert "--jobs=7_1" in argv
    assert not any(part.startswith("-") and "7_1" in part and "=" not in part for part in argv)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1-02:03:04", 93_784), ("02:03:04", 7384), ("03:04", 184), ("0:00", 0), ("365-00:00:00", 31_536_000), ("00:01.5", 1),
     ("UNLIMITED", None), ("Partition_Limit", None), ("INVALID", None), ("", None), ("N/A", None)],
)  # fmt: skip
def test_durations(text: str, seconds: int | None) -> None:
    assert duration(text) == seconds


def test_numbers_and_words() -> None:
    assert [number(text) for text in ("12", " 12 ", "Unknown", "-1", "1.5", "", "١٢", "9" * 30)] == [12, 12] + [
        None
    ] * 6
    assert [word(text) for text in ("x", "(null)", "None", "", "N/A")] == ["x", None, None, None, None]


@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\x1f\n")), min_size=3, max_size=3)))
def test_rows_read_back_as_they_were_written(rows: list[list[str]]) -> None:
    assert records("".join(D.join(r) + D + "\n" for r in rows), D, 3) == rows


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x1f\n")), max_size=30), st.integers(1, 9))
def test_rows_are_the_same_in_pieces(names: list[str], size: int) -> None:
    """However the pieces are cut: within a delimiter, or within a character."""
    text = "".join(row(JobArrayID=str(n), Name=name) for n, name in enumerate(names))
    data = text.encode()
    stream = RecordStream(D, len(squeue.COLUMNS))
    found = [one for start in range(0, len(data), size) for one in stream.feed(data[start : start + size])]
    assert found == records(text, D, len(squeue.COLUMNS))


def test_a_page_is_the_latest_before_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows come in any order. They are sorted by the numbers of jobs and tasks, and only the page is kept."""
    monkeypatch.setattr("pun_app.adapters.slurm.adapter.new_delimiter", lambda: D)
    adapter = SlurmAdapter("owens", {"adapter": "slurm"})
    given = ["9", "100_2", "100_10", "20", "100_1", "3"]

    def run(argv: object, *, take: Any) -> Output:
        for job_id in given:
            take(row(JobArrayID=job_id).encode())
        return Output(0, "", "")

    monkeypatch.setattr(adapter, "run", run)
    assert [job.id for job in adapter.page(4, None)] == ["100_10", "100_2", "100_1", "20"]
    assert [job.id for job in adapter.page(4, "100_2")] == ["100_1", "20", "9", "3"]
    assert adapter.page(2, "3") == []


def past_row(**changes: str) -> str:
    fields = {
        "JobID": "7", "State": "COMPLETED", "ExitCode": "0:0", "UID": "1001", "User": "alice", "Account": "a", "Partition": "batch",
        "Submit": "100", "Start": "200", "End": "300", "ElapsedRaw": "100", "TimelimitRaw": "1", "NodeList": "n1", "JobName": "n", **changes,
    }  # fmt: skip
    return "".join(f"{fields[name]}{D}" for name in sacct.COLUMNS) + "\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Output], tuple[SlurmAdapter, list[str]]]:
    """An adapter whose squeue prints rows and whose sacct answers, and the programs that it runs."""

    def make(queue: str, past: Output) -> tuple[SlurmAdapter, list[str]]:
        monkeypatch.setattr("pun_app.adapters.slurm.adapter.new_delimiter", lambda: D)
        adapter = SlurmAdapter("owens", {"adapter": "slurm"})
        adapter.uid = 1001
        ran: list[str] = []

        def run(argv: list[str], *, take: Any = None, **_: Any) -> Output:
            ran.append(argv[0])
            if argv[0] == "sacct":
                return past
            take(queue.encode())
            return Output(0, "", "")

        monkeypatch.setattr(adapter, "run", run)
        return adapter, ran

    return make


ENDED_TASK = row(JobArrayID="7_1", State="COMPLETED")
EARLIER = past_row(JobID="7_1") + past_row(JobID="7_2", State="FAILED", ExitCode="3:0")


def test_a_task_that_slurm_has_forgotten_still_counts(asked: Any) -> None:
    """The queue may have only the last task of an array. The array failed if an earlier task did."""
    adapter, _ = asked(ENDED_TASK, Output(0, EARLIER, ""))
    assert (adapter.job("7").outcome, adapter.job("7").exit_code) == ("failed", 3)
    assert adapter.job("7_1").outcome == "succeeded"
    # Among several jobs: left open by the list, and then told by accounting.
    assert adapter.select(adapter.jobs(), ["7"])["7"].outcome is None
    assert adapter.select(adapter.jobs(), ["7_1"])["7_1"].outcome == "succeeded"
    assert CachedScheduler(adapter).jobs_by_id(["7", "8"])[0]["7"].outcome == "failed"


def test_accounting_is_not_asked_about_what_the_queue_tells(asked: Any) -> None:
    for rows in (row(), row(State="COMPLETED"), row(JobArrayID="7_1") + row(JobArrayID="7_2", State="FAILED")):
        adapter, ran = asked(rows, Output(0, "", ""))
        adapter.job("7")
        assert ran == ["squeue"]


def test_a_cluster_without_accounting_knows_no_more_than_its_queue(asked: Any) -> None:
    disabled = Output(1, "", "Slurm accounting storage is disabled\n")
    adapter, _ = asked(ENDED_TASK, disabled)
    assert adapter.job("7").outcome == "succeeded"
    with pytest.raises(JobNotFound):
        asked("", disabled)[0].job("8")
    with pytest.raises(SchedulerUnavailable):
        asked("", Output(1, "", "Unable to contact slurmdbd"))[0].job("8")
