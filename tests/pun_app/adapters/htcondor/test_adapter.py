"""pun_app/adapters/htcondor/adapter.py, with ClassAds as HTCondor's manual describes them.

condor_q.py and site.py are tested here too.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable, Unanswered, Unsupported
from pun_app.adapters.htcondor.adapter import HTCondorAdapter
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Period
from tests.pun_app.adapters.htcondor.common import PLAIN, described
from tests.pun_app.adapters.recordings import answers

AD = {
    "ClusterId": 12, "ProcId": 0, "Owner": "alice", "JobStatus": 1, "JobBatchName": "n", "QDate": 100, "RequestCpus": 2,
    "RequestMemory": 128, "EnteredCurrentStatus": 400, "AllowedExecuteDuration": 60,
}  # fmt: skip

ENDED_AD = {
    **AD, "JobStatus": 4, "JobCurrentStartDate": 200, "CompletionDate": 300, "RemoteWallClockTime": 100.0, "ExitCode": 0,
    "ExitBySignal": False, "RemoteUserCpu": 50.5, "RemoteSysCpu": 0.5, "ResidentSetSize_RAW": 1024,
}  # fmt: skip


def ads_output(*of: dict[str, Any]) -> Output:
    """Return the output of a command that prints these ads."""
    return Output(0, json.dumps(of) if of else "", "")


@pytest.fixture
def adapter() -> HTCondorAdapter:
    """An adapter for the user alice."""
    adapter = HTCondorAdapter("c", {"adapter": "htcondor"})
    adapter.user = "alice"
    return adapter


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (1, QUEUED),
        (2, RUNNING),
        (3, RUNNING),
        (4, COMPLETED),
        (5, QUEUED_HELD),
        (6, RUNNING),
        (7, SUSPENDED),
        (99, None),
    ],
)
def test_status_of_each_job_status(adapter: HTCondorAdapter, number: int, status: str | None) -> None:
    """An unknown JobStatus has no status."""
    answers(adapter, ads_output({**AD, "JobStatus": number, "ExitCode": 0}), ads_output())
    job = adapter.job("12")
    assert (job.id, job.status, job.name, job.wallclock_limit) == ("12", status, "n", 60)


@pytest.mark.parametrize(
    ("more", "outcome", "exit_code"),
    [
        ({}, "succeeded", 0), ({"ExitCode": 3}, "failed", 3), ({"ExitBySignal": True, "ExitSignal": 9}, "failed", 137),
        ({"JobStatus": 3, "CompletionDate": 0, "RemoveReason": "via condor_rm (by user alice)"}, "cancelled", None),
        ({"JobStatus": 3, "CompletionDate": 0, "LastHoldReasonCode": 47}, "timed_out", None),
    ],
    ids=["success", "exit code", "signal", "condor_rm", "time limit"],
)  # fmt: skip
def test_outcome_from_the_history(
    adapter: HTCondorAdapter, more: dict[str, Any], outcome: str, exit_code: int | None
) -> None:
    """A removed job has no date of completion."""
    answers(adapter, ads_output(), ads_output({**ENDED_AD, **more}))
    job = adapter.job("12")
    assert (job.status, job.outcome, job.exit_code) == (COMPLETED, outcome, exit_code)
    assert job.ended_at == (400 if "CompletionDate" in more else 300)


def test_an_array_is_one_job(adapter: HTCondorAdapter) -> None:
    """Its procs may be in the queue and in the history. A proc has an id of its own."""
    queue, history = ads_output({**AD, "ProcId": 1, "JobStatus": 2, "JobCurrentStartDate": 200}), ads_output(ENDED_AD)
    answers(adapter, queue, history)
    (job,) = adapter.jobs()
    assert (job.id, job.status) == ("12", RUNNING)
    answers(adapter, ads_output(), ads_output({**ENDED_AD, "ProcId": 1}))
    assert adapter.job("12.1").id == "12.1"


def test_another_users_job_is_not_found(adapter: HTCondorAdapter) -> None:
    """A job that is neither in the queue nor in the history is not found either."""
    for queue, history in (
        (ads_output({**AD, "Owner": "bob"}), ads_output()),
        (ads_output(), ads_output({**ENDED_AD, "Owner": "bob"})),
        (ads_output(), ads_output()),
    ):
        answers(adapter, queue, history)
        with pytest.raises(JobNotFound):
            adapter.job("12")


def test_history(adapter: HTCondorAdapter) -> None:
    """It is read from the latest job back to the beginning of the period, by the time when each job left the queue."""
    ran = answers(adapter, ads_output(ENDED_AD, {**ENDED_AD, "ClusterId": 13, "JobStatus": 3, "CompletionDate": 0}))
    first, second = adapter.history(Period(250, 500))
    assert ran[0][:4] == ["condor_history", "alice", "-since", "EnteredCurrentStatus < 250"]
    assert (first.cpus, first.cpu_time, first.memory_used, first.memory_requested) == (2, 51, 1024**2, 128 * 1024**2)
    assert (second.job.outcome, second.job.ended_at) == ("cancelled", 400)


@pytest.mark.parametrize("text", ["[{", '{"ClusterId": 1', "Error: x", '[{"ClusterId": "x"}]'])
def test_output_that_was_cut_off_is_unavailable(adapter: HTCondorAdapter, text: str) -> None:
    """Output that is not JSON, or not that of ads, is an error too."""
    answers(adapter, Output(0, text, ""))
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        adapter.jobs()


@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        ("Couldn't find/remove all jobs in cluster 99", JobNotFound), ("Couldn't find/hold all jobs in cluster 99", JobNotFound),
        ("ERROR: Can't find address of local schedd", NotSent), ("Error: Couldn't contact the condor_collector on x.", Unanswered),
        ("-- Failed to fetch ads from: <127.0.0.1:9618> : x", Unanswered),
        ('ERROR: on Line 3 of submit file: invalid request_memory "x"', Rejected),
    ],
    ids=["condor_rm", "condor_hold", "no schedd", "no collector", "no answer", "bad value"],
)  # fmt: skip
def test_each_failure_raises_the_right_error(adapter: HTCondorAdapter, stderr: str, error: type[Exception]) -> None:
    """The messages are those of HTCondor's commands."""
    assert type(adapter.failure(Output(1, "", stderr))) is error


def test_every_option_is_in_a_submit_or_refused(adapter: HTCondorAdapter) -> None:
    """No option of a submit is dropped."""
    values: dict[str, Any] = {
        "job_name": "n", "queue_name": "schedd", "accounting_id": "g", "wall_time": 9, "output_path": "/o", "error_path": "/e",
        "array": "1-2", "cores": 2, "memory": 5, "gpus": 1, "environment": {"A": "1"}, "hold": True, "email": "a@b.c", "nodes": 1, "qos": "q",
        "reservation": "r", "native": ("-append", "x = 1"), "after": ("1",), "afterok": ("1",), "afternotok": ("1",), "afterany": ("1",),
    }  # fmt: skip
    for name in OPTIONS:
        request = replace(PLAIN, **{name: values[name]})
        if name not in adapter.options:
            with pytest.raises(Rejected, match=f"options.{name}"):
                adapter.submit(request)
        elif name not in ("queue_name", "native"):
            assert described(request) != described(PLAIN), name


def test_condor_submit_reads_the_script_from_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the user can read the file, and it is deleted afterwards."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    program = tmp_path / "condor_submit"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/argv\ncat > {tmp_path}/description\n'
        f"file=$(sed -n 's/^executable = //p' {tmp_path}/description)\nstat -c %a $file > {tmp_path}/mode\ncat $file > {tmp_path}/script\n"
        "echo '31.0 - 31.0'\n"
    )
    program.chmod(0o755)
    adapter = HTCondorAdapter("c", {"adapter": "htcondor", "bin": str(tmp_path), "cluster": "ap1"})
    job = adapter.submit(replace(PLAIN, native=("-append", "x = 1"), workdir=str(home)))
    assert job.id == "31"
    assert (tmp_path / "argv").read_text() == "-name ap1 -terse -append x = 1 -\n"
    assert (tmp_path / "script").read_text() == PLAIN.content
    assert (tmp_path / "mode").read_text() == "700\n"
    assert re.search(r'^My.PunwaySubmitTag = "tag"$', (tmp_path / "description").read_text(), re.M)
    assert os.listdir(home / ".cache" / "punway") == []


def test_accounts_are_read_from_the_user_group_map(tmp_path: Path) -> None:
    """A missing key in the cluster file is Unsupported. If the file is missing, the error names the key."""
    groups = tmp_path / "map"
    groups.write_text("# comment\n* bob chem\n* alice physics,chem\n\n*\n")
    adapter = HTCondorAdapter("c", {"adapter": "htcondor", "user_group_map": str(groups)})
    adapter.user = "alice"
    assert [(account.name, account.default) for account in adapter.accounts()] == [("physics", True), ("chem", False)]
    groups.unlink()
    with pytest.raises(SchedulerUnavailable, match="user_group_map"):
        adapter.accounts()
    with pytest.raises(Unsupported):
        HTCondorAdapter("c", {"adapter": "htcondor"}).accounts()


def test_queues_are_schedds_and_slots_are_summed(adapter: HTCondorAdapter) -> None:
    """A slot that is claimed is in use."""
    answers(adapter, ads_output({"Name": "ap1"}, {"Name": "ap2"}))
    assert [queue.name for queue in adapter.queues()] == ["ap1", "ap2"]
    slot = {"Machine": "a", "State": "Claimed", "Cpus": 3, "Gpus": 1}
    answers(
        adapter,
        ads_output(
            slot, {"Machine": "a", "State": "Unclaimed", "Cpus": 5}, {"Machine": "b", "State": "Unclaimed", "Cpus": 8}
        ),
    )
    info = adapter.info()
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 2, 3, 16)
    assert (info.active_gpus, info.total_gpus) == (1, 1)
