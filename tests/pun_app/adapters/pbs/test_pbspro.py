"""pun_app/adapters/pbs/pbspro.py against recorded output of OpenPBS 23.06."""

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
from pun_app.adapters.model import OPTIONS, RUNNING, Period
from pun_app.adapters.pbs.pbspro import PbsProAdapter
from pun_app.adapters.pbs.pbspro_qstat import Jobs, decode, job_of
from pun_app.adapters.pbs.pbspro_qsub import submit_command
from tests.pun_app.adapters.pbs.common import OPENPBS, PBSPRO_FULL, PLAIN
from tests.pun_app.adapters.recordings import answers


@pytest.fixture
def adapter() -> PbsProAdapter:
    """An adapter for a user of the recordings."""
    adapter = PbsProAdapter("c", {"adapter": "pbspro"})
    adapter.user = "pbsa"
    return adapter


def test_one_task_can_be_neither_held_nor_released(adapter: PbsProAdapter) -> None:
    """PBS fails with ``Invalid request``. Punway's message says what to do, and no command runs."""
    assert OPENPBS.output("qrls-subjob").code == 156
    recorded = json.loads(OPENPBS.output("qstat-json-held-array-t").out)
    task = Output(0, json.dumps({"Jobs": {"289[2].vm": recorded["Jobs"]["289[2].vm"]}}), "")
    for change in (adapter.hold, adapter.release):
        ran = answers(adapter, task)
        with pytest.raises(Rejected, match=re.escape("Use the job id 289[].vm")):
            change("289[2]")
        assert len(ran) == 1
    ran = answers(adapter, task, Output(0, "", ""))
    adapter.cancel("289[2]")
    assert ran[1] == ["qdel", "289[2].vm"]


def test_the_outcome_of_a_change_that_timed_out_is_unknown(adapter: PbsProAdapter) -> None:
    """A qdel of 10,000 held tasks took 57 s. The server continues with it after qdel was ended."""
    job = job_of("1.vm", decode('{"Jobs": {"1.vm": {"Job_Owner": "a@b", "job_state": "H"}}}', Jobs).jobs["1.vm"])

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


@pytest.mark.parametrize("name", [n for p in ("qsub", "qdel", "qhold", "qrls", "qselect") for n in OPENPBS.of(p)])
def test_every_recorded_failure_raises_the_right_error(adapter: PbsProAdapter, name: str) -> None:
    """The error depends on the exit code and the message; a usage is not a message."""
    output = OPENPBS.output(name)
    if output.code == 0 or "-W-block" in name:
        return
    error = adapter.failure(output)
    kind = {153: JobNotFound, 162: NotSent, 255: NotSent}.get(output.code, Rejected)
    assert type(error) is kind, error.message
    assert error.message
    assert "usage" not in error.message
    assert not error.message.startswith(("qsub:", "qdel:", "qhold:", "qrls:"))


@pytest.mark.parametrize("name", OPENPBS.of("qsub"))
def test_every_recorded_submit_has_its_id(adapter: PbsProAdapter, name: str) -> None:
    """A submit that waited for its job (-W block=true) has the job's exit code."""
    output = OPENPBS.output(name)
    submitted = bool(re.fullmatch(r"\d+(\[\])?\.vm\n", output.out))
    assert (adapter.parse_job_id(output) == output.out.strip()) is submitted
    assert submitted or output.code or name == "qsub-z-quiet"


def test_an_unknown_job_is_not_found(adapter: PbsProAdapter) -> None:
    """Another user's job, and one that query_other_jobs hides, are not found either."""
    for name in ("qstat-json-unknown", "qstat-json-other-users-job", "qstat-json-other-hidden"):
        answers(adapter, OPENPBS.output(name))
        with pytest.raises(JobNotFound):
            adapter.job("13.vm")


def test_a_server_that_is_down_is_unavailable(adapter: PbsProAdapter) -> None:
    """qstat prints an empty list with the server's name. Only the exit code differs."""
    for name in ("one/qstat-server-down", "wrong-port-qstat", "no-conf-qstat"):
        answers(adapter, OPENPBS.output(name))
        with pytest.raises(SchedulerUnavailable):
            adapter.job("1.vm")
    answers(adapter, OPENPBS.output("server-down-qselect"))
    with pytest.raises(SchedulerUnavailable):
        adapter.jobs()


def test_a_list_is_one_command_with_ids(adapter: PbsProAdapter) -> None:
    """Without ids, or with an empty one, qstat prints all users' jobs."""
    ran = answers(adapter, OPENPBS.output("qselect-u"), Output(0, "", ""), OPENPBS.output("qstat-json-x-all"))
    assert len(adapter.jobs()) > 5
    assert ran[0] == ["qselect", "-u", "pbsa"]
    assert ran[2][:6] == ["qstat", "-x", "-E", "-f", "-F", "json"]
    assert ran[2][6:] == OPENPBS.output("qselect-u").out.split()
    ran = answers(adapter, Output(0, "", ""), Output(0, "", ""))
    assert adapter.jobs() == []
    assert len(ran) == 2


def test_a_server_without_history(adapter: PbsProAdapter) -> None:
    """The message names the server's setting, and jobs are read without -x."""
    off = Output(0, "", "qselect: PBS is not configured to maintain job history\n")
    answers(adapter, off)
    with pytest.raises(Unsupported, match="job_history_enable"):
        adapter.history(Period(0, 1))
    ran = answers(adapter, OPENPBS.output("qstat-json-x-history-off"), OPENPBS.output("qstat-json-full"))
    assert adapter.job("1.vm").status == RUNNING
    assert "-x" not in ran[1]


def test_resources_that_past_jobs_used(adapter: PbsProAdapter) -> None:
    """Processors, CPU seconds and bytes of memory."""
    answers(adapter, Output(0, "1.vm", ""), OPENPBS.output("qstat-json-x-full-finished"))
    (past,) = adapter.history(Period(0, 2_000_000_000))
    assert (past.cpus, past.cpu_time, past.memory_used, past.memory_requested) == (1, 0, 7016 * 1024, 100 * 1024**2)


def test_every_option_is_in_a_submit_or_refused(adapter: PbsProAdapter) -> None:
    """No option of a submit is dropped."""
    for name in OPTIONS:
        value = {"reservation": "R1.vm", "qos": "high", "native": ("-p", "5")}.get(name, getattr(PBSPRO_FULL, name))
        request = replace(PLAIN, **{name: value})
        if name in adapter.options:
            assert submit_command(request) != submit_command(PLAIN), name
        else:
            with pytest.raises(Rejected, match=f"options.{name}"):
                adapter.submit(request)


@pytest.mark.parametrize("name", ["MAIL", "PWD", "PBS_DEFAULT", "LD_PRELOAD", "PATH"])
def test_a_variable_that_qsub_uses_itself_is_refused(adapter: PbsProAdapter, name: str) -> None:
    """It is neither dropped nor passed to qsub, which would obey it."""
    with pytest.raises(Rejected, match=f"options.environment: {name}"):
        adapter.submit(replace(PLAIN, environment={name: "x"}))


@pytest.mark.parametrize("value", ['a"b', "a\\b", "it's"])
def test_a_value_that_qsub_would_change_is_refused(adapter: PbsProAdapter, value: str) -> None:
    """qsub of 23.06 loses quotes and doubles backslashes."""
    with pytest.raises(Rejected, match="options.environment"):
        adapter.submit(replace(PLAIN, environment={"A": value}))


@pytest.mark.parametrize(
    ("job_id", "good"),
    [("0", True), ("12.vm", True), ("4[].vm", True), ("4[1].vm", True), ("7[]", True), ("workq", False), ("", False),
     ("-5", False), ("12;rm", False), ("7[1-2].vm", False), ("1.vm@other", False), ("12.vm ", False), ("../1.vm", False)],
)  # fmt: skip
def test_form_of_a_job_id(job_id: str, good: bool) -> None:
    """qstat takes any other word for a queue, and lists that queue's jobs."""
    assert bool(PbsProAdapter.job_id.fullmatch(job_id)) is good
