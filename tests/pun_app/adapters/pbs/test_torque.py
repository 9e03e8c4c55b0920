"""pun_app/adapters/pbs/torque.py against recorded output of Torque (its last development version)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from pun_app.adapters.command import Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, OPTIONS, QUEUED, QUEUED_HELD, RUNNING
from pun_app.adapters.pbs.torque import TorqueAdapter
from pun_app.adapters.pbs.torque_qsub import submit_command
from tests.pun_app.adapters.pbs.common import PLAIN, TORQUE, TORQUE_FULL
from tests.pun_app.adapters.recordings import answers


@pytest.fixture
def adapter() -> TorqueAdapter:
    """An adapter for a user of the recordings."""
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
def test_status_and_outcome_of_each_recorded_job(
    adapter: TorqueAdapter, name: str, status: str, outcome: str | None, exit_code: int | None
) -> None:
    """A job has ended exactly if it is completed."""
    answers(adapter, TORQUE.output(name))
    job = adapter.job("1.vm")
    assert (job.status, job.outcome, job.exit_code) == (status, outcome, exit_code)
    assert job.submitted_at is not None
    assert (job.ended_at is not None) == (status == COMPLETED)


def test_several_jobs_are_several_documents(adapter: TorqueAdapter) -> None:
    """qstat -x prints one document after the other. An unknown job among them is not a failure."""
    answers(adapter, Output(0, "14.vm\n24.vm\n", ""), TORQUE.output("qstat-x-two"))
    assert [job.id for job in adapter.jobs()] == ["14.vm", "24.vm"]
    answers(adapter, Output(0, "14.vm\n99999.vm\n", ""), TORQUE.output("qstat-x-one-unknown"))
    assert [job.id for job in adapter.jobs()] == ["14.vm"]


def test_an_array_is_read_with_its_tasks(adapter: TorqueAdapter) -> None:
    """Without -t, the id of an array prints all users' jobs, as the recording shows."""
    ran = answers(adapter, TORQUE.output("qstat-x-t-array"))
    array = adapter.job("20[].vm")
    assert ran == [["qstat", "-x", "-t", "20[].vm"]]
    assert (array.id, array.name) == ("20[].vm", "STDIN")
    assert TORQUE.output("qstat-x-array").out.count("<Job>") > 10


@pytest.mark.parametrize("name", ["qstat-x-unknown", "qstat-x-other"])
def test_an_unknown_job_is_not_found(adapter: TorqueAdapter, name: str) -> None:
    """Torque says the same of a job that the user may not see."""
    answers(adapter, TORQUE.output(name))
    with pytest.raises(JobNotFound):
        adapter.job("99999")


def test_another_users_job_is_not_found(adapter: TorqueAdapter) -> None:
    """Torque prints it where the server allows that."""
    adapter.user = "hpcb"
    answers(adapter, TORQUE.output("qstat-x-one"))
    with pytest.raises(JobNotFound):
        adapter.job("14.vm")


@pytest.mark.parametrize("name", [n for p in ("qsub", "qdel", "qhold", "qrls") for n in TORQUE.of(p)])
def test_every_recorded_failure_raises_the_right_error(adapter: TorqueAdapter, name: str) -> None:
    """A submit that succeeded has a job id; a failed command has a message without its usage."""
    output = TORQUE.output(name)
    if output.code == 0:
        if name.startswith("qsub"):
            assert adapter.parse_job_id(output) == output.out.strip()
        return
    error = adapter.failure(output)
    assert type(error) is (JobNotFound if output.code == 153 else Rejected)
    assert not re.search("usage|qsub:|exiting|/opt", error.message), error.message


def test_a_server_that_is_down_is_unavailable(adapter: TorqueAdapter) -> None:
    """The messages are those of Torque's client library (pbs_strerror, trqauthd)."""
    for stderr in (
        "socket_connect_unix failed: 15137\nqstat: cannot connect to server vm (errno=15137) could not connect to trqauthd",
        "Unable to communicate with vm(10.98.0.1)\nCannot connect to specified server host 'vm'.\nqstat: cannot connect to server",
    ):
        assert isinstance(adapter.failure(Output(1, "", stderr)), NotSent)
    assert isinstance(adapter.failure(Output(1, "", "qsub: submit error (Timeout)")), SchedulerUnavailable)


@pytest.mark.parametrize("cut", [30, 200, -9])
def test_output_that_was_cut_off_is_unavailable(adapter: TorqueAdapter, cut: int) -> None:
    """Output that was cut off anywhere is an error, and never a shorter list."""
    answers(adapter, Output(0, TORQUE.output("qstat-x-one").out[:cut], ""))
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        adapter.job("14.vm")


def test_every_option_is_in_a_submit(adapter: TorqueAdapter) -> None:
    """No option of a submit is dropped."""
    assert adapter.options == set(OPTIONS)
    for name in OPTIONS:
        value: Any = ("-p", "5") if name == "native" else getattr(TORQUE_FULL, name)
        request = replace(PLAIN, **{name: value})
        assert submit_command(request) != submit_command(PLAIN), name
