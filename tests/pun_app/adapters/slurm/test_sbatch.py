"""Tests of pun_app/adapters/slurm/sbatch.py. What Slurm itself makes of it is tested in tests/system/."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pun_app.adapters.command_line import job_environment
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import OPTIONS, JobRequest
from pun_app.adapters.slurm.sbatch import parse_job_id, submit_command

REQUEST = JobRequest("#!/bin/sh\n", "/home/alice", submit_tag="tag")


def test_each_field_is_one_word_behind_its_option() -> None:
    """No value becomes an option, whatever it is."""
    argv = submit_command(
        replace(
            REQUEST,
            job_name="--help",
            queue_name="-p x",
            accounting_id="a b",
            wall_time=3661,
            output_path="--o",
            error_path="-e",
        ),
    )
    assert argv == [
        "sbatch", "--parsable", "--get-user-env", "--chdir=/home/alice", "--job-name=--help", "--partition=-p x",
        "--account=a b", "--output=--o", "--error=-e", "--time=61:01", "--comment=tag",
    ]  # fmt: skip


def test_every_option_has_its_place() -> None:
    """In argv or in the job's environment: none is dropped."""
    request = replace(
        REQUEST, array="1-9%2", after=("1",), afterok=("2", "3_4"), afternotok=("5",), afterany=("6",), nodes=2, cores=8,
        memory=4096, gpus=1, qos="--long", reservation="a b", environment={"A": "1\n2", "PYTHONPATH": "/x"}, hold=True,
        email="alice@example.org",
    )  # fmt: skip
    assert submit_command(request) == [
        "sbatch", "--parsable", "--get-user-env", "--chdir=/home/alice", "--array=1-9%2", "--nodes=2", "--ntasks=8",
        "--gpus-per-node=1", "--qos=--long", "--reservation=a b", "--mem=4096M", "--hold",
        "--mail-user=alice@example.org", "--mail-type=END,FAIL", "--dependency=after:1,afterok:2:3_4,afternotok:5,afterany:6",
        "--comment=tag",
    ]  # fmt: skip
    assert job_environment(request, "sbatch") == {"A": "1\n2", "PYTHONPATH": "/x"}
    plain, samples = submit_command(REQUEST), dict(SAMPLES)
    assert set(samples) == set(OPTIONS)
    for name, value in samples.items():
        given = replace(REQUEST, **{name: value})
        assert given.asked() == [name]
        assert submit_command(given) != plain or job_environment(given, "sbatch"), name


SAMPLES: list[tuple[str, Any]] = [
    *(
        (name, "x")
        for name in (
            "job_name",
            "queue_name",
            "accounting_id",
            "output_path",
            "error_path",
            "array",
            "qos",
            "reservation",
            "email",
        )
    ),
    *((name, 1) for name in ("wall_time", "nodes", "cores", "memory", "gpus")),
    *((name, ("1",)) for name in ("after", "afterok", "afternotok", "afterany", "native")),
    ("environment", {"A": "1"}),
    ("hold", True),
]


@pytest.mark.parametrize("name", ["SBATCH_ACCOUNT", "SLURM_CONF", "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "BASH_ENV"])
def test_a_variable_that_would_steer_sbatch(name: str) -> None:
    """SBATCH_ACCOUNT is an option by another name."""
    with pytest.raises(Rejected, match=name):
        job_environment(replace(REQUEST, environment={name: "x"}), "sbatch")


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_value_stays_in_its_word(name: str, queue: str) -> None:
    argv = submit_command(replace(REQUEST, job_name=name, queue_name=queue))
    assert f"--job-name={name}" in argv
    assert f"--partition={queue}" in argv
    assert len(argv) == 7


@pytest.mark.parametrize(
    ("native", "content", "comment"),
    [((), "", "tag"), (("--comment=x",), "", "x tag"), (("--comment", "x y"), "", "x y tag"),
     ((), "#SBATCH --comment='a b' -N 1\n", "a b tag"), ((), "#SBATCH --comment x\n", "x tag"),
     ((), "#SBATCH --comment='unclosed\n", "tag"), ((), "echo '#SBATCH --comment=x'\n", "tag"), ((), "#SBATCH --comment\n", "tag")],
    ids=range(8),
)  # fmt: skip
def test_the_mark_stands_beside_a_users_comment(native: tuple[str, ...], content: str, comment: str) -> None:
    """Whichever comment sbatch takes, the last, ends with the submit tag."""
    argv = submit_command(replace(REQUEST, native=native, content=f"#!/bin/sh\n{content}"))
    last = [
        argv[i + 1] if word == "--comment" else word.partition("=")[2]
        for i, word in enumerate(argv)
        if word.startswith("--comment")
    ]
    assert last[-1] == comment


@pytest.mark.parametrize(("out", "job_id"), [("12\n", "12"), ("12;owens\n", "12")])
def test_the_id_of_a_submit(out: str, job_id: str) -> None:
    assert parse_job_id(out, "owens") == job_id


@pytest.mark.parametrize("out", ["", "Usage: sbatch\n", "12 13", "sbatch: Job 5 to start at"])
def test_what_is_no_submit_has_no_id(out: str) -> None:
    assert parse_job_id(out, "owens") is None


def test_a_job_on_another_cluster_is_not_this_ones() -> None:
    with pytest.raises(Rejected, match="cluster other"):
        parse_job_id("12;other\n", "owens")
