"""pun_app/adapters/sge/adapter.py, with output in the form of Son of Grid Engine 8.1.9.

tests/system/test_adapters.py runs it against a real Grid Engine.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable, Unanswered
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, RUNNING, Period
from pun_app.adapters.sge.adapter import SgeAdapter
from pun_app.adapters.sge.qsub import submit_command
from tests.pun_app.adapters.recordings import answers
from tests.pun_app.adapters.sge.common import FULL, PLAIN, record, row, xml_list


def test_a_job_between_qstat_and_the_accounting_file_is_found(adapter: SgeAdapter) -> None:
    """It has its last state, then has ended without an outcome, then is as its record says. It is never not found."""
    none = Output(1, "", "error: job id 7 not found")
    answers(adapter, Output(0, xml_list(row("r")), ""), Output(0, "<unknown_jobs></unknown_jobs>", ""))
    assert adapter.job("7").status == RUNNING
    answers(adapter, Output(0, xml_list(), ""), none)
    assert adapter.job("7").status == RUNNING
    answers(adapter, Output(0, xml_list(row("z")), ""), none)
    ended = adapter.job("7")
    assert (ended.status, ended.outcome) == (COMPLETED, None)
    answers(adapter, Output(0, xml_list(row("z")), ""), Output(0, record(), ""))
    assert adapter.job("7").outcome == "succeeded"
    answers(adapter, Output(0, xml_list(), ""), none)
    with pytest.raises(JobNotFound):
        adapter.job("8")


@pytest.mark.parametrize(
    ("stdout", "kind"),
    [
        ('denied: job "9999" does not exist', JobNotFound), ("error: job id 9999 not found", JobNotFound),
        ('Unable to run job: job rejected: the requested project "nope" does not exist\nExiting.', Rejected),
        ("error: commlib error: got select error (Connection refused)\nUnable to run job: unable to send message to qmaster", NotSent),
        ("error: commlib error: got read error (closing \"vm/qmaster/1\")", Unanswered),
        ("Unable to initialize environment because of error: unable to read qmaster name", NotSent),
    ],
    ids=["unknown job", "no record", "unknown project", "connection refused", "no answer", "no environment"],
)  # fmt: skip
def test_each_failure_raises_the_right_error(adapter: SgeAdapter, stdout: str, kind: type[Exception]) -> None:
    """The message is without the line ``Exiting.``, which ends every error of qsub."""
    error = adapter.failure(Output(1, stdout, ""))
    assert type(error) is kind
    assert "Exiting" not in error.message


ARRAY_ROWS = xml_list(row("r", more="<tasks>1</tasks>"), row("qw", more="<tasks>2-4:1</tasks>"))

DETAILS = "<detailed_job_info><djob_info><element><JB_owner>alice</JB_owner></element></djob_info></detailed_job_info>"


@pytest.mark.parametrize(
    ("change", "job_id", "command"),
    [("cancel", "7.1", "qdel"), ("cancel", "7.2", "qdel"), ("hold", "7.3", "qhold"), ("cancel", "7", "qdel")],
)
def test_a_change_of_a_task_names_that_task(adapter: SgeAdapter, change: str, job_id: str, command: str) -> None:
    """The id of the array would change all of its tasks."""
    ran = answers(adapter, Output(0, ARRAY_ROWS, ""), Output(0, DETAILS, ""), Output(0, "", ""))
    getattr(adapter, change)(job_id)
    assert ran[-1] == [command, job_id]


def test_a_release_of_a_task_names_that_task(adapter: SgeAdapter) -> None:
    """The id of the array would release all of its tasks."""
    held = xml_list(row("hqw", more="<tasks>1-4:1</tasks>"))
    ran = answers(adapter, Output(0, held, ""), Output(0, DETAILS, ""), Output(0, "", ""))
    assert adapter.release("7.4") == QUEUED
    assert ran[-1] == ["qrls", "7.4"]


def test_an_array_with_one_held_task_can_be_released(adapter: SgeAdapter) -> None:
    """An array's status is that of its most advanced tasks, so it may be running while tasks are held."""
    running = row("r", more="<tasks>3</tasks>")
    for state, is_released in (("hqw", True), ("qw", False)):
        listed = xml_list(row(state, more="<tasks>1-2:1</tasks>"), running)
        ran = answers(adapter, Output(0, listed, ""), Output(0, DETAILS, ""), Output(0, listed, ""), Output(0, "", ""))
        adapter.release("7")
        assert (ran[-1] == ["qrls", "7"]) is is_released


def test_a_task_has_its_own_id(adapter: SgeAdapter) -> None:
    """Alone, among several, and after its end."""
    answers(adapter, Output(0, ARRAY_ROWS, ""), Output(0, DETAILS, ""))
    assert adapter.job("7.3").id == "7.3"
    answers(adapter, Output(0, ARRAY_ROWS, ""), Output(1, "", "error: job id 7 not found"))
    assert {name: job.id for name, job in adapter.look_up(["7.1", "7.3"]).items()} == {"7.1": "7.1", "7.3": "7.3"}
    answers(adapter, Output(0, xml_list(row("z", more="<tasks>5</tasks>")), ""), Output(0, record("6"), ""))
    assert adapter.job("7.5").id == "7.5"


def test_a_job_in_the_error_state_cannot_start(adapter: SgeAdapter) -> None:
    """The cause is an element of the task, as 8.1.9 prints it."""
    detailed = (
        "<detailed_job_info><djob_info><element><JB_ja_tasks><ulong_sublist><JAT_task_number>1</JAT_task_number><JAT_message_list>"
        "<ulong_sublist><QIM_type>1</QIM_type><QIM_message>error: can&apos;t open output file &quot;/x&quot;</QIM_message></ulong_sublist>"
        "</JAT_message_list></ulong_sublist><ulong_sublist><JAT_task_number>2</JAT_task_number><JAT_message_list><ulong_sublist>"
        "<QIM_message>another task's</QIM_message></ulong_sublist></JAT_message_list></ulong_sublist></JB_ja_tasks></element></djob_info>"
        "<messages><element><SME_message_list><element><MES_message>Job is in error state</MES_message></element></SME_message_list>"
        "</element></messages></detailed_job_info>"
    )
    answers(adapter, Output(0, xml_list(row("Eqw", more="<tasks>1-2:1</tasks>")), ""), Output(0, detailed, ""))
    job = adapter.job("7.1")
    assert (job.status, job.native_state, job.can_start) == (QUEUED, "Eqw", False)
    assert job.native_reason == 'error: can\'t open output file "/x"; Job is in error state'
    assert job.reason and "Cancel the job" in job.reason
    answers(adapter, Output(0, xml_list(row("Eqw"), row("qw", 8)), ""))
    assert [(job.can_start, bool(job.reason)) for job in adapter.jobs()] == [(False, True), (None, False)]


def test_history_without_an_accounting_file_is_empty(adapter: SgeAdapter) -> None:
    """The file does not exist until the first job has ended."""
    answers(adapter, Output(1, "", "/x/default/common/accounting: No such file or directory"))
    assert adapter.history(Period(0, 100)) == []


def test_every_option_is_in_a_submit_or_refused(adapter: SgeAdapter) -> None:
    """No option of a submit is dropped."""
    for name in OPTIONS:
        value: Any = {"native": ("-p", "5"), "nodes": 1, "gpus": 1, "qos": "q"}.get(name, getattr(FULL, name) or ("1",))
        request = replace(PLAIN, **{name: value})
        if name in adapter.options:
            assert submit_command(request, "smp") != submit_command(PLAIN, "smp"), name
        else:
            with pytest.raises(Rejected, match=f"options.{name}"):
                adapter.submit(request)


def test_several_cores_need_a_parallel_environment_on_one_host(adapter: SgeAdapter) -> None:
    """Without one, the message says what to do."""
    spread, one = "pe_name mpi\nallocation_rule $round_robin\n", "pe_name smp\nallocation_rule $pe_slots\n"
    answers(adapter, Output(0, "mpi\nsmp\n", ""), Output(0, spread, ""), Output(0, one, ""))
    assert adapter.parallel_environment() == "smp"
    other = SgeAdapter("c", {"adapter": "sge"})
    answers(other, Output(0, "mpi\n", ""), Output(0, spread, ""))
    with pytest.raises(Rejected, match="options.native"):
        other.parallel_environment()


def test_accounts_are_projects_that_admit_the_user(adapter: SgeAdapter) -> None:
    """A project has a list of the users that it admits, and one of those that it does not."""
    answers(
        adapter, Output(0, "open\nshut\n", ""), Output(0, "default_project open\n", ""), Output(0, "name open\nacl NONE\nxacl NONE\n", ""),
        Output(0, "name shut\nacl others\nxacl NONE\n", ""), Output(0, "name others\nentries bob,@nogroup-of-hers\n", ""),
    )  # fmt: skip
    assert [(account.name, account.default) for account in adapter.accounts()] == [("open", True)]


def test_form_of_a_job_id() -> None:
    """A word of another form might be an option, a pattern or a list."""
    for job_id in ("0", "7[1]", "7.", "7.0", "-7", "7 8", "*", "all"):
        assert not re.fullmatch(SgeAdapter.job_id, job_id)


def test_a_lost_submit_is_searched_among_the_20_latest_jobs(adapter: SgeAdapter) -> None:
    """Each job takes one command."""
    context = "<d><JB_context><context_list><VA_variable>PUNWAY</VA_variable><VA_value>m</VA_value></context_list></JB_context></d>"
    many = Output(0, xml_list(*(row("qw", number) for number in range(1, 1000))), "")
    answers(adapter, many, Output(0, "<d></d>", ""), Output(0, context, ""), *[Output(0, "<d></d>", "")] * 18)
    assert [job.id for job in adapter.find_tagged("m")] == ["998"]
    ran = answers(adapter, many, *[Output(0, "<d></d>", "")] * 20)
    assert adapter.find_tagged("m") == []
    assert [argv[-1] for argv in ran[1:]] == [str(number) for number in range(999, 979, -1)]


def test_output_of_a_job_is_unavailable_while_grid_engine_is_down(adapter: SgeAdapter) -> None:
    """The error is not JobNotFound: Grid Engine may know the job."""
    answers(adapter, Output(1, "", "error: commlib error: got select error (Connection refused)\n"))
    with pytest.raises(SchedulerUnavailable):
        adapter.output("4242")
    answers(adapter, Output(1, "", "Following jobs do not exist or permissions are not sufficient: \n4242\n"))
    with pytest.raises(JobNotFound):
        adapter.output("4242")
