"""pun_app/adapters/sge/qstat.py, with output in the form of Son of Grid Engine 8.1.9."""

from __future__ import annotations

import pytest

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED
from pun_app.adapters.sge.qstat import epoch, parse_rows
from tests.pun_app.adapters.sge.common import row, xml_list


@pytest.mark.parametrize(
    ("state", "status"),
    [("qw", QUEUED), ("hqw", QUEUED_HELD), ("hRwq", QUEUED_HELD), ("Eqw", QUEUED), ("r", RUNNING), ("t", RUNNING), ("Rr", RUNNING),
     ("hr", RUNNING), ("dr", RUNNING), ("dhr", RUNNING), ("s", SUSPENDED), ("S", SUSPENDED), ("T", SUSPENDED), ("Rs", SUSPENDED),
     ("tS", SUSPENDED), ("z", COMPLETED), ("~", None)],
)  # fmt: skip
def test_status_of_each_state(state: str, status: str | None) -> None:
    """An unknown state has no status, and keeps its native state."""
    ((job,),) = parse_rows(xml_list(row(state))).values()
    assert (job.status, job.native_state) == (status, state)


def test_a_job_with_predecessors_is_not_held() -> None:
    """Grid Engine holds it, but the user did not."""
    ((job,),) = parse_rows(xml_list(row("hqw", more="<predecessor_jobs>3</predecessor_jobs>"))).values()
    assert job.status == QUEUED


def test_all_fields_of_a_row() -> None:
    """Times are in UTC, and ``%lt;`` in a name is ``<``."""
    ((job,),) = parse_rows(xml_list(row("r", more="<JAT_start_time>2026-11-23T05:41:13</JAT_start_time>"))).values()
    assert (job.id, job.name, job.owner, job.queue) == ("7", "h<1>", "alice", "all.q")
    assert (job.started_at, job.wallclock_limit) == (1795412473, 3600)


def test_a_task_is_found_in_the_rows_of_its_array() -> None:
    """A row holds one running task, or the ranges of all pending ones."""
    text = xml_list(row("r", more="<tasks>1</tasks>"), row("qw", more="<tasks>3-9:2,12</tasks>"))
    assert [len(parse_rows(text, task).get("7", [])) for task in ("1", "2", "3", "5", "12", "13")] == [1, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("cut", [0, 60, -20])
def test_output_that_was_cut_off_is_unavailable(cut: int) -> None:
    """Output that was cut off anywhere is an error, and never a shorter list."""
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        parse_rows(xml_list(row("r"))[:cut])


@pytest.mark.parametrize("text", ["1795412473", "1795412473123", "1795412473123456"])
def test_seconds_milliseconds_and_microseconds(text: str) -> None:
    """Descendants of Grid Engine print times in different units."""
    assert epoch(text) == 1795412473
    assert (epoch("0"), epoch(""), epoch("-1")) == (0, None, None)
