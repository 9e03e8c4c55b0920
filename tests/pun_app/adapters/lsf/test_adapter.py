"""pun_app/adapters/lsf/adapter.py against recorded output of volclava 2.2.

states.py is tested here, in test_bjobs.py and in test_long_format.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable, Unanswered
from pun_app.adapters.lsf.adapter import LsfAdapter
from pun_app.adapters.lsf.bhist import past_job
from pun_app.adapters.lsf.bjobs import FIELDS, parse_json
from pun_app.adapters.lsf.bsub import submit_command
from pun_app.adapters.lsf.long_format import parse_long_format
from pun_app.adapters.model import OPTIONS, QUEUED, RUNNING, Period
from tests.pun_app.adapters.lsf.common import FULL, NOW, PLAIN, RECORDED, UNITS_PER_MIB
from tests.pun_app.adapters.recordings import answers

NO_JSON = Output(255, "", "bjobs: illegal option -- json\nUsage: bjobs")


def unknown_field(name: str) -> Output:
    """Return the output of a bjobs that does not know one of the fields."""
    return Output(99, "", f"<{name}> in the format string is not a valid field name.\n")


def test_unknown_fields_are_left_out(adapter: LsfAdapter) -> None:
    """bjobs names one unknown field at a time. The adapter asks without it, then and in later lists."""
    refusals = [unknown_field(name) for name in ("JOBINDEX", "EXIT_CODE")]
    ran = answers(adapter, *refusals, RECORDED.output("bjobs-o-json-known"), RECORDED.output("bjobs-l-e127"))
    adapter.jobs()
    asked = [argv[argv.index("-o") + 1].split() for argv in ran[:3]]
    assert asked[0] == list(FIELDS)
    assert set(asked[0]) - set(asked[2]) == {"jobindex", "exit_code"}
    ran = answers(adapter, RECORDED.output("bjobs-o-json-known"), RECORDED.output("bjobs-l-e127"))
    adapter.jobs()
    assert ran[0][ran[0].index("-o") + 1].split() == asked[2]


def test_bjobs_without_json_prints_the_wide_table(adapter: LsfAdapter) -> None:
    """The adapter asks for the wide table if bjobs refuses -json."""
    ran = answers(
        adapter,
        NO_JSON,
        RECORDED.output("bjobs-W-a-final"),
        Output(0, "", ""),
    )
    assert len(adapter.jobs()) > 15
    assert ran[1][:3] == ["bjobs", "-w", "-W"]


@pytest.mark.parametrize(
    "name", ["bjobs-unknown", "bjobs-empty", "bjobs-array-elem-outside", "bjobs-o-json-none", "bjobs-o-json-unknown"]
)
def test_an_unknown_job_is_not_found(adapter: LsfAdapter, name: str) -> None:
    """A job is not found if neither bjobs nor bhist prints it."""
    answers(adapter, RECORDED.output(name), RECORDED.output("bhist-unknown"))
    with pytest.raises(JobNotFound):
        adapter.job("99999")


def test_lsf_that_is_down_is_unavailable(adapter: LsfAdapter) -> None:
    """While LSF is down, bjobs prints the JSON of an empty list and fails, as for a user without jobs. Only stderr differs."""
    down = RECORDED.output("lim-down-bjobs-o-json")
    assert down.out.split() == RECORDED.output("bjobs-o-json-none").out.split()
    for ask in (adapter.jobs, lambda: adapter.job("1")):
        answers(adapter, down)
        with pytest.raises(SchedulerUnavailable, match="LIM is down"):
            ask()
    answers(adapter, RECORDED.output("bjobs-o-json-none"))
    assert adapter.jobs() == []
    others: list[tuple[Callable[[], object], str]] = [
        (lambda: adapter.history(Period(0, NOW)), "lim-down-bhist"), (lambda: adapter.look_up(["1"]), "lim-down-bhist"),
        (adapter.queues, "lim-down-bparams"), (adapter.info, "lim-down-bparams"), (lambda: adapter.output("1"), "lim-down-bjobs-W"),
    ]  # fmt: skip
    for other, name in others:
        answers(adapter, RECORDED.output(name))
        with pytest.raises(SchedulerUnavailable, match="LIM is down"):
            other()
    answers(adapter, NO_JSON, RECORDED.output("bjobs-W-a-final"), Output(0, "", ""))
    adapter.jobs()
    rows = RECORDED.output("bjobs-W-a-final").out
    for output in (RECORDED.output("lim-down-bjobs-W"), Output(255, rows, RECORDED.output("lim-down-bjobs-W").err)):
        answers(adapter, output)
        with pytest.raises(SchedulerUnavailable, match="LIM is down"):
            adapter.jobs()


def task_list(number: int, **states: str) -> Output:
    """Return a list of an array's task_list: ``t1="RUN"``."""
    listed = [
        {"JOBID": str(number), "JOB_NAME": f"a[{name[1:]}]", "STAT": stat, "USER": "pbsa"}
        for name, stat in states.items()
    ]
    return Output(0, json.dumps({"RECORDS": listed}), "")


def test_an_array_is_cancelled_task_by_task(adapter: LsfAdapter) -> None:
    """Queued tasks go first. bhist does not tell who killed a running array that was killed as a whole."""
    whole = {
        past_job(record).job.outcome
        for record in parse_long_format(RECORDED.output("bhist-l-running-array-killed").out)
    }
    by_task = {
        past_job(record).job.outcome
        for record in parse_long_format(RECORDED.output("bhist-l-running-tasks-killed").out)
    }
    assert (whole, by_task) == ({"failed"}, {"cancelled"})
    listed = task_list(7, t3="RUN", t1="RUN", t2="USUSP", t6="PEND", t4="DONE", t5="PSUSP", t9="PEND")
    for output in (RECORDED.output("bkill-running-tasks"), RECORDED.output("bkill-tasks-some-ended")):
        ran = answers(adapter, listed, listed, output)
        adapter.cancel("7")
        assert ran[-1] == ["bkill", "7[5-6]", "7[9]", "7[1-3]"]
    # One task is cancelled alone.
    ran = answers(adapter, task_list(7, t3="RUN"), Output(0, "", ""), Output(0, "", ""))
    adapter.cancel("7[3]")
    assert ran[-1] == ["bkill", "7[3]"]


def test_a_large_array_is_cancelled_as_a_whole_after_its_running_tasks(adapter: LsfAdapter) -> None:
    """Above 1000 tasks, the running tasks are named and the queued ones are not."""
    listed = task_list(7, **{f"t{index}": "RUN" if index < 4 else "PEND" for index in range(1, 2000)})
    ran = answers(
        adapter, listed, listed, RECORDED.output("bkill-running-tasks"), RECORDED.output("bkill-running-array")
    )
    adapter.cancel("7")
    assert ran[2:] == [["bkill", "7[1-3]"], ["bkill", "7"]]


def test_a_cancel_fails_if_a_task_could_not_be_cancelled(adapter: LsfAdapter) -> None:
    """A cancel succeeds only if every task was cancelled or had ended, and at least one was cancelled."""
    ended = "Job <7[1]>: Job has already finished\n"
    for output, error in (
        (Output(255, "", ended), Rejected), (Output(255, "Job <7[2]> is being terminated\n", f"{ended}Job <7[3]>: User permission denied\n"), Rejected),
        (Output(255, "Job <7[2]> is being terminated\n", "Job <7[3]>: Failed in an LSF library call: Communication time out\n"), SchedulerUnavailable),
    ):  # fmt: skip
        answers(adapter, task_list(7, t1="RUN", t2="RUN"), task_list(7, t1="RUN", t2="RUN"), output)
        with pytest.raises(error):
            adapter.cancel("7")


def test_an_array_with_one_held_task_can_be_released(adapter: LsfAdapter) -> None:
    """An array's status is that of its most advanced tasks, so it may be running while tasks are held."""
    listed = task_list(7, t1="PSUSP", t2="RUN")
    ran = answers(adapter, listed, listed, Output(0, "", ""))
    assert adapter.release("7") == QUEUED
    assert ran[-1] == ["bresume", "7"]
    listed = task_list(7, t1="PEND", t2="RUN")
    ran = answers(adapter, listed, listed)
    assert adapter.release("7") == RUNNING
    assert not [argv for argv in ran if argv[0] == "bresume"]


def test_an_array_of_one_task_keeps_the_requested_id(adapter: LsfAdapter) -> None:
    """The array's id gives the array, and the task's id gives the task."""
    answers(adapter, task_list(105, t2="PEND"), Output(0, "", ""))
    job = adapter.job("105")
    assert (job.id, job.name) == ("105", "a")
    answers(adapter, task_list(105, t2="PEND"), Output(0, "", ""))
    assert adapter.job("105[2]").id == "105[2]"
    listed = parse_json(task_list(105, t2="PEND").out)
    assert {name: job.id for name, job in adapter.select(listed, ["105", "105[2]"]).items()} == {
        "105": "105", "105[2]": "105[2]",
    }  # fmt: skip


def test_the_outcome_of_a_submit_to_a_hung_daemon_is_unknown(
    adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bsub says that the job was not submitted, but the daemon may take it when it resumes."""
    monkeypatch.setattr(adapter, "run_submit", lambda *_: RECORDED.output("mbatchd-hangs-bsub"))
    monkeypatch.setattr(adapter, "find_submitted", lambda *_: None)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(SchedulerUnavailable) as caught:
        adapter.submit(PLAIN)
    message = caught.value.message
    assert message.startswith(
        "LSF does not answer: Failed in an LSF library call: Communication time out. It is not known whether the job"
    )
    assert "not submitted" not in message and ".." not in message


def test_another_users_job_is_not_found(adapter: LsfAdapter) -> None:
    """A job of another user is not found, though bjobs lists it."""
    adapter.user = "pbsb"
    answers(adapter, RECORDED.output("bjobs-o-json-known"), RECORDED.output("bhist-l-full"))
    with pytest.raises(JobNotFound):
        adapter.job("2")


@pytest.mark.parametrize("name", [n for p in ("bsub", "bkill", "bstop", "bresume") for n in RECORDED.of(p)])
def test_every_recorded_failure_raises_the_right_error(adapter: LsfAdapter, name: str) -> None:
    """A submit that succeeded has a job id; a failed command has an error and a message without the usage."""
    output = RECORDED.output(name)
    if output.code == 0:
        if RECORDED[name]["argv"][0] == "bsub":
            assert re.fullmatch(r"\d+", adapter.parse_job_id(output) or "")
        return
    error = adapter.failure(output)
    gone = "No matching job found" in output.err or "Illegal job ID" in output.err or "not found" in output.err
    kind = Unanswered if "Communication time out" in output.err else JobNotFound if gone else Rejected
    assert type(error) is kind, error.message
    assert "Usage" not in error.message
    assert adapter.parse_job_id(output) is None


def test_an_unknown_dependency_is_refused(adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is Rejected and not JobNotFound, as the request is a submit."""
    monkeypatch.setattr(adapter, "run_submit", lambda *_: RECORDED.output("bsub-bad-depend"))
    with pytest.raises(Rejected, match="99999: No matching job found"):
        adapter.submit(replace(PLAIN, afterok=("99999",)))


def test_a_daemon_that_is_down_is_unavailable(adapter: LsfAdapter) -> None:
    """bsub prints this while mbatchd is down."""
    output = Output(255, "", "batch system daemon not responding ... still trying\n")
    assert isinstance(adapter.failure(output), SchedulerUnavailable)


@pytest.mark.parametrize(
    ("period", "asked"),
    [
        (Period(NOW - 60, NOW), "2026/11/23/19:09,2026/11/23/19:11"),
        (Period(-(10**10), 10**11), "1993/01/01/00:00,2026/11/24/19:10"),
        (Period(-(10**10), -(10**9)), "1993/01/01/00:00,1993/01/01/00:00"),
        (Period(10**10, 10**11), "2026/11/24/19:10,2026/11/24/19:10"),
    ],
)
def test_any_period_becomes_one_that_bhist_accepts(adapter: LsfAdapter, period: Period, asked: str) -> None:
    """bhist takes years from 1993 to 2038, and no end before the beginning. No job has ended after tomorrow."""
    ran = answers(adapter, RECORDED.output("bhist-unknown"))
    assert adapter.history(period) == []
    assert ran[0][ran[0].index("-C") + 1] == asked


def test_every_option_is_in_a_submit_or_refused(adapter: LsfAdapter) -> None:
    """No option of a submit is dropped."""
    plain = submit_command(PLAIN, UNITS_PER_MIB)
    for name in OPTIONS:
        request = replace(PLAIN, **{name: {"qos": "high", "native": ("-r",)}.get(name, getattr(FULL, name))})
        if name not in adapter.options:
            with pytest.raises(Rejected, match=f"options.{name}"):
                adapter.submit(request)
        elif name != "environment":
            assert submit_command(request, UNITS_PER_MIB) != plain, name


def long_format_of_ended_job(code: int, more: str = "", limit: str = "") -> str:
    """Return the long format of an ended job, as volclava prints it (bjobs-l-runlimit, bhist-l-runlimit)."""
    runlimit = f"\n RUNLIMIT\n {limit}\n" if limit else ""
    return (
        f"\nJob <40>, Job Name <x>, User <pbsa>, Project <default>, Status <EXIT>, Queue <short>, Command <x>\n"
        f"Sun Nov 22 19:26:59: Submitted from host <vm>, to Queue <short>, CWD <$HOME>, Output File </dev/null>;\n{runlimit}"
        f"Sun Nov 22 19:27:01: Started on <vm>, Execution Home </home/pbsa>;\n{more}"
        f"Sun Nov 22 19:28:02: Exited with exit code {code}. The CPU time used is 0.0 seconds.\n"
    )


KILLED_BY_USER = "Sun Nov 22 19:27:41: Signal <KILL> requested by user or administrator <pbsa>;\n"

QUEUE_FORMAT = (
    "QUEUE: short\n  -- x\n\nPRIO NICE STATUS\n 40 0 Open:Active\n\nMAXIMUM LIMITS:\n RUNLIMIT\n {limit} min of vm\n"
)


@pytest.mark.parametrize(
    ("code", "more", "limit", "queue_limit", "outcome", "exit_code"),
    [
        (130, "", "", "60.0", "failed", 130), (130, KILLED_BY_USER, "", "60.0", "cancelled", None), (137, KILLED_BY_USER, "", "60.0", "cancelled", None),
        (140, "", "60.0 min", "60.0", "failed", 140), (140, "", "1.0 min", "60.0", "timed_out", None), (140, "", "", "60.0", "failed", 140),
        (140, "", "", "1.0", "timed_out", None), (3, "", "", "60.0", "failed", 3),
    ],
    ids=["no signal", "killed, 130", "killed, 137", "below its limit", "at its limit", "below the queue's limit", "at the queue's limit", "plain"],
)  # fmt: skip
def test_an_exit_code_alone_does_not_mean_that_lsf_ended_the_job(
    adapter: LsfAdapter, code: int, more: str, limit: str, queue_limit: str, outcome: str, exit_code: int | None
) -> None:
    """A script may end with 130 or 140 by itself. Where LSF gives no reason, its history tells who ended the job."""
    listed = Output(0, json.dumps({"RECORDS": [{"JOBID": "40", "STAT": "EXIT", "USER": "pbsa"}]}), "")
    details = long_format_of_ended_job(code, limit=limit)
    unknown = [unknown_field(name) for name in ("EXIT_CODE", "EXIT_REASON")]
    queues = [Output(0, "Default Queues: normal\n", ""), Output(0, QUEUE_FORMAT.format(limit=queue_limit), "")]
    bhist = [Output(0, long_format_of_ended_job(code, more, limit), ""), *(queues if code == 140 and not limit else [])]
    for argv in (["40"], []):
        answers(adapter, *unknown, listed, Output(0, details, ""), *bhist)
        unknown = []
        job = adapter.job(argv[0]) if argv else adapter.jobs()[0]
        assert (job.outcome, job.exit_code) == (outcome, exit_code)


def test_no_history_is_read_where_bjobs_has_exit_reason(adapter: LsfAdapter) -> None:
    """A job without a reason ended by itself."""
    row = {"JOBID": "40", "STAT": "EXIT", "USER": "pbsa", "EXIT_CODE": "130", "EXIT_REASON": "-"}
    answers(adapter, Output(0, json.dumps({"RECORDS": [row]}), ""))
    assert [(job.outcome, job.exit_code) for job in adapter.jobs()] == [("failed", 130)]


def long_format_of_tagged_jobs(*numbers: int) -> str:
    """Return the long format of queued jobs with a submit tag."""
    return "".join(
        f"\nJob <{number}>, Job Name <x>, User <pbsa>, Project <default>, Job Description <tag>, Status <PEND>, Queue <short>, Command <x>\n"
        "Sun Nov 22 19:26:59: Submitted from host <vm>, CWD <$HOME>;\n"
        for number in numbers
    )


def list_of_one(number: int) -> Output:
    """Return a list of one queued job."""
    return Output(0, json.dumps({"RECORDS": [{"JOBID": str(number), "STAT": "PEND", "USER": "pbsa"}]}), "")


def test_one_job_is_kept_of_a_submit_that_made_several(adapter: LsfAdapter, caplog: pytest.LogCaptureFixture) -> None:
    """The first job is kept. The others are cancelled, and the job's reason and the log say so."""
    none = Output(0, "", "")
    others = [output for number in (10, 11) for output in (list_of_one(number), none, list_of_one(number), none)]
    ran = answers(adapter, Output(0, long_format_of_tagged_jobs(9, 11, 10), ""), *others)
    job = adapter.find_submitted("tag")
    assert job is not None and job.id == "9"
    assert [argv for argv in ran if argv[0] == "bkill"] == [["bkill", "10"], ["bkill", "11"]]
    assert job.reason == (
        "The scheduler took this submit more than once. Job 9 is kept: job 10 was cancelled; job 11 was cancelled"
    )
    assert "keeping job 9" in caplog.text


def test_a_duplicate_that_could_not_be_cancelled_is_named(adapter: LsfAdapter) -> None:
    """The user must cancel it."""
    down = Output(255, "", "batch system daemon not responding ... still trying\n")
    answers(
        adapter,
        Output(0, long_format_of_tagged_jobs(9, 10), ""),
        list_of_one(10),
        Output(0, "", ""),
        list_of_one(10),
        down,
    )
    job = adapter.find_submitted("tag")
    assert job is not None and job.reason is not None and "job 10 could not be cancelled" in job.reason


def test_a_submit_that_bsub_retried_is_looked_up(adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt may have made a job."""
    output = Output(
        0, "Job <11> is submitted to queue <short>.\n", "batch system daemon not responding ... still trying\n"
    )
    monkeypatch.setattr(adapter, "run_submit", lambda *_: output)
    none = Output(0, "", "")
    tagged = Output(0, long_format_of_tagged_jobs(10, 11).replace("<tag>", f"<{PLAIN.submit_tag}>"), "")
    answers(adapter, tagged, list_of_one(11), none, list_of_one(11), none)
    job = adapter.submit(PLAIN)
    assert job.id == "10" and job.reason is not None and "job 11 was cancelled" in job.reason


def test_bsub_does_not_retry(adapter: LsfAdapter) -> None:
    """LSB_NTRIES limits bsub to one attempt."""
    assert adapter.submit_commands.environment["LSB_NTRIES"] == "1"


def test_an_array_above_the_limit_of_lsf_is_refused(adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """volclava makes one plain job of such an array. If the limit cannot be read, nothing is submitted."""
    monkeypatch.setattr(type(adapter.submit_commands), "run", lambda *_, **__: pytest.fail("it was submitted"))
    answers(adapter, Output(0, "    MAX_JOB_ARRAY_SIZE = 1000\n", ""))
    with pytest.raises(Rejected, match="at most 1000 tasks"):
        adapter.submit(replace(PLAIN, array="1-1001"))
    answers(adapter, Output(255, "", "lsid: LSF is down\n"))
    with pytest.raises(NotSent):
        adapter.submit(replace(PLAIN, array="1-10"))


def test_the_id_0_is_not_a_job_id() -> None:
    """bkill and its like take 0 for all jobs of the user."""
    for job_id in ("0", "00", "0[1]", "-1", "", "1 0", "1[0]", "1[]", "1[1-3]"):
        assert not LsfAdapter.job_id.fullmatch(job_id)
    for job_id in ("1", "7[2]", "999999"):
        assert LsfAdapter.job_id.fullmatch(job_id)


def test_commands_name_the_configured_cluster() -> None:
    """bhist has no -m for a cluster."""
    adapter = LsfAdapter("c", {"adapter": "lsf", "cluster": "east"})
    assert adapter.for_cluster(["bjobs", "-a"]) == ["bjobs", "-m", "east", "-a"]
    assert adapter.for_cluster(["bhist", "-l"]) == ["bhist", "-l"]
