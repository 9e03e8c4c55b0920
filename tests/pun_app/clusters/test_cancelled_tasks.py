"""pun_app/clusters/cancelled_tasks.py: a queued task that was cancelled, while its array is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pun_app.adapters.base import Adapter
from pun_app.adapters.errors import JobNotFound
from pun_app.adapters.model import COMPLETED, QUEUED, RUNNING, Job
from pun_app.clusters.cached_scheduler import CachedScheduler


class Arrays(Adapter):
    """Forgets a queued task that is cancelled, as Slurm does."""

    def __init__(self) -> None:
        super().__init__("c", {"adapter": "arrays"})
        self.found = {
            "7": Job("7", status=QUEUED, submitted_at=100), "7_2": Job("7_2", status=QUEUED, submitted_at=100, name="n"),
            "7_3": Job("7_3", status=RUNNING, submitted_at=100), "8": Job("8", status=QUEUED, submitted_at=100),
        }  # fmt: skip

    def array_id(self, job_id: str) -> str:
        return job_id.partition("_")[0]

    def job(self, job_id: str) -> Job:
        if job_id not in self.found:
            raise JobNotFound()
        return self.found[job_id]

    def jobs(self) -> list[Job]:
        return list(self.found.values())

    def select(self, jobs: list[Job], job_ids: object) -> dict[str, Job]:
        return {job.id: job for job in jobs if job.id in job_ids}  # type: ignore[operator]

    def cancel(self, job_id: str) -> None:
        self.job(job_id)
        del self.found[job_id]


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Arrays()


def test_it_is_told_as_cancelled(adapter: Arrays) -> None:
    """By itself and among many; also by the next process."""
    CachedScheduler(adapter).cancel("7_2")
    scheduler = CachedScheduler(adapter)
    task = scheduler.job("7_2")[0]
    assert (task.id, task.name, task.status, task.outcome, task.started_at) == (
        "7_2",
        "n",
        COMPLETED,
        "cancelled",
        None,
    )
    assert scheduler.jobs_by_id(["7_2", "7_3", "7_4"])[0] == {"7_2": task, "7_3": adapter.found["7_3"]}
    with pytest.raises(JobNotFound):
        scheduler.job("7_4")


def test_it_goes_with_its_array(adapter: Arrays) -> None:
    """Also where another array has the number by now."""
    CachedScheduler(adapter).cancel("7_2")
    adapter.found["7"] = Job("7", status=QUEUED, submitted_at=200)
    with pytest.raises(JobNotFound):
        CachedScheduler(adapter).job("7_2")
    adapter.found.pop("7")
    with pytest.raises(JobNotFound):
        CachedScheduler(adapter).job("7_2")


def test_what_the_scheduler_tells_comes_first(adapter: Arrays) -> None:
    """But not that the task is queued, which it may have been when it was looked at last."""
    queued = adapter.found["7_2"]
    CachedScheduler(adapter).cancel("7_2")
    adapter.found["7_2"] = queued
    assert CachedScheduler(adapter).job("7_2")[0].outcome == "cancelled"
    adapter.found["7_2"] = Job("7_2", status=COMPLETED)
    assert CachedScheduler(adapter).job("7_2")[0].outcome == "cancelled"
    assert CachedScheduler(adapter).jobs_by_id(["7_2", "7_3"])[0]["7_2"].outcome == "cancelled"
    adapter.found["7_2"] = Job("7_2", status=COMPLETED, outcome="failed")
    assert CachedScheduler(adapter).job("7_2")[0].outcome == "failed"


def test_nothing_else_is_kept(adapter: Arrays, tmp_path: Path) -> None:
    """A running task and a whole job are not recorded, because the scheduler still reports them."""
    for job_id in ("7_3", "8"):
        CachedScheduler(adapter).cancel(job_id)
        with pytest.raises(JobNotFound):
            CachedScheduler(adapter).job(job_id)
    with pytest.raises(JobNotFound):
        CachedScheduler(adapter).cancel("7_9")


def test_a_cancel_succeeds_where_it_cannot_be_kept(adapter: Arrays, tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("")
    CachedScheduler(adapter).cancel("7_2")
    assert "7_2" not in adapter.found
