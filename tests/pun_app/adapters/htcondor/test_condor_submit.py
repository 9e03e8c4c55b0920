"""pun_app/adapters/htcondor/condor_submit.py, by the submit description of HTCondor's manual."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pun_app.adapters.errors import Rejected, SchedulerUnavailable
from pun_app.adapters.htcondor.condor_submit import site_lines
from tests.pun_app.adapters.htcondor.common import PLAIN, described


def test_options_become_lines() -> None:
    """Text of the user is never a macro."""
    full = replace(
        PLAIN, job_name="n $(x)", accounting_id="grp", wall_time=90, output_path="/o", error_path="/e", array="1-9:4%2", cores=2,
        memory=100, gpus=1, environment={"A": "it's \"x\" $(y)", "B": ""}, hold=True, email="a@example.org",
    )  # fmt: skip
    lines = described(full)
    assert lines["executable"] == "/x/script"
    assert lines["copy_to_spool"] == "true"
    assert lines["batch_name"] == "n $(DOLLAR)(x)"
    assert lines["environment"] == "\"A='it''s \"\"x\"\" $(DOLLAR)(y)' B='' PUNWAY_ARRAY_INDEX='$(index)'\""
    assert (lines["request_cpus"], lines["request_memory"], lines["request_gpus"]) == ("2", "100", "1")
    assert (lines["allowed_execute_duration"], lines["hold"], lines["max_materialize"]) == ("90", "true", "2")
    assert lines["queue"] == "queue 1 index in (1 5 9)"
    assert (lines["notify_user"], lines["notification"], lines["accounting_group"]) == (
        "a@example.org",
        "Complete",
        "grp",
    )
    plain = described(PLAIN)
    assert plain["error"] == plain["output"] == "htcondor-$(Cluster).out"
    assert plain["My.PunwaySubmitTag"] == '"tag"'


@pytest.mark.parametrize(
    "wrong",
    [{"array": "5-1"}, {"array": "1-9:0"}, {"array": "0-99999999"}, {"job_name": "a\\"}, {"environment": {"A": "1\n2"}}, {"environment": {"A": "$$(x)"}},
     {"job_name": "a$$(x)"}, {"job_name": "a$$"}, {"output_path": "/a/$$/o"}, {"error_path": "/$$(DOLLARDOLLAR)"}, {"workdir": "/a$$b"}],
    ids=[
        "descending", "step 0", "too many tasks", "backslash", "newline in a variable", "$$ in a variable", "$$(x) in the name",
        "$$ in the name", "$$ in output_path", "$$ in error_path", "$$ in the workdir",
    ],
)  # fmt: skip
def test_a_value_that_htcondor_cannot_take_is_refused(wrong: dict[str, Any]) -> None:
    """A backslash at the end would continue the line, and HTCondor replaces $$ on the job's host."""
    with pytest.raises(Rejected, match="options|workdir"):
        described(replace(PLAIN, **wrong))


def test_lines_of_the_site() -> None:
    """A mapping in the cluster file adds lines to every description."""
    lines = site_lines(
        {
            "adapter": "htcondor",
            "default_universe": "docker",
            "default_docker_image": "rocky",
            "additional_attributes": {"+X": 1},
        }
    )
    assert lines == {"universe": "docker", "docker_image": "rocky", "+X": "1"}
    with pytest.raises(SchedulerUnavailable, match="additional_attributes"):
        site_lines({"adapter": "htcondor", "additional_attributes": ["x"]})
