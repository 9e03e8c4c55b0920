"""pun_app/adapters/lsf/bhist.py against recorded output of volclava 2.2."""

from __future__ import annotations

from pun_app.adapters.lsf.adapter import LsfAdapter
from pun_app.adapters.lsf.bhist import past_job
from pun_app.adapters.lsf.long_format import parse_long_format
from pun_app.adapters.model import Period
from tests.pun_app.adapters.lsf.common import NOW, RECORDED
from tests.pun_app.adapters.recordings import answers


def test_history(adapter: LsfAdapter) -> None:
    """bhist breaks its lines in the middle of words, and its times have no year."""
    (past,) = [past_job(record) for record in parse_long_format(RECORDED.output("bhist-l-full").out)]
    assert (past.job.outcome, past.job.name, past.job.started_at, past.job.ended_at) == (
        "succeeded", "demo-job", 1795375189, 1795375220,
    )  # fmt: skip
    elements = [past_job(record).job for record in parse_long_format(RECORDED.output("bhist-l-array").out)]
    assert [(job.id, job.outcome, job.queue) for job in elements] == [
        ("7[1]", "cancelled", "short"), ("7[2]", "cancelled", "short"), ("7[3]", "cancelled", "short"),
    ]  # fmt: skip
    ran = answers(adapter, RECORDED.output("bhist-l-runlimit"))
    (timed_out,) = adapter.history(Period(0, NOW))
    assert (timed_out.job.outcome, timed_out.job.wallclock_limit) == ("timed_out", 60)
    assert ran[0][ran[0].index("-C") + 1] == "1993/01/01/00:00,2026/11/23/19:11"
    answers(adapter, RECORDED.output("bhist-unknown"))
    assert adapter.history(Period(0, NOW)) == []
