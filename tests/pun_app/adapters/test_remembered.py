"""pun_app/adapters/remembered.py: which answers are used again."""

from __future__ import annotations

import pytest

from pun_app.adapters import remembered as module
from pun_app.adapters.model import COMPLETED, QUEUED, RUNNING, Job
from pun_app.adapters.remembered import ANEW, JOB, JOBS, PAGE, Remembered


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_an_answer_is_good_for_a_second_and_not_from_before(clock: list[float]) -> None:
    remembered = Remembered()
    assert remembered.answer((JOB, "1"), lambda: "a") == ("a", 100)
    clock[0] = 100.5
    assert remembered.answer((JOB, "1"), lambda: "b") == ("a", 100)
    assert remembered.answer((JOB, "1"), lambda: "c", 100) == ("a", 100)
    assert remembered.answer((JOB, "1"), lambda: "d", 100.1) == ("d", 100.5)
    assert remembered.answer((JOB, "1"), lambda: "e", ANEW) == ("e", 100.5)
    clock[0] = 101.6
    assert remembered.answer((JOB, "1"), lambda: "f") == ("f", 101.6)
    remembered.clear()
    assert remembered.answer((JOB, "1"), lambda: "g") == ("g", 101.6)


def test_lists_and_their_freshness(clock: list[float]) -> None:
    remembered = Remembered()
    assert remembered.latest_list() == 0 and not remembered.is_fresh((JOBS, ""))
    remembered.answer((JOBS, ""), list)
    clock[0] = 100.4
    remembered.answer((PAGE, "7"), list)
    clock[0] = 100.8
    remembered.answer((JOB, "1"), lambda: Job(id="1"))
    assert remembered.latest_list() == 100.4
    assert remembered.is_fresh((JOBS, ""))
    clock[0] = 101
    assert not remembered.is_fresh((JOBS, "")) and remembered.is_fresh((PAGE, "7"))


def test_the_latest_word_on_each_job(clock: list[float]) -> None:
    """By the id that a job was asked by too; of what failed, and of what was not asked of jobs, there is none."""
    remembered = Remembered()
    remembered.answer((JOBS, ""), lambda: [Job(id="1", status=QUEUED), Job(id="2", status=QUEUED)])
    clock[0] = 100.2
    remembered.answer((JOB, "1"), lambda: Job(id="1.server", status=RUNNING))
    clock[0] = 100.3
    remembered.answer((PAGE, "2"), lambda: [Job(id="2", status=RUNNING)])
    clock[0] = 100.4
    remembered.answer((JOB, "2"), lambda: Job(id="2", status=COMPLETED))
    remembered.answer(("queues", ""), lambda: ["batch"])
    with pytest.raises(ZeroDivisionError):
        remembered.answer((JOB, "3"), lambda: Job(id=str(1 // 0)))
    told = {job_id: job.status for job_id, job in remembered.jobs_since(100).items()}
    assert told == {"1": RUNNING, "1.server": RUNNING, "2": COMPLETED}
    told = {job_id: job.status for job_id, job in remembered.jobs_since(99).items()}
    assert told == {"1": RUNNING, "1.server": RUNNING, "2": COMPLETED}
    assert remembered.jobs_since(100.4) == {}
    clock[0] = 100.5
    remembered.answer((JOBS, ""), lambda: [Job(id="2", status=QUEUED)], ANEW)
    assert remembered.jobs_since(100)["2"].status == QUEUED


def test_only_what_may_be_used_again_is_remembered(clock: list[float]) -> None:
    remembered = Remembered()
    for number in range(50):
        clock[0] += 0.3
        remembered.answer((JOB, str(number)), lambda: Job(id="1"))
    assert len(remembered._asked) <= 5
