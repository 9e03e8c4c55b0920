"""The runner of the ``local`` scheduler: it starts jobs, ends those beyond their wall time, and records outcomes.

The adapter starts it as ``python -I -m pun_app.adapters.local.runner FOLDER SLOTS`` when there are jobs and no
runner. It runs as the user, in a session of its own, so that it outlives the PUN, and exits when the queue is empty.
If a runner is killed, no job is lost: the next runner takes over the running jobs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pun_app.adapters.command import start_session
from pun_app.adapters.local.queue import DONE, QUEUED, RUNNING, LocalJob, LocalQueue, start_ticks

POLL_INTERVAL_S = 0.1
"""Time between two reads of the queue."""
KILL_DELAY_S = 5.0
"""Time between SIGTERM and SIGKILL."""

# "$1" is the script and "$2" the file for its exit status, which gets its name only when it is complete.
_SHELL = 'umask 022; "$1"; code=$?; echo $code > "$2.part" && mv "$2.part" "$2"; exit $code'


class Runner:
    """The loop of one queue's jobs, at most ``slots`` of them at once."""

    def __init__(self, queue: LocalQueue, slots: int) -> None:
        self._queue = queue
        self._slots = slots
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._terminated: dict[int, float] = {}

    def run(self) -> None:
        """Run jobs until the queue is empty. Return at once if another runner is running."""
        with self._queue.locked():
            runner_lock = self._queue.runner_lock()
        if runner_lock is None:
            return
        while True:
            with self._queue.locked():
                jobs = [self._step(job) for job in self._queue.jobs() if job.state == RUNNING]
                running = sum(job.state == RUNNING for job in jobs)
                queued = [job for job in self._queue.jobs() if job.state == QUEUED]
                for job in queued[: self._slots - running]:
                    self._start(job)
                if not queued and not running:
                    # Released under the queue's lock, so that an adapter that then adds a job starts another runner.
                    os.close(runner_lock)
                    return
            time.sleep(POLL_INTERVAL_S)

    def _start(self, job: LocalJob) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        now = int(time.time())
        try:
            out = os.open(job.output, flags, 0o644)
            err = out if job.error == job.output else os.open(job.error, flags, 0o644)
            script, exit_file = str(self._queue.script(job)), str(self._queue.exit_file(job))
            process = start_session(
                ["/bin/sh", "-c", _SHELL, "punway-job", script, exit_file],
                cwd=job.workdir,
                environment={**os.environ, "PUNWAY_JOB_ID": str(job.id), "PUNWAY_JOB_NAME": job.name},
                stdout=out,
                stderr=err,
            )
        except OSError as error:
            self._queue.put(replace(job, state=DONE, started_at=now, ended_at=now, outcome="failed", end=str(error)))
            return
        for descriptor in {out, err}:
            os.close(descriptor)
        self._processes[job.id] = process
        pid_started = start_ticks(process.pid) or 0
        self._queue.put(replace(job, state=RUNNING, started_at=now, pid=process.pid, pid_started=pid_started))

    def _step(self, job: LocalJob) -> LocalJob:
        """Return a running job with its present state, after ending it where its time is over or it is cancelled."""
        process = self._processes.get(job.id)
        alive = process.poll() is None if process else start_ticks(job.pid) == job.pid_started
        if not alive:
            job = self._ended(job)
        elif job.end is None and job.wall_time and time.time() > (job.started_at or 0) + job.wall_time:
            job = replace(job, end="timed_out")
            self._queue.put(job)
        if alive and job.end:
            self._end(job)
        return job

    def _end(self, job: LocalJob) -> None:
        terminated_at = self._terminated.setdefault(job.id, time.monotonic())
        number = signal.SIGKILL if time.monotonic() > terminated_at + KILL_DELAY_S else signal.SIGTERM
        with suppress(ProcessLookupError):
            os.killpg(job.pid, number)

    def _ended(self, job: LocalJob) -> LocalJob:
        # End whatever the job left running in its session, as a scheduler's epilogue does.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, signal.SIGKILL)
        self._processes.pop(job.id, None)
        self._terminated.pop(job.id, None)
        try:
            code: int | None = int(self._queue.exit_file(job).read_text())
        except (OSError, ValueError):
            code = None
        outcome = job.end or ("succeeded" if code == 0 else "failed")
        job = replace(job, state=DONE, ended_at=int(time.time()), outcome=outcome, exit_code=code)
        self._queue.put(job)
        return job


if __name__ == "__main__":
    # A shell starts a background command with these two signals ignored (POSIX, 2.11), and jobs would inherit that.
    for ignored in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_DFL)
    Runner(LocalQueue(Path(sys.argv[1])), int(sys.argv[2])).run()
