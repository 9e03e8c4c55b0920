"""pun_app/adapters/htcondor/adapter.py, by HTCondor's manual: its submit description, ClassAds and commands' options."""

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
from pun_app.adapters.htcondor.submit import description
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, JobRequest, Period
from tests.pun_app.adapters.recordings import answers

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp", submit_tag="tag")
AD = {
    "ClusterId": 12, "ProcId": 0, "Owner": "alice", "JobStatus": 1, "JobBatchName": "n", "QDate": 100, "RequestCpus": 2,
    "RequestMemory": 128, "EnteredCurrentStatus": 400, "AllowedExecuteDuration": 60,
}  # fmt: skip
ENDED = {
    **AD, "JobStatus": 4, "JobCurrentStartDate": 200, "CompletionDate": 300, "RemoteWallClockTime": 100.0, "ExitCode": 0,
    "ExitBySignal": False, "RemoteUserCpu": 50.5, "RemoteSysCpu": 0.5, "ResidentSetSize_RAW": 1024,
}  # fmt: skip


def ads(*of: dict[str, Any]) -> Output:
    return Output(0, json.dumps(of) if of else "", "")


@pytest.fixture
def adapter() -> HTCondorAdapter:
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
def test_states_in_the_queue(adapter: HTCondorAdapter, number: int, status: str | None) -> None:
    answers(adapter, ads({**AD, "JobStatus": number, "ExitCode": 0}), ads())
    job = adapter.job("12")
    assert (job.id, job.status, job.name, job.wallclock_limit) == ("12", status, "n", 60)


@pytest.mark.parametrize(
    ("more", "outcome", "exit_code"),
    [
        ({}, "succeeded", 0), ({"ExitCode": 3}, "failed", 3), ({"ExitBySignal": True, "ExitSignal": 9}, "failed", 137),
        ({"JobStatus": 3, "CompletionDate": 0, "RemoveReason": "via condor_rm (by user alice)"}, "cancelled", None),
        ({"JobStatus": 3, "CompletionDate": 0, "LastHoldReasonCode": 47}, "timed_out", None),
    ],
    ids=range(5),
)  # fmt: skip
def test_how_a_job_ended(adapter: HTCondorAdapter, more: dict[str, Any], outcome: str, exit_code: int | None) -> None:
    """By its ad in the history; a job that was removed has no date of completion."""
    answers(adapter, ads(), ads({**ENDED, **more}))
    job = adapter.job("12")
    assert (job.status, job.outcome, job.exit_code) == (COMPLETED, outcome, exit_code)
    assert job.ended_at == (400 if "CompletionDate" in more else 300)


def test_an_array_is_one_job_and_its_procs(adapter: HTCondorAdapter) -> None:
    queue, history = ads({**AD, "ProcId": 1, "JobStatus": 2, "JobCurrentStartDate": 200}), ads(ENDED)
    answers(adapter, queue, history)
    (job,) = adapter.jobs()
    assert (job.id, job.status) == ("12", RUNNING)
    answers(adapter, ads(), ads({**ENDED, "ProcId": 1}))
    assert adapter.job("12.1").id == "12.1"


def test_a_job_of_another_user_is_not_there(adapter: HTCondorAdapter) -> None:
    for queue, history in (
        (ads({**AD, "Owner": "bob"}), ads()),
        (ads(), ads({**ENDED, "Owner": "bob"})),
        (ads(), ads()),
    ):
        answers(adapter, queue, history)
        with pytest.raises(JobNotFound):
            adapter.job("12")


def test_history(adapter: HTCondorAdapter) -> None:
    """Read from the end until before the period, by when each job got there."""
    ran = answers(adapter, ads(ENDED, {**ENDED, "ClusterId": 13, "JobStatus": 3, "CompletionDate": 0}))
    first, second = adapter.history(Period(250, 500))
    assert ran[0][:4] == ["condor_history", "alice", "-since", "EnteredCurrentStatus < 250"]
    assert (first.cpus, first.cpu_time, first.memory_used, first.memory_requested) == (2, 51, 1024**2, 128 * 1024**2)
    assert (second.job.outcome, second.job.ended_at) == ("cancelled", 400)


@pytest.mark.parametrize("text", ["[{", '{"ClusterId": 1', "Error: x", '[{"ClusterId": "x"}]'])
def test_half_an_answer_is_none(adapter: HTCondorAdapter, text: str) -> None:
    answers(adapter, Output(0, text, ""))
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        adapter.jobs()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Couldn't find/remove all jobs in cluster 99", JobNotFound), ("Couldn't find/hold all jobs in cluster 99", JobNotFound),
        ("ERROR: Can't find address of local schedd", NotSent), ("Error: Couldn't contact the condor_collector on x.", Unanswered),
        ("-- Failed to fetch ads from: <127.0.0.1:9618> : x", Unanswered),
        ('ERROR: on Line 3 of submit file: invalid request_memory "x"', Rejected),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_a_failure_means(adapter: HTCondorAdapter, said: str, kind: type[Exception]) -> None:
    assert type(adapter.failure(Output(1, "", said))) is kind


def described(request: JobRequest) -> dict[str, str]:
    text = description(request, "/x/script", {"universe": "vanilla"})
    lines = text.splitlines()
    assert lines[-1].startswith("queue ")
    return {**dict(line.split(" = ", 1) for line in lines[:-1]), "queue": lines[-1]}


def test_what_a_submit_asks_for() -> None:
    full = replace(
        PLAIN, job_name="n $(x)", accounting_id="grp", wall_time=90, output_path="/o", error_path="/e", array="1-9:4%2", cores=2,
        memory=100, gpus=1, environment={"A": "it's \"x\" $(y)", "B": ""}, hold=True, email="a@example.org",
    )  # fmt: skip
    said = described(full)
    assert said["executable"] == "/x/script"
    assert said["copy_to_spool"] == "true"
    assert said["batch_name"] == "n $(DOLLAR)(x)"
    assert said["environment"] == "\"A='it''s \"\"x\"\" $(DOLLAR)(y)' B='' PUNWAY_ARRAY_INDEX='$(index)'\""
    assert (said["request_cpus"], said["request_memory"], said["request_gpus"]) == ("2", "100", "1")
    assert (said["allowed_execute_duration"], said["hold"], said["max_materialize"]) == ("90", "true", "2")
    assert said["queue"] == "queue 1 index in (1 5 9)"
    assert (said["notify_user"], said["notification"], said["accounting_group"]) == ("a@example.org", "Complete", "grp")
    plain = described(PLAIN)
    assert plain["error"] == plain["output"] == "htcondor-$(Cluster).out"
    assert plain["My.PunwaySubmitTag"] == '"tag"'


def test_every_option_is_in_a_submit_or_refused(adapter: HTCondorAdapter) -> None:
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


@pytest.mark.parametrize(
    "wrong",
    [{"array": "5-1"}, {"array": "1-9:0"}, {"array": "0-99999999"}, {"job_name": "a\\"}, {"environment": {"A": "1\n2"}}, {"environment": {"A": "$$(x)"}},
     {"job_name": "a$$(x)"}, {"job_name": "a$$"}, {"output_path": "/a/$$/o"}, {"error_path": "/$$(DOLLARDOLLAR)"}, {"workdir": "/a$$b"}],
    ids=range(11),
)  # fmt: skip
def test_what_htcondor_cannot_have_is_refused(wrong: dict[str, Any]) -> None:
    """A last backslash would take in the next line of the description; $$ is filled in where the job runs."""
    with pytest.raises(Rejected, match="options|workdir"):
        described(replace(PLAIN, **wrong))


def test_a_submit_from_its_script_to_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """condor_submit finds the script as a file of the user's alone, which is gone afterwards; and the description."""
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


def test_accounts_are_in_the_sites_map(tmp_path: Path) -> None:
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


def test_schedds_and_slots(adapter: HTCondorAdapter) -> None:
    answers(adapter, ads({"Name": "ap1"}, {"Name": "ap2"}))
    assert [queue.name for queue in adapter.queues()] == ["ap1", "ap2"]
    slot = {"Machine": "a", "State": "Claimed", "Cpus": 3, "Gpus": 1}
    answers(
        adapter,
        ads(slot, {"Machine": "a", "State": "Unclaimed", "Cpus": 5}, {"Machine": "b", "State": "Unclaimed", "Cpus": 8}),
    )
    info = adapter.info()
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 2, 3, 16)
    assert (info.active_gpus, info.total_gpus) == (1, 1)


def test_the_sites_own_attributes_are_in_each_description() -> None:
    adapter = HTCondorAdapter(
        "c", {"adapter": "htcondor", "default_universe": "docker", "default_docker_image": "rocky", "additional_attributes": {"+X": 1}}
    )  # fmt: skip
    assert adapter._site == {"universe": "docker", "docker_image": "rocky", "+X": "1"}
    with pytest.raises(SchedulerUnavailable, match="additional_attributes"):
        HTCondorAdapter("c", {"adapter": "htcondor", "additional_attributes": ["x"]})
