"""pun_app/adapters/lsf/adapter.py against what volclava 2.2 said, OOD's samples of IBM's LSF 8 and 9, and bsub's documented options."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable, Unanswered
from pun_app.adapters.lsf.adapter import FIELDS, LsfAdapter, job_of
from pun_app.adapters.lsf.bsub import submit_command
from pun_app.adapters.lsf.parse import Story, past_job, records, stories, table, told, when
from pun_app.adapters.lsf.site import cluster_info, queues_of
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job, JobRequest, Period
from tests.pun_app.adapters.recordings import Recordings, answers, options_of

SAID = Recordings("lsf-volclava")
NOW = 1795461000
PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp", submit_tag="tag")
FULL = replace(
    PLAIN, job_name="n", queue_name="short", accounting_id="p", wall_time=90, output_path="/o", error_path="/e", array="1-9:2%3",
    after=("1",), afterok=("2", "3"), afternotok=("4",), afterany=("5[1]",), nodes=2, cores=4, memory=100, gpus=1,
    reservation="r#1", environment={"A": "1"}, hold=True, email="a@example.org",
)  # fmt: skip
UNITS = (1024, 1)

DOCUMENTED = {"-U": True, "-gpu": True}
"""Options of IBM's bsub (LSF 10.1, bsub reference) that volclava's usage has not, and whether they take a value."""


@pytest.fixture
def adapter() -> LsfAdapter:
    adapter = LsfAdapter("c", {"adapter": "lsf"})
    adapter.user = "pbsa"
    return adapter


@pytest.fixture(autouse=True)
def _at_the_time_of_the_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: float(NOW))


def test_the_recorded_json() -> None:
    """Every row is a job; a job name with quotes, brackets and blanks is one name."""
    jobs = {job.id: job for job in records(SAID.output("bjobs-o-json-known").out)}
    assert len(jobs) == json.loads(SAID["bjobs-o-json-known"]["stdout"])["JOBS"]
    assert {job.status for job in jobs.values()} >= {RUNNING, QUEUED, COMPLETED}
    assert (jobs["2"].outcome, jobs["2"].name, jobs["2"].queue) == ("succeeded", "demo-job", "short")
    assert (jobs["2"].started_at, jobs["2"].ended_at) == (1795375189, 1795375220)
    # How a job that failed did so is not in this LSF's JSON.
    assert (jobs["3"].status, jobs["3"].outcome) == (COMPLETED, None)
    assert jobs["25"].name == 'we"ird nm <x>'
    assert jobs["7[2]"].name == "arr[2]"


def test_the_wide_table_tells_the_same() -> None:
    """Of two lists that were taken at different moments, what both have."""
    rows = {job.id: job for job in table(SAID.output("bjobs-W-a-final").out)}
    others = {job.id: job for job in records(SAID.output("bjobs-o-json-known").out)}
    same = [number for number, job in rows.items() if number in others and job.status == others[number].status]
    assert len(same) > 15
    for number in same:
        ours, theirs = rows[number], others[number]
        assert (ours.name, ours.queue, ours.started_at, ours.ended_at) == (
            theirs.name, theirs.queue, theirs.started_at, theirs.ended_at,
        )  # fmt: skip
    assert rows["2"].account == "proj123"
    # As OOD's tests have it of LSF 8.3 and 9.1, whose table ends with a column more.
    ibm = (
        "542945  efranz  DONE  short      foobar02.osc.edu compute013  #!/bin/bash;#BSUB -q short # queue; echo \"Hello, I am in"
        " $PWD\";sleep 30 03/31-19:24:57 default    000:00:00.03 2      32     9389 03/31-19:24:59 03/31-19:25:29 1\n"
        "542935  efranz  RUN   short      foobar02.osc.edu compute013  foo        03/31-14:46:42 default    000:00:00.00 2      32"
        "     25156 03/31-14:46:44 -\n542  efranz  RUN  sho"
    )  # fmt: skip
    done, running = table(ibm)
    assert (done.outcome, done.name and done.name.endswith("sleep 30")) == ("succeeded", True)
    assert (running.status, running.name, running.ended_at) == (RUNNING, "foo", None)


@pytest.mark.parametrize(
    ("stat", "status"),
    [("PEND", QUEUED), ("WAIT", QUEUED), ("PSUSP", QUEUED_HELD), ("RUN", RUNNING), ("USUSP", SUSPENDED), ("SSUSP", SUSPENDED),
     ("DONE", COMPLETED), ("EXIT", COMPLETED), ("UNKWN", None), ("ZOMBI", None), ("BRANDNEW", None)],
)  # fmt: skip
def test_states(stat: str, status: str | None) -> None:
    (job,) = records(json.dumps({"RECORDS": [{"JOBID": "1", "STAT": stat}]}))
    assert (job.status, job.native_state) == (status, stat)


@pytest.mark.parametrize(
    ("code", "reason", "outcome", "exit_code"),
    [
        ("3", "", "failed", 3), ("137", "", "failed", 137), ("130", "TERM_OWNER: job killed by owner", "cancelled", None),
        ("140", "TERM_RUNLIMIT: job killed after reaching LSF run time limit", "timed_out", None),
        ("137", "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit", "out_of_memory", None),
        ("143", "TERM_PREEMPT: job killed after preemption", "preempted", None), ("", "", "cancelled", None),
        ("1", "TERM_SOMETHING_NEW", "failed", 1),
    ],
    ids=range(8),
)  # fmt: skip
def test_how_a_job_of_ibms_ended(code: str, reason: str, outcome: str, exit_code: int | None) -> None:
    """By bacct(1)'s termination reasons; 10.1 has code and reason among the fields of -o."""
    row = {"JOBID": "1", "STAT": "EXIT", "EXIT_CODE": code, "EXIT_REASON": reason}
    (job,) = records(json.dumps({"RECORDS": [row]}))
    assert (job.outcome, job.exit_code) == (outcome, exit_code)


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
def test_the_long_answer(name: str, status: str, outcome: str | None, exit_code: int | None) -> None:
    (story,) = stories(SAID.output(name).out)
    job = job_of(story)
    assert (job.status, job.outcome, job.exit_code) == (status, outcome, exit_code)
    assert job.owner == "pbsa"
    assert job.submitted_at is not None


def test_a_long_answer_as_a_whole() -> None:
    (story,) = stories(SAID.output("bjobs-l-full").out)
    job = job_of(story)
    assert (job.id, job.name, job.queue, job.account, job.wallclock_limit) == ("2", "demo-job", "short", "proj123", 300)
    assert (job.submitted_at, job.started_at) == (1795375187, 1795375189)
    (nasty,) = stories(SAID.output("bjobs-l-nasty").out)
    assert nasty.name == 'we"ird nm <x>'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("Nov 22 19:21", 1795375260), ("Nov 22 19:21:07", 1795375267), ("Nov 22 19:21:07 2026", 1795375267), ("11/22-19:21:07", 1795375267),
     ("Nov 22 19:21 L", 1795375260), ("Dec 31 23:59:59", 1767225599), ("Feb 29 00:00", 1709164800), ("-", None), ("", None),
     ("Nov 31 10:00", None), ("13/40-99:99:99", None)],
)  # fmt: skip
def test_times_without_a_year(text: str, seconds: int | None) -> None:
    """The last that was: at the end of November a time in December is last year's."""
    assert when(text, NOW) == seconds


def test_fields_that_this_lsf_does_not_know_are_left_out(adapter: LsfAdapter) -> None:
    """One after the other, as it names them; and they are not asked for again."""
    refusals = [
        Output(99, "", f"<{name}> in the format string is not a valid field name.\n")
        for name in ("JOBINDEX", "EXIT_CODE")
    ]
    ran = answers(adapter, *refusals, SAID.output("bjobs-o-json-known"), SAID.output("bjobs-l-e127"))
    adapter.jobs()
    asked = [argv[argv.index("-o") + 1].split() for argv in ran[:3]]
    assert asked[0] == list(FIELDS)
    assert set(asked[0]) - set(asked[2]) == {"jobindex", "exit_code"}
    ran = answers(adapter, SAID.output("bjobs-o-json-known"), SAID.output("bjobs-l-e127"))
    adapter.jobs()
    assert ran[0][ran[0].index("-o") + 1].split() == asked[2]


def test_a_version_without_json_has_the_wide_table(adapter: LsfAdapter) -> None:
    ran = answers(
        adapter,
        Output(255, "", "bjobs: illegal option -- json\nUsage: bjobs"),
        SAID.output("bjobs-W-a-final"),
        Output(0, "", ""),
    )
    assert len(adapter.jobs()) > 15
    assert ran[1][:3] == ["bjobs", "-w", "-W"]


@pytest.mark.parametrize(
    "name", ["bjobs-unknown", "bjobs-empty", "bjobs-array-elem-outside", "bjobs-o-json-none", "bjobs-o-json-unknown"]
)
def test_a_job_that_is_not_there(adapter: LsfAdapter, name: str) -> None:
    """Neither among those that LSF still has, nor in its history."""
    answers(adapter, SAID.output(name), SAID.output("bhist-unknown"))
    with pytest.raises(JobNotFound):
        adapter.job("99999")


def test_lsf_that_is_down_is_no_list_without_jobs(adapter: LsfAdapter) -> None:
    """Its JSON is that of a user without jobs, whose status is that of a failure, too; what it says besides differs."""
    down = SAID.output("lim-down-bjobs-o-json")
    assert down.out.split() == SAID.output("bjobs-o-json-none").out.split()
    for ask in (adapter.jobs, lambda: adapter.job("1")):
        answers(adapter, down)
        with pytest.raises(SchedulerUnavailable, match="LIM is down"):
            ask()
    answers(adapter, SAID.output("bjobs-o-json-none"))
    assert adapter.jobs() == []
    others: list[tuple[Callable[[], object], str]] = [
        (lambda: adapter.history(Period(0, NOW)), "lim-down-bhist"), (lambda: adapter.look_up(["1"]), "lim-down-bhist"),
        (adapter.queues, "lim-down-bparams"), (adapter.info, "lim-down-bparams"), (lambda: adapter.output("1"), "lim-down-bjobs-W"),
    ]  # fmt: skip
    for other, name in others:
        answers(adapter, SAID.output(name))
        with pytest.raises(SchedulerUnavailable, match="LIM is down"):
            other()
    adapter._fields = None
    rows = SAID.output("bjobs-W-a-final").out
    for said in (SAID.output("lim-down-bjobs-W"), Output(255, rows, SAID.output("lim-down-bjobs-W").err)):
        answers(adapter, said)
        with pytest.raises(SchedulerUnavailable, match="LIM is down"):
            adapter.jobs()


def tasks(number: int, **states: str) -> Output:
    """A list of an array's tasks: ``t1="RUN"``."""
    listed = [
        {"JOBID": str(number), "JOB_NAME": f"a[{name[1:]}]", "STAT": stat, "USER": "pbsa"}
        for name, stat in states.items()
    ]
    return Output(0, json.dumps({"RECORDS": listed}), "")


def test_an_array_is_cancelled_by_its_tasks(adapter: LsfAdapter) -> None:
    """What waits first. Of a running array that was killed as a whole bhist does not tell who did it."""
    whole = {past_job(story).job.outcome for story in stories(SAID.output("bhist-l-running-array-killed").out)}
    by_task = {past_job(story).job.outcome for story in stories(SAID.output("bhist-l-running-tasks-killed").out)}
    assert (whole, by_task) == ({"failed"}, {"cancelled"})
    listed = tasks(7, t3="RUN", t1="RUN", t2="USUSP", t6="PEND", t4="DONE", t5="PSUSP", t9="PEND")
    for said in (SAID.output("bkill-running-tasks"), SAID.output("bkill-tasks-some-ended")):
        ran = answers(adapter, listed, listed, said)
        adapter.cancel("7")
        assert ran[-1] == ["bkill", "7[5-6]", "7[9]", "7[1-3]"]
    # One task is cancelled alone.
    ran = answers(adapter, tasks(7, t3="RUN"), Output(0, "", ""), Output(0, "", ""))
    adapter.cancel("7[3]")
    assert ran[-1] == ["bkill", "7[3]"]


def test_a_large_array_is_cancelled_by_what_runs_and_as_a_whole(adapter: LsfAdapter) -> None:
    listed = tasks(7, **{f"t{index}": "RUN" if index < 4 else "PEND" for index in range(1, 2000)})
    ran = answers(adapter, listed, listed, SAID.output("bkill-running-tasks"), SAID.output("bkill-running-array"))
    adapter.cancel("7")
    assert ran[2:] == [["bkill", "7[1-3]"], ["bkill", "7"]]


def test_tasks_that_could_not_be_cancelled_are_no_success(adapter: LsfAdapter) -> None:
    ended = "Job <7[1]>: Job has already finished\n"
    for said, kind in (
        (Output(255, "", ended), Rejected), (Output(255, "Job <7[2]> is being terminated\n", f"{ended}Job <7[3]>: User permission denied\n"), Rejected),
        (Output(255, "Job <7[2]> is being terminated\n", "Job <7[3]>: Failed in an LSF library call: Communication time out\n"), SchedulerUnavailable),
    ):  # fmt: skip
        answers(adapter, tasks(7, t1="RUN", t2="RUN"), tasks(7, t1="RUN", t2="RUN"), said)
        with pytest.raises(kind):
            adapter.cancel("7")


def test_an_array_is_released_while_one_of_its_tasks_is_held(adapter: LsfAdapter) -> None:
    """Its status is that of the tasks that have come furthest."""
    listed = tasks(7, t1="PSUSP", t2="RUN")
    ran = answers(adapter, listed, listed, Output(0, "", ""))
    assert adapter.release("7") == QUEUED
    assert ran[-1] == ["bresume", "7"]
    listed = tasks(7, t1="PEND", t2="RUN")
    ran = answers(adapter, listed, listed)
    assert adapter.release("7") == RUNNING
    assert not [argv for argv in ran if argv[0] == "bresume"]


def test_an_array_of_one_task_has_the_id_that_was_asked_for(adapter: LsfAdapter) -> None:
    answers(adapter, tasks(105, t2="PEND"), Output(0, "", ""))
    job = adapter.job("105")
    assert (job.id, job.name) == ("105", "a")
    answers(adapter, tasks(105, t2="PEND"), Output(0, "", ""))
    assert adapter.job("105[2]").id == "105[2]"
    listed = records(tasks(105, t2="PEND").out)
    assert {name: job.id for name, job in adapter.select(listed, ["105", "105[2]"]).items()} == {
        "105": "105", "105[2]": "105[2]",
    }  # fmt: skip


def test_a_submit_to_a_daemon_that_hangs_claims_nothing(adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """bsub says then that the job was not submitted; but it may be, once the daemon goes on."""
    monkeypatch.setattr(adapter, "run_submit", lambda *_: SAID.output("mbatchd-hangs-bsub"))
    monkeypatch.setattr(adapter, "find_submitted", lambda *_: None)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(SchedulerUnavailable) as caught:
        adapter.submit(PLAIN)
    said = caught.value.message
    assert said.startswith(
        "LSF does not answer: Failed in an LSF library call: Communication time out. It is not known whether the job"
    )
    assert "not submitted" not in said and ".." not in said


def test_another_users_job_is_not_there(adapter: LsfAdapter) -> None:
    adapter.user = "pbsb"
    answers(adapter, SAID.output("bjobs-o-json-known"), SAID.output("bhist-l-full"))
    with pytest.raises(JobNotFound):
        adapter.job("2")


@pytest.mark.parametrize("name", [n for p in ("bsub", "bkill", "bstop", "bresume") for n in SAID.of(p)])
def test_every_recorded_answer_to_a_change(adapter: LsfAdapter, name: str) -> None:
    output = SAID.output(name)
    if output.code == 0:
        if SAID[name]["argv"][0] == "bsub":
            assert re.fullmatch(r"\d+", adapter.parse_job_id(output) or "")
        return
    error = adapter.failure(output)
    gone = "No matching job found" in output.err or "Illegal job ID" in output.err or "not found" in output.err
    kind = Unanswered if "Communication time out" in output.err else JobNotFound if gone else Rejected
    assert type(error) is kind, error.message
    assert "Usage" not in error.message
    assert adapter.parse_job_id(output) is None


def test_a_job_to_wait_for_that_is_not_there_is_a_refusal(adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a 404: what was asked for is a submit."""
    monkeypatch.setattr(adapter, "run_submit", lambda *_: SAID.output("bsub-bad-depend"))
    with pytest.raises(Rejected, match="99999: No matching job found"):
        adapter.submit(replace(PLAIN, afterok=("99999",)))


def test_a_daemon_that_is_down(adapter: LsfAdapter) -> None:
    output = Output(255, "", "batch system daemon not responding ... still trying\n")
    assert isinstance(adapter.failure(output), SchedulerUnavailable)


@pytest.mark.parametrize("cut", [0, 5, 300, -4])
def test_half_an_answer_is_none(cut: int) -> None:
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        records(SAID.output("bjobs-o-json-known").out[:cut])


def test_history(adapter: LsfAdapter) -> None:
    """bhist breaks its lines in the middle of words; its times have no year."""
    (past,) = [past_job(story) for story in stories(SAID.output("bhist-l-full").out)]
    assert (past.job.outcome, past.job.name, past.job.started_at, past.job.ended_at) == (
        "succeeded", "demo-job", 1795375189, 1795375220,
    )  # fmt: skip
    elements = [past_job(story).job for story in stories(SAID.output("bhist-l-array").out)]
    assert [(job.id, job.outcome, job.queue) for job in elements] == [
        ("7[1]", "cancelled", "short"), ("7[2]", "cancelled", "short"), ("7[3]", "cancelled", "short"),
    ]  # fmt: skip
    ran = answers(adapter, SAID.output("bhist-l-runlimit"))
    (timed_out,) = adapter.history(Period(0, NOW))
    assert (timed_out.job.outcome, timed_out.job.wallclock_limit) == ("timed_out", 60)
    assert ran[0][ran[0].index("-C") + 1] == "1993/01/01/00:00,2026/11/23/19:11"
    answers(adapter, SAID.output("bhist-unknown"))
    assert adapter.history(Period(0, NOW)) == []


@pytest.mark.parametrize(
    ("period", "asked"),
    [
        (Period(NOW - 60, NOW), "2026/11/23/19:09,2026/11/23/19:11"),
        (Period(-(10**10), 10**11), "1993/01/01/00:00,2026/11/24/19:10"),
        (Period(-(10**10), -(10**9)), "1993/01/01/00:00,1993/01/01/00:00"),
        (Period(10**10, 10**11), "2026/11/24/19:10,2026/11/24/19:10"),
    ],
)
def test_any_period_is_asked_for_as_one_that_bhist_takes(adapter: LsfAdapter, period: Period, asked: str) -> None:
    """Years from 1993 to 2038, and no end before its beginning. No job has ended after tomorrow."""
    ran = answers(adapter, SAID.output("bhist-unknown"))
    assert adapter.history(period) == []
    assert ran[0][ran[0].index("-C") + 1] == asked


def test_queues() -> None:
    queues = {queue.name: queue for queue in queues_of(SAID.output("bqueues-l").out, ["normal"])}
    assert {name: queue.state for name, queue in queues.items()} == {
        "short": "up", "normal": "up", "onlyb": "up", "closedq": "draining", "frozen": "down",
    }  # fmt: skip
    assert (queues["short"].time_limit, queues["normal"].time_limit) == (3600, None)
    assert [queue.name for queue in queues.values() if queue.default] == ["normal"]
    ibm = "QUEUE: night\n  -- x\n\nPRIO NICE STATUS\n 40 0 Open:Active\n\nDEFAULT LIMITS:\n RUNLIMIT\n 10.0 min of hosta\n\nMAXIMUM LIMITS:\n RUNLIMIT\n 480.0 min of hosta\n"
    (night,) = queues_of(ibm, [])
    assert (night.default_time_limit, night.time_limit) == (600, 28_800)


def test_how_much_is_in_use() -> None:
    info = cluster_info(SAID.output("bhosts-w").out)
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 1, 2, 2)
    with pytest.raises(SchedulerUnavailable):
        cluster_info("nothing of the kind")


def test_a_submit_has_options_that_bsub_has() -> None:
    """In the usage that volclava printed, or in IBM's documentation."""
    usage = SAID.output("bsub-bad-option").err
    argv = submit_command(FULL, UNITS)
    for option in options_of(argv):
        if option in DOCUMENTED:
            takes_a_value = DOCUMENTED[option]
        else:
            assert re.search(rf"\[{option}[ \]]|\| {option}[ \]]", usage), option
            takes_a_value = bool(re.search(rf"\[{option} [\w\"]", usage))
        following = argv[argv.index(option) + 1 : argv.index(option) + 2]
        assert takes_a_value == bool(following and not following[0].startswith("-")), option


def test_what_a_submit_asks_for() -> None:
    argv = submit_command(FULL, UNITS)
    given = dict(pairwise(argv))
    assert given["-J"] == "n[1-9:2]%3"
    assert given["-W"] == "2"  # Minutes, and no fewer seconds than were asked for.
    assert given["-R"] == "span[ptile=2] rusage[mem=100]"
    assert given["-M"] == "102400"
    assert given["-n"] == "4"
    assert given["-w"] == "started(1) && done(2) && done(3) && exit(4) && ended(5[1])"
    assert given["-Jd"] == "tag"
    own = replace(PLAIN, content='#!/bin/sh\n#BSUB -Jd "my own"\n#BSUB -o mine.out\ntrue\n')
    assert submit_command(own, UNITS) == ["bsub", "-Jd", "my own tag"]
    assert submit_command(PLAIN, UNITS)[-2:] == ["-o", "lsf-%J.out"]


def test_every_option_is_in_a_submit_or_refused(adapter: LsfAdapter) -> None:
    plain = submit_command(PLAIN, UNITS)
    for name in OPTIONS:
        request = replace(PLAIN, **{name: {"qos": "high", "native": ("-r",)}.get(name, getattr(FULL, name))})
        if name not in adapter.options:
            with pytest.raises(Rejected, match=f"options.{name}"):
                adapter.submit(request)
        elif name != "environment":
            assert submit_command(request, UNITS) != plain, name


@pytest.mark.parametrize(
    "wrong", [{"array": "0-3"}, {"array": "1,0"}, {"nodes": 2, "cores": 3}, {"job_name": "a[1-3]"}], ids=range(4)
)
def test_what_lsf_cannot_have_is_refused(wrong: dict[str, object]) -> None:
    """Of "arr[0-3]" volclava makes one job, and says on the side that the list was bad."""
    with pytest.raises(Rejected):
        submit_command(replace(PLAIN, **wrong), UNITS)  # type: ignore[arg-type]


def ended(code: int, more: str = "", limit: str = "") -> str:
    """What the long answers of volclava tell of a job, as in bjobs-l-runlimit and bhist-l-runlimit."""
    runlimit = f"\n RUNLIMIT\n {limit}\n" if limit else ""
    return (
        f"\nJob <40>, Job Name <x>, User <pbsa>, Project <default>, Status <EXIT>, Queue <short>, Command <x>\n"
        f"Sun Nov 22 19:26:59: Submitted from host <vm>, to Queue <short>, CWD <$HOME>, Output File </dev/null>;\n{runlimit}"
        f"Sun Nov 22 19:27:01: Started on <vm>, Execution Home </home/pbsa>;\n{more}"
        f"Sun Nov 22 19:28:02: Exited with exit code {code}. The CPU time used is 0.0 seconds.\n"
    )


SIGNAL = "Sun Nov 22 19:27:41: Signal <KILL> requested by user or administrator <pbsa>;\n"
QUEUE = (
    "QUEUE: short\n  -- x\n\nPRIO NICE STATUS\n 40 0 Open:Active\n\nMAXIMUM LIMITS:\n RUNLIMIT\n {limit} min of vm\n"
)


@pytest.mark.parametrize(
    ("code", "more", "limit", "queue_limit", "outcome", "exit_code"),
    [
        (130, "", "", "60.0", "failed", 130), (130, SIGNAL, "", "60.0", "cancelled", None), (137, SIGNAL, "", "60.0", "cancelled", None),
        (140, "", "60.0 min", "60.0", "failed", 140), (140, "", "1.0 min", "60.0", "timed_out", None), (140, "", "", "60.0", "failed", 140),
        (140, "", "", "1.0", "timed_out", None), (3, "", "", "60.0", "failed", 3),
    ],
    ids=range(8),
)  # fmt: skip
def test_an_exit_code_is_not_the_end_of_a_job_by_lsf(
    adapter: LsfAdapter, code: int, more: str, limit: str, queue_limit: str, outcome: str, exit_code: int | None
) -> None:
    """A script may end with 130 and 140 by itself. Who ended it is in the history, where LSF tells no reason."""
    adapter._fields = ("jobid", "stat", "user")
    listed = Output(0, json.dumps({"RECORDS": [{"JOBID": "40", "STAT": "EXIT", "USER": "pbsa"}]}), "")
    told = ended(code, limit=limit)
    queues = [Output(0, "Default Queues: normal\n", ""), Output(0, QUEUE.format(limit=queue_limit), "")]
    bhist = [Output(0, ended(code, more, limit), ""), *(queues if code == 140 and not limit else [])]
    for argv in (["40"], []):
        answers(adapter, listed, Output(0, told, ""), *bhist)
        job = adapter.job(argv[0]) if argv else adapter.jobs()[0]
        assert (job.outcome, job.exit_code) == (outcome, exit_code)


def test_ibms_reason_is_enough(adapter: LsfAdapter) -> None:
    """Where there is a field for it, a job without one ended by itself, and no other command is asked."""
    row = {"JOBID": "40", "STAT": "EXIT", "USER": "pbsa", "EXIT_CODE": "130", "EXIT_REASON": "-"}
    answers(adapter, Output(0, json.dumps({"RECORDS": [row]}), ""))
    assert [(job.outcome, job.exit_code) for job in adapter.jobs()] == [("failed", 130)]


def tagged_jobs(*numbers: int) -> str:
    return "".join(
        f"\nJob <{number}>, Job Name <x>, User <pbsa>, Project <default>, Job Description <tag>, Status <PEND>, Queue <short>, Command <x>\n"
        "Sun Nov 22 19:26:59: Submitted from host <vm>, CWD <$HOME>;\n"
        for number in numbers
    )


def row_of(number: int) -> Output:
    return Output(0, json.dumps({"RECORDS": [{"JOBID": str(number), "STAT": "PEND", "USER": "pbsa"}]}), "")


def test_of_one_submit_that_became_several_jobs_one_is_kept(
    adapter: LsfAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """The first. The others are cancelled, and the answer and the log say so."""
    none = Output(0, "", "")
    others = [said for number in (10, 11) for said in (row_of(number), none, row_of(number), none)]
    ran = answers(adapter, Output(0, tagged_jobs(9, 11, 10), ""), *others)
    job = adapter.find_submitted("tag")
    assert job is not None and job.id == "9"
    assert [argv for argv in ran if argv[0] == "bkill"] == [["bkill", "10"], ["bkill", "11"]]
    assert job.reason == (
        "The scheduler took this submit more than once. Job 9 is kept: job 10 was cancelled; job 11 was cancelled"
    )
    assert "job 9 is kept" in caplog.text


def test_a_job_that_could_not_be_cancelled_is_named(adapter: LsfAdapter) -> None:
    down = Output(255, "", "batch system daemon not responding ... still trying\n")
    answers(adapter, Output(0, tagged_jobs(9, 10), ""), row_of(10), Output(0, "", ""), row_of(10), down)
    job = adapter.find_submitted("tag")
    assert job is not None and job.reason is not None and "job 10 could not be cancelled" in job.reason


def test_a_submit_that_bsub_repeated_is_looked_up(adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Output(
        0, "Job <11> is submitted to queue <short>.\n", "batch system daemon not responding ... still trying\n"
    )
    monkeypatch.setattr(adapter, "run_submit", lambda *_: said)
    none = Output(0, "", "")
    tagged = Output(0, tagged_jobs(10, 11).replace("<tag>", f"<{PLAIN.submit_tag}>"), "")
    answers(adapter, tagged, row_of(11), none, row_of(11), none)
    job = adapter.submit(PLAIN)
    assert job.id == "10" and job.reason is not None and "job 11 was cancelled" in job.reason


def test_bsub_is_told_to_ask_once(adapter: LsfAdapter) -> None:
    assert adapter.submit_commands.environment["LSB_NTRIES"] == "1"


def test_more_tasks_than_this_lsf_takes_are_refused(adapter: LsfAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of such an array volclava makes one plain job. Where the limit cannot be asked for, nothing was submitted."""
    monkeypatch.setattr(type(adapter.submit_commands), "run", lambda *_, **__: pytest.fail("it was submitted"))
    answers(adapter, Output(0, "    MAX_JOB_ARRAY_SIZE = 1000\n", ""))
    with pytest.raises(Rejected, match="at most 1000 tasks"):
        adapter.submit(replace(PLAIN, array="1-1001"))
    answers(adapter, Output(255, "", "lsid: LSF is down\n"))
    with pytest.raises(NotSent):
        adapter.submit(replace(PLAIN, array="1-10"))


def test_the_same_path_for_both_streams_is_one_stream() -> None:
    argv = submit_command(replace(PLAIN, output_path="/o", error_path="/o"), UNITS)
    assert "-e" not in argv and argv[argv.index("-o") + 1] == "/o"


def test_no_command_ever_has_the_id_0() -> None:
    """To bkill and its like it is every job of the user."""
    for job_id in ("0", "00", "0[1]", "-1", "", "1 0", "1[0]", "1[]", "1[1-3]"):
        assert not LsfAdapter.job_id.fullmatch(job_id)
    for job_id in ("1", "7[2]", "999999"):
        assert LsfAdapter.job_id.fullmatch(job_id)


def test_units_of_memory_are_the_clusters(tmp_path: Path) -> None:
    (tmp_path / "lsf.conf").write_text("# x\nLSF_UNIT_FOR_LIMITS=GB\n")
    adapter = LsfAdapter("c", {"adapter": "lsf", "envdir": str(tmp_path)})
    assert adapter._memory_units() == (1 / 1024, 1 / 1024)
    argv = submit_command(replace(PLAIN, memory=2048), adapter._memory_units())
    assert argv[argv.index("-M") + 1] == "2"
    (tmp_path / "lsf.conf").write_text("LSF_SERVERDIR=/x\n")
    assert adapter._memory_units() == (1024, 1)


def test_a_clusters_name_goes_with_each_command() -> None:
    adapter = LsfAdapter("c", {"adapter": "lsf", "cluster": "east"})
    assert adapter.for_cluster(["bjobs", "-a"]) == ["bjobs", "-m", "east", "-a"]
    assert adapter.for_cluster(["bhist", "-l"]) == ["bhist", "-l"]


def test_a_dependency_that_is_never_met_says_so() -> None:
    """By the reason that LSF gives a queued job, in JSON as in the long answer; and no other reason means it."""

    def job(stat: str, reason: str) -> Job:
        record = {"JOBID": "7", "STAT": stat, "USER": "a", "PEND_REASON": reason}
        return records(json.dumps({"COMMAND": "bjobs", "JOBS": 1, "RECORDS": [record]}))[0]

    never = "Dependency condition invalid or never satisfied;"
    assert (job("PEND", never).can_start, never in (job("PEND", never).reason or "")) == (False, True)
    for stat, reason in (("PEND", "Job dependency condition not satisfied"), ("PEND", ""), ("RUN", never)):
        assert (job(stat, reason).can_start, job(stat, reason).reason) == (None, None)
    story = Story("7", f"Job <7>, User <a>, Status <PEND>\n PENDING REASONS:\n {never}\n")
    assert told(Job("7", status=QUEUED, native_state="PEND"), story).can_start is False
