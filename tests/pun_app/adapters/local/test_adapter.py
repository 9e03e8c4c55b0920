"""pun_app/adapters/local/adapter.py with real processes, a queue on disk, and runners that are killed.

runner.py is tested here with it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pun_app.adapters.errors import JobNotFound, Rejected, SchedulerUnavailable
from pun_app.adapters.local.adapter import LocalAdapter
from pun_app.adapters.local.queue import LocalQueue
from pun_app.adapters.model import Job, JobRequest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, in which the queue is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def adapter(home: Path) -> Iterator[LocalAdapter]:
    """An adapter of two slots, whose jobs are cancelled after the test."""
    adapter = LocalAdapter("box", {"adapter": "local", "slots": 2})
    yield adapter
    for job in adapter.jobs():
        if job.status != "completed":
            adapter.cancel(job.id)
    wait(lambda: not runners(home))


def wait(until: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition is true. Fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def ended(adapter: LocalAdapter, job: Job) -> Job:
    """Wait until a job has ended, and return it."""
    wait(lambda: adapter.job(job.id).status == "completed")
    return adapter.job(job.id)


def submit(adapter: LocalAdapter, home: Path, text: str, **options: object) -> Job:
    """Submit a shell script whose working directory is the home."""
    return adapter.submit(JobRequest(f"#!/bin/sh\n{text}\n", str(home), **options))  # type: ignore[arg-type]


def runners(home: Path) -> list[int]:
    """Return the pids of the runners of a home's queues."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"local.runner\0{home}" in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_job_from_submit_to_its_end(adapter: LocalAdapter, home: Path) -> None:
    """Its output is where it was requested, and it has its exit code and times."""
    job = submit(
        adapter, home, "pwd; echo err >&2; exit 3", job_name="n", output_path="o-%j", error_path="e-%j", wall_time=60
    )
    assert (job.status, job.native_state, job.name, job.wallclock_limit) == ("queued", "QUEUED", "n", 60)
    done = ended(adapter, job)
    assert (done.outcome, done.exit_code, done.native_state) == ("failed", 3, "DONE")
    assert (home / f"o-{job.id}").read_text() == f"{home}\n"
    assert (home / f"e-{job.id}").read_text() == "err\n"
    assert done.started_at and done.ended_at and done.submitted_at
    assert ended(adapter, submit(adapter, home, "true")).outcome == "succeeded"
    assert (home / f"punway-{int(job.id) + 1}.out").exists()


def test_a_job_past_its_wall_time_is_ended(adapter: LocalAdapter, home: Path) -> None:
    """All of its processes are killed, though the job ignores SIGTERM."""
    job = submit(adapter, home, f"trap '' TERM; sleep 1000 & echo $! > {home}/pid; wait", wall_time=1)
    assert ended(adapter, job).outcome == "timed_out"
    pid = int((home / "pid").read_text())
    wait(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_a_running_job_is_cancelled(adapter: LocalAdapter, home: Path) -> None:
    """It has no exit code, and cannot be cancelled again."""
    running = submit(adapter, home, "sleep 1000")
    wait(lambda: adapter.job(running.id).status == "running")
    adapter.cancel(running.id)
    gone = ended(adapter, running)
    assert (gone.outcome, gone.exit_code) == ("cancelled", None)
    with pytest.raises(Rejected, match="already completed"):
        adapter.cancel(running.id)


def test_jobs_start_in_order_in_free_slots(adapter: LocalAdapter, home: Path) -> None:
    """With two slots, the third job stays queued, and a held job is skipped until it is released."""
    first, second = (submit(adapter, home, "sleep 1000") for _ in range(2))
    third, fourth = (submit(adapter, home, "true") for _ in range(2))
    wait(lambda: [adapter.job(j.id).status for j in (first, second)] == ["running", "running"])
    assert adapter.job(third.id).status == "queued"
    assert adapter.hold(third.id) == "queued_held"
    assert (adapter.job(third.id).status, adapter.job(third.id).native_state) == ("queued_held", "HELD")
    adapter.cancel(first.id)
    assert ended(adapter, fourth).outcome == "succeeded"
    assert adapter.job(third.id).status == "queued_held"
    assert adapter.release(third.id) == "queued"
    assert ended(adapter, third).outcome == "succeeded"
    for call in (adapter.hold, adapter.release):
        with pytest.raises(Rejected):
            call(third.id)
    with pytest.raises(Rejected, match="running"):
        adapter.hold(second.id)


def test_a_killed_runner_loses_no_job(adapter: LocalAdapter, home: Path) -> None:
    """A running job continues, its exit code is known, and a queued job is started."""
    job = submit(adapter, home, f"while [ ! -e {home}/go ]; do sleep 0.05; done; exit 7")
    wait(lambda: adapter.job(job.id).status == "running")
    for pid in runners(home):
        os.kill(pid, signal.SIGKILL)
    queued = submit(adapter, home, "exit 8")
    assert adapter.job(job.id).status == "running"
    (home / "go").touch()
    assert (ended(adapter, job).outcome, adapter.job(job.id).exit_code) == ("failed", 7)
    assert ended(adapter, queued).exit_code == 8


def test_another_process_sees_the_same_queue(adapter: LocalAdapter, home: Path) -> None:
    """A PUN that was started again has the user's jobs."""
    job = submit(adapter, home, "exit 2")
    ended(adapter, job)
    assert LocalAdapter("box", {"adapter": "local"}).job(job.id) == adapter.job(job.id)
    assert LocalAdapter("other", {"adapter": "local"}).jobs() == []


def test_one_runner_for_many_submits(adapter: LocalAdapter, home: Path) -> None:
    """Every job has an id of its own and is run."""
    jobs = [submit(adapter, home, "sleep 0.3") for _ in range(6)]
    wait(lambda: len(runners(home)) == 1)
    assert {ended(adapter, job).outcome for job in jobs} == {"succeeded"}
    assert len({job.id for job in jobs}) == 6


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (JobRequest("echo x", "/"), "batch script"),
        (JobRequest("#!/bin/sh", "/", queue_name="nope"), "Unknown queue nope"),
        (JobRequest("#!/bin/sh", "/", accounting_id="x"), "accounting_id"),
        (JobRequest("#!/bin/sh", "/", native=("-x",)), "options.native: the local scheduler of cluster box"),
        (JobRequest("#!/bin/sh", "/", array="1-2"), "options.array"),
        (JobRequest("#!/bin/sh", "/", afterok=("1",)), "options.afterok"),
        (JobRequest("#!/bin/sh", "/", cores=2), "options.cores"),
        (JobRequest("#!/bin/sh", "/", environment={"A": "1"}), "options.environment"),
    ],
    ids=["no-interpreter", "queue", "account", "native", "array", "afterok", "cores", "environment"],
)
def test_an_option_that_it_lacks_is_refused(adapter: LocalAdapter, request_: JobRequest, message: str) -> None:
    """No option is dropped, and nothing is submitted."""
    with pytest.raises(Rejected, match=message):
        adapter.submit(request_)
    assert adapter.jobs() == []


def test_output_that_cannot_be_written(adapter: LocalAdapter, home: Path) -> None:
    """The job fails, and its native reason names the cause."""
    job = ended(adapter, submit(adapter, home, "true", output_path="/nonexistent/x"))
    assert (job.outcome, job.exit_code) == ("failed", None)
    assert "No such file" in (job.native_reason or "")


@pytest.mark.parametrize("job_id", ["0", "-1", "1_2", "x", "", "01", "99999999999", "1\n"])
def test_an_id_of_another_form_is_not_found(adapter: LocalAdapter, job_id: str) -> None:
    """Every operation finds no job."""
    for call in (adapter.job, adapter.cancel, adapter.hold, adapter.release):
        with pytest.raises(JobNotFound):
            call(job_id)


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is wrong with the queue."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(SchedulerUnavailable, match="local queue"):
        LocalAdapter("box", {"adapter": "local"}).submit(JobRequest("#!/bin/sh", "/"))


@pytest.mark.parametrize("slots", [0, -1, "2", True])
def test_slots_must_be_a_positive_number(slots: object) -> None:
    """The message names the key of the cluster file."""
    with pytest.raises(SchedulerUnavailable, match=r"job\.slots"):
        LocalAdapter("box", {"adapter": "local", "slots": slots})


def test_only_the_user_can_read_the_queue(adapter: LocalAdapter, home: Path) -> None:
    """The folder has the mode 0700."""
    ended(adapter, submit(adapter, home, "true"))
    folder = home / ".local" / "share" / "punway" / "local" / "box"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert LocalQueue(folder).jobs()
