"""pun_app/adapters/pbs/torque.py against what a Torque (its last master) said, and the options that its commands have."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable
from pun_app.adapters.markup import document
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, QUEUED_HELD, RUNNING, JobRequest
from pun_app.adapters.pbs.torque import TorqueAdapter, cluster_info, job_of, queues_of, submit_command
from tests.pun_app.adapters.recordings import Recordings, answers, follows

SAID = Recordings("torque")
PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp")
FULL = replace(
    PLAIN, job_name="n", queue_name="batch", accounting_id="a", wall_time=90, output_path="/o", error_path="/e", array="1-9%2",
    after=("1.vm",), afterok=("2.vm", "3.vm"), afternotok=("4.vm",), afterany=("5",), nodes=2, cores=4, memory=100, gpus=1, qos="q",
    reservation="r.1", environment={"A": "1"}, hold=True, email="a@example.org",
)  # fmt: skip


@pytest.fixture
def adapter() -> TorqueAdapter:
    adapter = TorqueAdapter("c", {"adapter": "torque", "host": "vm"})
    adapter.user = "hpca"
    return adapter


@pytest.mark.parametrize(
    ("name", "status", "outcome", "exit_code"),
    [
        ("qstat-x-held", QUEUED_HELD, None, None), ("qstat-x-dep", QUEUED, None, None), ("qstat-x-running", RUNNING, None, None),
        ("qstat-x-done", COMPLETED, "succeeded", 0), ("qstat-x-deleted", COMPLETED, "cancelled", None),
        ("qstat-x-deleted-running", COMPLETED, "cancelled", None), ("qstat-x-killed", COMPLETED, "failed", 137),
        ("qstat-x-walltime", COMPLETED, "timed_out", None),
    ],
)  # fmt: skip
def test_states(adapter: TorqueAdapter, name: str, status: str, outcome: str | None, exit_code: int | None) -> None:
    answers(adapter, SAID.output(name))
    job = adapter.job("1.vm")
    assert (job.status, job.outcome, job.exit_code) == (status, outcome, exit_code)
    assert job.submitted_at is not None
    assert (job.ended_at is not None) == (status == COMPLETED)


def test_several_jobs_are_several_documents(adapter: TorqueAdapter) -> None:
    """qstat -x prints one after the other, and an unknown one among them is no failure."""
    answers(adapter, Output(0, "14.vm\n24.vm\n", ""), SAID.output("qstat-x-two"))
    assert [job.id for job in adapter.jobs()] == ["14.vm", "24.vm"]
    answers(adapter, Output(0, "14.vm\n99999.vm\n", ""), SAID.output("qstat-x-one-unknown"))
    assert [job.id for job in adapter.jobs()] == ["14.vm"]


def test_an_array_is_asked_for_by_its_tasks(adapter: TorqueAdapter) -> None:
    """Without -t the id of an array lists everybody's jobs (so was seen)."""
    ran = answers(adapter, SAID.output("qstat-x-t-array"))
    array = adapter.job("20[].vm")
    assert ran == [["qstat", "-x", "-t", "20[].vm"]]
    assert (array.id, array.name) == ("20[].vm", "STDIN")
    assert SAID.output("qstat-x-array").out.count("<Job>") > 10


@pytest.mark.parametrize("name", ["qstat-x-unknown", "qstat-x-other"])
def test_a_job_that_is_not_there(adapter: TorqueAdapter, name: str) -> None:
    answers(adapter, SAID.output(name))
    with pytest.raises(JobNotFound):
        adapter.job("99999")


def test_another_users_job_is_not_there(adapter: TorqueAdapter) -> None:
    adapter.user = "hpcb"
    answers(adapter, SAID.output("qstat-x-one"))
    with pytest.raises(JobNotFound):
        adapter.job("14.vm")


@pytest.mark.parametrize("name", [n for p in ("qsub", "qdel", "qhold", "qrls") for n in SAID.of(p)])
def test_every_recorded_answer_to_a_change(adapter: TorqueAdapter, name: str) -> None:
    output = SAID.output(name)
    if output.code == 0:
        if name.startswith("qsub"):
            assert adapter.parse_job_id(output) == output.out.strip()
        return
    error = adapter.failure(output)
    assert type(error) is (JobNotFound if output.code == 153 else Rejected)
    assert not re.search("usage|qsub:|exiting|/opt", error.message), error.message


def test_a_server_that_is_down(adapter: TorqueAdapter) -> None:
    """As Torque's client library words it (pbs_strerror, trqauthd)."""
    for said in (
        "socket_connect_unix failed: 15137\nqstat: cannot connect to server vm (errno=15137) could not connect to trqauthd",
        "Unable to communicate with vm(10.98.0.1)\nCannot connect to specified server host 'vm'.\nqstat: cannot connect to server",
    ):
        assert isinstance(adapter.failure(Output(1, "", said)), NotSent)
    assert isinstance(adapter.failure(Output(1, "", "qsub: submit error (Timeout)")), SchedulerUnavailable)


@pytest.mark.parametrize("cut", [30, 200, -9])
def test_half_an_answer_is_none(adapter: TorqueAdapter, cut: int) -> None:
    answers(adapter, Output(0, SAID.output("qstat-x-one").out[:cut], ""))
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        adapter.job("14.vm")


def test_what_no_xml_may_have_hides_no_job() -> None:
    """A name with a control character, a state that is not known, a name that is markup."""
    text = "<Data><Job><Job_Id>1.vm</Job_Id><Job_Name>a\x01&lt;b></Job_Name><Job_Owner>u@h</Job_Owner><job_state>~</job_state></Job></Data>"
    (job,) = [job_of(found) for found in document(text, "Torque").iter("Job")]
    assert (job.name, job.status, job.native_state) == ("a\ufffd<b>", None, "~")


def test_queues() -> None:
    queues = {queue.name: queue for queue in queues_of(SAID.output("qstat-Q-f").out, SAID.output("qstat-B-f").out)}
    assert {name: (queue.state, queue.default) for name, queue in queues.items()} == {
        "batch": ("up", True), "short": ("up", False),
    }  # fmt: skip
    assert (queues["short"].time_limit, queues["short"].default_time_limit) == (600, 300)


def test_how_much_is_in_use() -> None:
    info = cluster_info(document(SAID.output("pbsnodes-x").out, "Torque"))
    assert (info.active_nodes, info.total_nodes, info.total_processors) == (1, 1, 4)
    shared = "<Data><Node><np>8</np><jobs>0-3,6/12.vm,4/13.vm</jobs></Node><Node><np>8</np></Node></Data>"
    info = cluster_info(document(shared, "Torque"))
    assert (info.active_nodes, info.active_processors, info.total_processors) == (1, 6, 16)


def test_a_submit_has_options_that_qsub_has() -> None:
    """Each is in the usage that the real qsub printed, with a value where that says so."""
    argv = submit_command(FULL)
    follows(argv, SAID.output("qsub-bad-option").err)


def test_what_a_submit_asks_for() -> None:
    text = " ".join(submit_command(FULL))
    for part in (
        "-d /tmp", "-l walltime=90", "-l nodes=2:ppn=2:gpus=1", "-l mem=200mb", "-t 1-9%2", "-l qos=q", "-W x=advres:r.1",
        "-W depend=after:1.vm,afterok:2.vm:3.vm,afternotok:4.vm,afterany:5",
    ):  # fmt: skip
        assert part in text
    # No steps in Torque; a list is the same.
    assert "1,4,7%2" in submit_command(replace(PLAIN, array="1-9:3%2"))


def test_every_option_is_in_a_submit(adapter: TorqueAdapter) -> None:
    assert adapter.options == set(OPTIONS)
    for name in OPTIONS:
        value: Any = ("-p", "5") if name == "native" else getattr(FULL, name)
        request = replace(PLAIN, **{name: value})
        assert submit_command(request) != submit_command(PLAIN), name


@pytest.mark.parametrize("wrong", [{"array": "0-9:0"}, {"array": "9-1:2"}, {"nodes": 2, "cores": 3}], ids=range(3))
def test_what_torque_cannot_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Rejected):
        submit_command(replace(PLAIN, **wrong))  # type: ignore[arg-type]
