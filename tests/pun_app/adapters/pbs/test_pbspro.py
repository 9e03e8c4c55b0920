"""pun_app/adapters/pbs/pbspro.py against what a real OpenPBS 23.06 said, and the options that its commands have."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import (
    CommandNotRun,
    CommandTimedOut,
    JobNotFound,
    NotSent,
    Rejected,
    SchedulerUnavailable,
    Unsupported,
)
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job, JobRequest, Period
from pun_app.adapters.pbs.pbspro import PbsProAdapter, submit_command
from pun_app.adapters.pbs.pbspro_parse import Jobs, job_of, read
from tests.pun_app.adapters.recordings import Recordings, answers, follows

SAID = Recordings("openpbs")
PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp")
FULL = replace(
    PLAIN, job_name="n", queue_name="workq", accounting_id="a", wall_time=90, output_path="/o", error_path="/e", array="1-9",
    after=("1.vm",), afterok=("2.vm", "3.vm"), afternotok=("4[].vm",), afterany=("5",), nodes=2, cores=5, memory=100, gpus=1,
    environment={"A": "1", "B": ""}, hold=True, email="a@example.org",
)  # fmt: skip


@pytest.fixture
def adapter() -> PbsProAdapter:
    adapter = PbsProAdapter("c", {"adapter": "pbspro"})
    adapter.user = "pbsa"
    return adapter


@pytest.mark.parametrize("name", [n for n in SAID if '"Jobs"' in SAID[n]["stdout"] and "json" in SAID[n]["argv"]])
def test_every_recorded_list_of_jobs_is_read(name: str) -> None:
    """Whatever is in the jobs' environments: other scripts' digits, JSON, bytes that are no UTF-8."""
    jobs = read(SAID.output(name).out, Jobs).jobs
    assert jobs
    for job_id, answer in jobs.items():
        job = job_of(job_id, answer)
        assert PbsProAdapter.job_id.fullmatch(job.id)
        assert job.status is not None
        assert job.owner in ("pbsa", "pbsb", "hpca", "hpcb")
        assert job.submitted_at is not None
        assert (job.outcome is None) == (job.status != COMPLETED)


@pytest.mark.parametrize(
    ("name", "job_id", "status", "outcome", "exit_code"),
    [
        ("qstat-json-full", "1.vm", RUNNING, None, None),
        ("qstat-json-held", "4.vm", QUEUED_HELD, None, None),
        ("qstat-json-dep", "5.vm", QUEUED, None, None),
        ("qstat-json-wait", "10.vm", QUEUED, None, None),
        ("qstat-json-suspended", "48.vm", SUSPENDED, None, None),
        ("qstat-json-arr", "7[].vm", RUNNING, None, None),
        ("qstat-json-array-t", "7[1].vm", COMPLETED, "succeeded", 0),
        ("qstat-json-x-full-finished", "1.vm", COMPLETED, "succeeded", 0),
        ("qstat-json-x-all", "2.vm", COMPLETED, "failed", 3),
        ("qstat-json-x-sigkill", "1000.vm", COMPLETED, "failed", 137),
        ("qstat-json-x-exit255", "1005.vm", COMPLETED, "failed", 255),
        ("qstat-json-x-walltime-2s", "1008.vm", COMPLETED, "timed_out", None),
        ("qstat-json-deleted-by-manager-x", "49.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-traps-term", "51.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-forcedeleted-50", "50.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-bad-depend-31", "31.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-array-deleted", "1010[].vm", COMPLETED, "cancelled", None),
        ("qstat-json-held-array-t", "289[].vm", QUEUED_HELD, None, None),
        ("qstat-json-held-array-t", "289[1].vm", COMPLETED, "cancelled", None),
        ("qstat-json-held-array-t", "289[2].vm", QUEUED_HELD, None, None),
    ],
)
def test_states(name: str, job_id: str, status: str, outcome: str | None, exit_code: int | None) -> None:
    """Among them: substate 92 with no exit status, which is no success."""
    job = job_of(job_id, read(SAID.output(name).out, Jobs).jobs[job_id])
    assert (job.status, job.outcome, job.exit_code) == (status, outcome, exit_code)


def test_a_task_is_held_as_its_array_is() -> None:
    """It is Q, with the array's holds. The system's, beside a dependency, is nobody's; nobody can release it."""

    def task(**more: str) -> Job:
        answer = {"Job_Owner": "a@b", "job_state": "Q", "substate": 10, **more}
        return job_of("1[2].vm", read(json.dumps({"Jobs": {"1[2].vm": answer}}), Jobs).jobs["1[2].vm"])

    dependency = {"depend": "afterok:1.vm@vm"}
    assert [task(Hold_Types=holds).status for holds in ("u", "o", "s", "n", "")] == [*[QUEUED_HELD] * 3, QUEUED, QUEUED]
    assert [task(Hold_Types=holds, **dependency).status for holds in ("s", "us", "n")] == [QUEUED, QUEUED_HELD, QUEUED]


@pytest.mark.parametrize(
    ("name", "job_id", "status", "outcome"),
    [
        ("qstat-json-x-held-array-ended-t", "391[2].vm", COMPLETED, "cancelled"),
        ("qstat-json-begun-array-t", "392[2].vm", QUEUED, None),
        ("qstat-json-begun-array-t", "392[3].vm", COMPLETED, "cancelled"),
    ],
)
def test_a_task_that_never_ran_has_nothing_of_its_arrays(
    name: str, job_id: str, status: str, outcome: str | None
) -> None:
    """PBS tells the array's start, end and exit status of it: that of a success, where the other tasks succeed."""
    answer = read(SAID.output(name).out, Jobs).jobs[job_id]
    assert answer.started
    job = job_of(job_id, answer)
    assert (job.status, job.outcome, job.exit_code, job.started_at, job.ended_at) == (status, outcome, None, None, None)
    assert job.submitted_at is not None


def test_a_sibling_that_was_deleted_is_no_reason() -> None:
    jobs = read(SAID.output("qstat-json-held-array-t").out, Jobs).jobs
    assert {answer.comment for answer in jobs.values()} == {"Subjob finished"}
    assert {job_id: job_of(job_id, answer).native_reason for job_id, answer in jobs.items()} == {
        "289[].vm": None, "289[1].vm": "Subjob finished", "289[2].vm": None,
    }  # fmt: skip


def test_one_task_is_neither_held_nor_released(adapter: PbsProAdapter) -> None:
    """PBS says "Invalid request"; the answer says what to do, and no command is run for it."""
    assert SAID.output("qrls-subjob").code == 156
    said = json.loads(SAID.output("qstat-json-held-array-t").out)
    task = Output(0, json.dumps({"Jobs": {"289[2].vm": said["Jobs"]["289[2].vm"]}}), "")
    for change in (adapter.hold, adapter.release):
        ran = answers(adapter, task)
        with pytest.raises(Rejected, match=re.escape("ask for 289[].vm")):
            change("289[2]")
        assert len(ran) == 1
    ran = answers(adapter, task, Output(0, "", ""))
    adapter.cancel("289[2]")
    assert ran[1] == ["qdel", "289[2].vm"]


def test_a_change_that_was_cut_off_claims_nothing(adapter: PbsProAdapter) -> None:
    """A qdel of 10,000 held tasks took 57 s. The server goes on with it when qdel is ended."""
    job = job_of("1.vm", read('{"Jobs": {"1.vm": {"Job_Owner": "a@b", "job_state": "H"}}}', Jobs).jobs["1.vm"])

    def fails(error: Exception) -> None:
        def run(*_: object, **__: object) -> Output:
            raise error

        adapter.run = run  # type: ignore[method-assign]

    for command, done in (
        (adapter.cancel_command, "cancelled"),
        (adapter.hold_command, "held"),
        (adapter.release_command, "released"),
    ):
        fails(CommandTimedOut(command[0], 25))
        with pytest.raises(
            SchedulerUnavailable, match=f"is not known whether job 1.vm was {done}, or will be: look at its status"
        ):
            adapter.run_change(command, job)
    fails(CommandNotRun("No time is left to run qdel"))
    with pytest.raises(CommandNotRun) as caught:
        adapter.run_change(adapter.cancel_command, job)
    assert "not known" not in caught.value.message
    answers(adapter, Output(1, "", "qdel: End of File\n"))
    with pytest.raises(SchedulerUnavailable, match="not known whether job 1.vm was cancelled"):
        adapter.run_change(adapter.cancel_command, job)


def test_a_job_as_a_whole() -> None:
    job = job_of("1.vm", read(SAID.output("qstat-json-x-full-finished").out, Jobs).jobs["1.vm"])
    assert (job.name, job.owner, job.queue, job.account) == ("demo-job", "pbsa", "workq", "proj123")
    # Sun Nov 22 19:07:38 2026 and 19:08:24, in UTC.
    assert (job.submitted_at, job.started_at, job.ended_at) == (1795374458, 1795374458, 1795374504)
    assert (job.wallclock_time, job.wallclock_limit) == (45, 300)


def test_a_job_that_can_never_start_says_so() -> None:
    """By the scheduler's comment, while the job is queued; and no other comment means it."""
    said = "Can Never Run: Insufficient amount of resource: ncpus (R: 6336 A: 4 T: 4)"

    def job(**more: object) -> Job:
        text = json.dumps({"Jobs": {"1.vm": {"Job_Owner": "a@b", "job_state": "Q", **more}}})
        return job_of("1.vm", read(text, Jobs).jobs["1.vm"])

    assert (job(comment=said).can_start, job(comment=said).reason) == (False, said)
    for other in (
        {},
        {"comment": "Not Running: Insufficient amount of resource: ncpus"},
        {"comment": said, "job_state": "F"},
    ):
        assert (job(**other).can_start, job(**other).reason) == (None, None)


def test_a_state_that_is_not_known_is_null() -> None:
    answer = read('{"Jobs": {"1.vm": {"Job_Owner": "a@b", "job_state": "~"}}}', Jobs).jobs["1.vm"]
    job = job_of("1.vm", answer)
    assert (job.status, job.native_state, job.outcome) == (None, "~", None)


@pytest.mark.parametrize("cut", [0, 1, 50, 400, -3])
def test_half_an_answer_is_none(cut: int) -> None:
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        read(SAID.output("qstat-json-full").out[:cut], Jobs)


@pytest.mark.parametrize("name", [n for p in ("qsub", "qdel", "qhold", "qrls", "qselect") for n in SAID.of(p)])
def test_every_recorded_failure_means_something(adapter: PbsProAdapter, name: str) -> None:
    """By its status and words; a usage is no message."""
    output = SAID.output(name)
    if output.code == 0 or "-W-block" in name:
        return
    error = adapter.failure(output)
    kind = {153: JobNotFound, 162: NotSent, 255: NotSent}.get(output.code, Rejected)
    assert type(error) is kind, error.message
    assert error.message
    assert "usage" not in error.message
    assert not error.message.startswith(("qsub:", "qdel:", "qhold:", "qrls:"))


@pytest.mark.parametrize("name", SAID.of("qsub"))
def test_every_recorded_submit_has_its_id(adapter: PbsProAdapter, name: str) -> None:
    """Also one that waited for its job (-W block=true), and so ends as the job did."""
    output = SAID.output(name)
    submitted = bool(re.fullmatch(r"\d+(\[\])?\.vm\n", output.out))
    assert (adapter.parse_job_id(output) == output.out.strip()) is submitted
    assert submitted or output.code or name == "qsub-z-quiet"


def test_a_job_that_is_not_there(adapter: PbsProAdapter) -> None:
    """Unknown, another user's, or hidden (query_other_jobs is off): all the same."""
    for name in ("qstat-json-unknown", "qstat-json-other-users-job", "qstat-json-other-hidden"):
        answers(adapter, SAID.output(name))
        with pytest.raises(JobNotFound):
            adapter.job("13.vm")


def test_a_server_that_is_down_is_not_a_queue_without_jobs(adapter: PbsProAdapter) -> None:
    """Its answer has the form of an empty list, and the server's name; its status says what it is."""
    for name in ("one/qstat-server-down", "wrong-port-qstat", "no-conf-qstat"):
        answers(adapter, SAID.output(name))
        with pytest.raises(SchedulerUnavailable):
            adapter.job("1.vm")
    answers(adapter, SAID.output("server-down-qselect"))
    with pytest.raises(SchedulerUnavailable):
        adapter.jobs()


def test_a_list_is_of_ids_and_one_question(adapter: PbsProAdapter) -> None:
    """Never without ids, which lists everybody's jobs, and never of an empty word, which does too."""
    ran = answers(adapter, SAID.output("qselect-u"), Output(0, "", ""), SAID.output("qstat-json-x-all"))
    assert len(adapter.jobs()) > 5
    assert ran[0] == ["qselect", "-u", "pbsa"]
    assert ran[2][:6] == ["qstat", "-x", "-E", "-f", "-F", "json"]
    assert ran[2][6:] == SAID.output("qselect-u").out.split()
    ran = answers(adapter, Output(0, "", ""), Output(0, "", ""))
    assert adapter.jobs() == []
    assert len(ran) == 2


def test_a_server_without_history_says_so(adapter: PbsProAdapter) -> None:
    off = Output(0, "", "qselect: PBS is not configured to maintain job history\n")
    answers(adapter, off)
    with pytest.raises(Unsupported, match="job_history_enable"):
        adapter.history(Period(0, 1))
    ran = answers(adapter, SAID.output("qstat-json-x-history-off"), SAID.output("qstat-json-full"))
    assert adapter.job("1.vm").status == RUNNING
    assert "-x" not in ran[1]


def test_what_past_jobs_used(adapter: PbsProAdapter) -> None:
    answers(adapter, Output(0, "1.vm", ""), SAID.output("qstat-json-x-full-finished"))
    (past,) = adapter.history(Period(0, 2_000_000_000))
    assert (past.cpus, past.cpu_time, past.memory_used, past.memory_requested) == (1, 0, 7016 * 1024, 100 * 1024**2)


def test_queues(adapter: PbsProAdapter) -> None:
    """With state, limits and the default; without one whose list of users leaves this one out."""
    answers(adapter, SAID.output("one/qstat-B-f-json"), SAID.output("qstat-Q-json"))
    queues = {queue.name: queue for queue in adapter.queues()}
    assert {name: queue.state for name, queue in queues.items()} == {
        "workq": "up", "debug": "up", "closed": "draining", "frozen": "down",
    }  # fmt: skip
    assert [name for name, queue in queues.items() if queue.default] == ["workq"]
    assert (queues["debug"].time_limit, queues["debug"].default_time_limit) == (3600, 600)


def test_how_much_is_in_use(adapter: PbsProAdapter) -> None:
    answers(adapter, SAID.output("pbsnodes-json"))
    info = adapter.info()
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 1, 4, 4)


def test_a_submit_has_options_that_qsub_has() -> None:
    """Each is in the usage that the real qsub printed, with a value where that says so."""
    argv = submit_command(FULL)
    follows(argv, SAID.output("qsub-bad-option").err)
    assert {"-f", "-N", "-q", "-A", "-l", "-o", "-e", "-J", "-W", "-h", "-M", "-m", "-v"} <= set(argv)


def test_what_a_submit_asks_for() -> None:
    text = " ".join(submit_command(FULL))
    for part in (
        "-l walltime=90", "-l select=1:ncpus=3:mem=100mb:ngpus=1+1:ncpus=2:mem=100mb:ngpus=1 -l place=scatter", "-J 1-9",
        "-W depend=after:1.vm,afterok:2.vm:3.vm,afternotok:4[].vm,afterany:5", "-M a@example.org -m ae", "-v A,B",
    ):  # fmt: skip
        assert part in text
    assert " -j " not in text
    assert submit_command(PLAIN) == ["qsub", "-f", "-j", "oe"]
    # Of two files in one path the second would replace the first.
    for error in ("/o", "/x/../o"):
        one = submit_command(
            replace(PLAIN, output_path="/o", error_path=error, content="#!/bin/sh\n#PBS -e /x\ntrue\n")
        )
        assert one == ["qsub", "-f", "-o", "/o", "-j", "oe"]
    assert "-j" not in submit_command(replace(PLAIN, content="#!/bin/sh\n#PBS -l ncpus=1 -e /x\ntrue\n"))


def test_every_option_is_in_a_submit_or_refused(adapter: PbsProAdapter) -> None:
    for name in OPTIONS:
        value = {"reservation": "R1.vm", "qos": "high", "native": ("-p", "5")}.get(name, getattr(FULL, name))
        request = replace(PLAIN, **{name: value})
        if name in adapter.options:
            assert submit_command(request) != submit_command(PLAIN), name
        else:
            with pytest.raises(Rejected, match=f"options.{name}"):
                adapter.submit(request)


@pytest.mark.parametrize(
    ("given", "argument"),
    [("0-9", "0-9"), ("1-9:2", "1-9:2"), ("1-100%10", "1-100%10"), ("5", "5-6:2"), ("7-7", "7-8:2")],
)
def test_arrays(given: str, argument: str) -> None:
    assert argument in submit_command(replace(PLAIN, array=given))


@pytest.mark.parametrize(
    "wrong", [{"array": "1,3"}, {"nodes": 3, "cores": 2}, {"reservation": "R1", "queue_name": "workq"}], ids=range(3)
)
def test_what_pbs_cannot_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Rejected):
        submit_command(replace(PLAIN, **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["MAIL", "PWD", "PBS_DEFAULT", "LD_PRELOAD", "PATH"])
def test_a_variable_that_is_qsubs_own_is_refused(adapter: PbsProAdapter, name: str) -> None:
    """Neither dropped nor let steer the command."""
    with pytest.raises(Rejected, match=f"options.environment: {name}"):
        adapter.submit(replace(PLAIN, environment={name: "x"}))


@pytest.mark.parametrize("value", ['a"b', "a\\b", "it's"])
def test_a_value_that_qsub_would_change_is_refused(adapter: PbsProAdapter, value: str) -> None:
    """Seen with 23.06: quotes are lost, and backslashes doubled."""
    with pytest.raises(Rejected, match="options.environment"):
        adapter.submit(replace(PLAIN, environment={"A": value}))


@pytest.mark.parametrize(
    ("job_id", "good"),
    [("0", True), ("12.vm", True), ("4[].vm", True), ("4[1].vm", True), ("7[]", True), ("workq", False), ("", False),
     ("-5", False), ("12;rm", False), ("7[1-2].vm", False), ("1.vm@other", False), ("12.vm ", False), ("../1.vm", False)],
)  # fmt: skip
def test_what_is_an_id(job_id: str, good: bool) -> None:
    """qstat takes any other word for a queue, and lists that queue's jobs."""
    assert bool(PbsProAdapter.job_id.fullmatch(job_id)) is good
