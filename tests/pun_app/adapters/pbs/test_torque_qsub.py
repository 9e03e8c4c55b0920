"""pun_app/adapters/pbs/torque_qsub.py against the usage that Torque's qsub prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pun_app.adapters.errors import Rejected
from pun_app.adapters.pbs.torque_qsub import submit_command
from tests.pun_app.adapters.pbs.common import PLAIN, TORQUE, TORQUE_FULL
from tests.pun_app.adapters.recordings import follows


def test_a_submit_uses_options_that_qsub_has() -> None:
    """Each option is in the recorded usage, and has a value where that says so."""
    argv = submit_command(TORQUE_FULL)
    follows(argv, TORQUE.output("qsub-bad-option").err)


def test_options_become_arguments() -> None:
    """Torque has no steps in arrays, so they become lists."""
    text = " ".join(submit_command(TORQUE_FULL))
    for part in (
        "-d /tmp", "-l walltime=90", "-l nodes=2:ppn=2:gpus=1", "-l mem=200mb", "-t 1-9%2", "-l qos=q", "-W x=advres:r.1",
        "-W depend=after:1.vm,afterok:2.vm:3.vm,afternotok:4.vm,afterany:5",
    ):  # fmt: skip
        assert part in text
    # No steps in Torque; a list is the same.
    assert "1,4,7%2" in submit_command(replace(PLAIN, array="1-9:3%2"))


@pytest.mark.parametrize(
    "wrong",
    [{"array": "0-9:0"}, {"array": "9-1:2"}, {"nodes": 2, "cores": 3}],
    ids=["step 0", "descending", "uneven cores"],
)
def test_a_value_that_torque_cannot_take_is_refused(wrong: dict[str, object]) -> None:
    """Some arrays would crash Torque's server."""
    with pytest.raises(Rejected):
        submit_command(replace(PLAIN, **wrong))  # type: ignore[arg-type]
