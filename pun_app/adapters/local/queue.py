"""The ``local`` scheduler's queue on disk, in a folder of the user's: one folder a job, one lock for all.

Used by the adapter, in the PUN, and by the runner, which outlives it; both as the user.
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

KEPT = 7 * 86_400
"""Seconds for which an ended job stays on record."""

QUEUED, HELD, RUNNING, DONE = "QUEUED", "HELD", "RUNNING", "DONE"


@dataclass(frozen=True)
class LocalJob:
    """One job as its record.json has it. ``pid`` leads its session; ``pid_started`` tells it from a later
    process of that number (field 22 of /proc/PID/stat). ``end`` is why it is being ended, if it is.
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
    """The jobs below a folder. Changes are made under ``locked()``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def runner_lock(self) -> int | None:
        """A descriptor that holds the runner's place, or None where a runner holds it."""
        descriptor = os.open(self.folder / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def add(self, script: str, make: Callable[[int], LocalJob]) -> LocalJob:
        """Put the job that ``make`` gives for the next id in the queue, and let go of those that ended long ago."""
        with self.locked():
            known = self.jobs()
            for old in known:
                if old.state == DONE and (old.ended_at or 0) < time.time() - KEPT:
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
        """Write a job's record, whole or not at all."""
        self._write(self._home(job.id) / "record.json", json.dumps(asdict(job)))

    def get(self, job_id: int) -> LocalJob | None:
        try:
            return LocalJob(**json.loads((self._home(job_id) / "record.json").read_text()))
        except FileNotFoundError:
            return None

    def jobs(self) -> list[LocalJob]:
        """All jobs on record, by id."""
        try:
            ids = sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())
        except FileNotFoundError:
            return []
        return [job for job in map(self.get, ids) if job]

    def script(self, job: LocalJob) -> Path:
        return self._home(job.id) / "script"

    def exit_file(self, job: LocalJob) -> Path:
        """Where the job's own shell leaves the exit status, for a runner that did not start it."""
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


def started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks since boot; None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
