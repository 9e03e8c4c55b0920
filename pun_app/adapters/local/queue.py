"""The queue of the ``local`` scheduler on disk: a folder with one subfolder for each job, and one lock.

The adapter in the PUN uses it, and so does the runner, which outlives the PUN. Both run as the user.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ENDED_JOB_TTL_S = 7 * 86_400
"""Time for which an ended job stays in the queue."""

QUEUED, HELD, RUNNING, DONE = "QUEUED", "HELD", "RUNNING", "DONE"


@dataclass(frozen=True)
class LocalJob:
    """A job, as it is written to record.json.

    ``pid`` is the leader of its session. ``pid_started`` (field 22 of /proc/PID/stat) distinguishes it from a later
    process with the same number. ``end`` is the reason for which the runner ends the job, or None. Times are Unix
    seconds, and ``wall_time`` is in seconds.
    """

    id: int
    name: str
    workdir: str
    output: str
    error: str
    wall_time: int | None
    state: str
    submitted_at: int
    started_at: int | None = None
    ended_at: int | None = None
    pid: int = 0
    pid_started: int = 0
    end: str | None = None
    outcome: str | None = None
    exit_code: int | None = None
    submit_tag: str = ""


class LocalQueue:
    """The jobs in a folder. Every change is made under ``locked()``."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the queue, for which other processes wait."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def runner_lock(self) -> int | None:
        """Return a descriptor that holds the runner's lock; None where a runner already holds it."""
        descriptor = os.open(self.folder / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def add(self, script: str, make: Callable[[int], LocalJob]) -> LocalJob:
        """Add the job that ``make`` returns for the next id, and remove jobs whose time in the queue is over."""
        with self.locked():
            known = self.jobs()
            for old in known:
                if old.state == DONE and (old.ended_at or 0) < self._clock() - ENDED_JOB_TTL_S:
                    shutil.rmtree(self._home(old.id), ignore_errors=True)
            counter = self.folder / "last-id"
            last = int(counter.read_text()) if counter.exists() else 0
            job = make(max([last, *(old.id for old in known)]) + 1)
            self._write(counter, str(job.id))
            home = self._home(job.id)
            home.mkdir(mode=0o700)
            (home / "script").write_text(script)
            (home / "script").chmod(0o700)
            self.put(job)
            return job

    def put(self, job: LocalJob) -> None:
        """Write a job's record, either completely or not at all."""
        self._write(self._home(job.id) / "record.json", json.dumps(asdict(job)))

    def get(self, job_id: int) -> LocalJob | None:
        """Return a job; None for an unknown one."""
        try:
            return LocalJob(**json.loads((self._home(job_id) / "record.json").read_text()))
        except FileNotFoundError:
            return None

    def jobs(self) -> list[LocalJob]:
        """Return all jobs in the order of their ids."""
        try:
            ids = sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())
        except FileNotFoundError:
            return []
        return [job for job in map(self.get, ids) if job]

    def script(self, job: LocalJob) -> Path:
        """Return the path of the job's script."""
        return self._home(job.id) / "script"

    def exit_file(self, job: LocalJob) -> Path:
        """Return the path to which the job's shell writes its exit status, for a runner that did not start the job."""
        return self._home(job.id) / "exit"

    def _home(self, job_id: int) -> Path:
        return self.folder / str(job_id)

    @staticmethod
    def _write(path: Path, content: str) -> None:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            temporary.write_text(content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def start_ticks(pid: int) -> int | None:
    """Return the start of a process in the kernel's ticks since boot; None for a zombie and where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
