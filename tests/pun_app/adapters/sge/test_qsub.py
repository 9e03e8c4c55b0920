"""pun_app/adapters/sge/qsub.py against the options of submit(1) of Son of Grid Engine 8.1.9."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.sge.adapter import SgeAdapter
from pun_app.adapters.sge.qsub import submit_command
from tests.pun_app.adapters.recordings import options_of
from tests.pun_app.adapters.sge.common import FULL, PLAIN

DOCUMENTED_OPTIONS = {
    "-terse": False, "-ac": True, "-wd": True, "-N": True, "-q": True, "-P": True, "-ar": True, "-o": True, "-e": True,
    "-j": True, "-l": True, "-pe": True, "-t": True, "-tc": True, "-h": False, "-M": True, "-m": True, "-hold_jid": True,
    "-v": True, "-S": True,
}  # fmt: skip
"""Options of qsub (submit(1) of Son of Grid Engine 8.1.9), and whether they take a value."""


def submit_argv(request: JobRequest) -> list[str]:
    """Return argv of a submit to a cell with the parallel environment smp."""
    return submit_command(request, "smp" if request.cores else None)


def test_the_same_path_for_both_streams_is_joined() -> None:
    """Two streams in one file would overwrite each other."""
    for error in ("/o", "/x/../o"):
        argv = submit_argv(replace(PLAIN, output_path="/o", error_path=error))
        assert "-e" not in argv and argv[argv.index("-j") + 1] == "y"
    assert "-j" not in submit_argv(replace(PLAIN, output_path="/o", error_path="/e"))


def test_a_submit_uses_options_that_qsub_has() -> None:
    """Each option is in the manual page, and has a value where that says so."""
    argv = submit_argv(FULL)
    for option in options_of(argv):
        following = argv[argv.index(option) + 1 : argv.index(option) + 2]
        assert DOCUMENTED_OPTIONS[option] == bool(following and not following[0].startswith("-")), option


def test_options_become_arguments() -> None:
    """The script's own shell and streams are kept."""
    text = " ".join(submit_argv(FULL))
    for part in (
        "-ac PUNWAY=tag", "-l h_rt=90", "-l h_vmem=34M", "-pe smp 3", "-t 1-9:2 -tc 3", "-hold_jid 5,6", "-S /bin/sh", "-v A", "-wd /tmp",
    ):  # fmt: skip
        assert part in text
    assert "-j y" not in text
    assert "-j y" in " ".join(submit_argv(PLAIN))
    own = replace(PLAIN, content="#!/bin/sh\n#$ -S /bin/csh\n#$ -e /x\n")
    assert not {"-S", "-j"} & set(submit_argv(own))


@pytest.mark.parametrize(
    "wrong",
    [{"array": "0-3"}, {"array": "1,3"}, {"job_name": "a b"}, {"job_name": "1a"}, {"output_path": "/a:b"}],
    ids=["index 0", "list", "blank in the name", "digit first", "colon in a path"],
)
def test_a_value_that_grid_engine_cannot_take_is_refused(adapter: SgeAdapter, wrong: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(Rejected, match="options"):
        submit_argv(replace(PLAIN, **wrong))
