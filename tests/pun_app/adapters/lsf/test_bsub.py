"""pun_app/adapters/lsf/bsub.py against the usage that volclava 2.2 prints, and IBM's documentation of bsub."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pun_app.adapters.errors import Rejected
from pun_app.adapters.lsf.bsub import memory_units_per_mib, submit_command
from tests.pun_app.adapters.lsf.common import FULL, PLAIN, RECORDED, UNITS_PER_MIB
from tests.pun_app.adapters.recordings import options_of

DOCUMENTED_OPTIONS = {"-U": True, "-gpu": True}
"""Options of IBM's bsub (LSF 10.1, bsub reference) that volclava lacks, and whether they take a value."""


def test_a_submit_uses_options_that_bsub_has() -> None:
    """Each option is in the usage that volclava prints or in IBM's documentation, and has a value where that says so."""
    usage = RECORDED.output("bsub-bad-option").err
    argv = submit_command(FULL, UNITS_PER_MIB)
    for option in options_of(argv):
        if option in DOCUMENTED_OPTIONS:
            takes_a_value = DOCUMENTED_OPTIONS[option]
        else:
            assert re.search(rf"\[{option}[ \]]|\| {option}[ \]]", usage), option
            takes_a_value = bool(re.search(rf"\[{option} [\w\"]", usage))
        following = argv[argv.index(option) + 1 : argv.index(option) + 2]
        assert takes_a_value == bool(following and not following[0].startswith("-")), option


def test_options_become_arguments() -> None:
    """The script's own description, output and errors are kept."""
    argv = submit_command(FULL, UNITS_PER_MIB)
    given = dict(pairwise(argv))
    assert given["-J"] == "n[1-9:2]%3"
    assert given["-W"] == "2"  # Minutes, and no fewer seconds than were asked for.
    assert given["-R"] == "span[ptile=2] rusage[mem=100]"
    assert given["-M"] == "102400"
    assert given["-n"] == "4"
    assert given["-w"] == "started(1) && done(2) && done(3) && exit(4) && ended(5[1])"
    assert given["-Jd"] == "tag"
    own = replace(PLAIN, content='#!/bin/sh\n#BSUB -Jd "my own"\n#BSUB -o mine.out\ntrue\n')
    assert submit_command(own, UNITS_PER_MIB) == ["bsub", "-Jd", "my own tag"]
    assert submit_command(PLAIN, UNITS_PER_MIB)[-2:] == ["-o", "lsf-%J.out"]


@pytest.mark.parametrize(
    "wrong",
    [{"array": "0-3"}, {"array": "1,0"}, {"nodes": 2, "cores": 3}, {"job_name": "a[1-3]"}],
    ids=["index 0", "descending", "uneven cores", "brackets in the name"],
)
def test_a_value_that_lsf_cannot_take_is_refused(wrong: dict[str, object]) -> None:
    """volclava makes one plain job of ``arr[0-3]``, and prints a warning that the list was bad."""
    with pytest.raises(Rejected):
        submit_command(replace(PLAIN, **wrong), UNITS_PER_MIB)  # type: ignore[arg-type]


def test_the_same_path_for_both_streams_is_given_once() -> None:
    """With -o alone, LSF writes both streams to one file."""
    argv = submit_command(replace(PLAIN, output_path="/o", error_path="/o"), UNITS_PER_MIB)
    assert "-e" not in argv and argv[argv.index("-o") + 1] == "/o"


def test_memory_is_in_the_units_of_lsf_conf(tmp_path: Path) -> None:
    """LSF_UNIT_FOR_LIMITS sets the unit; otherwise -M is in KB and rusage[mem] in MB."""
    (tmp_path / "lsf.conf").write_text("# x\nLSF_UNIT_FOR_LIMITS=GB\n")
    units = memory_units_per_mib(str(tmp_path))
    assert units == (1 / 1024, 1 / 1024)
    argv = submit_command(replace(PLAIN, memory=2048), units)
    assert argv[argv.index("-M") + 1] == "2"
    (tmp_path / "lsf.conf").write_text("LSF_SERVERDIR=/x\n")
    assert memory_units_per_mib(str(tmp_path)) == (1024, 1)
