"""pun_app/adapters/pbs/pbspro_qsub.py and qsub.py against the usage that qsub of OpenPBS 23.06 prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pun_app.adapters.errors import Rejected
from pun_app.adapters.pbs.pbspro import PbsProAdapter
from pun_app.adapters.pbs.pbspro_qsub import submit_command
from tests.pun_app.adapters.pbs.common import OPENPBS, PBSPRO_FULL, PLAIN
from tests.pun_app.adapters.recordings import follows


@pytest.fixture
def adapter() -> PbsProAdapter:
    """An adapter for a user of the recordings."""
    adapter = PbsProAdapter("c", {"adapter": "pbspro"})
    adapter.user = "pbsa"
    return adapter


def test_a_submit_uses_options_that_qsub_has() -> None:
    """Each option is in the recorded usage, and has a value where that says so."""
    argv = submit_command(PBSPRO_FULL)
    follows(argv, OPENPBS.output("qsub-bad-option").err)
    assert {"-f", "-N", "-q", "-A", "-l", "-o", "-e", "-J", "-W", "-h", "-M", "-m", "-v"} <= set(argv)


def test_options_become_arguments() -> None:
    """The script's own streams are kept."""
    text = " ".join(submit_command(PBSPRO_FULL))
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


@pytest.mark.parametrize(
    ("given", "argument"),
    [("0-9", "0-9"), ("1-9:2", "1-9:2"), ("1-100%10", "1-100%10"), ("5", "5-6:2"), ("7-7", "7-8:2")],
)
def test_an_array_becomes_one_range(given: str, argument: str) -> None:
    """An array of one task becomes a range of two indices with a step of two."""
    assert argument in submit_command(replace(PLAIN, array=given))


@pytest.mark.parametrize(
    "wrong",
    [{"array": "1,3"}, {"nodes": 3, "cores": 2}, {"reservation": "R1", "queue_name": "workq"}],
    ids=["list", "fewer cores than nodes", "reservation and queue"],
)
def test_a_value_that_pbs_cannot_take_is_refused(wrong: dict[str, object]) -> None:
    """Each of them would fail, or make another job than was requested."""
    with pytest.raises(Rejected):
        submit_command(replace(PLAIN, **wrong))  # type: ignore[arg-type]
