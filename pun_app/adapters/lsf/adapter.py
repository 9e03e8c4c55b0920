"""LSF: bsub, bjobs, bhist, bkill, bstop, bresume, bqueues, bparams and bhosts, as the user.

Written by IBM's documentation of LSF 10.1; seen with volclava 2.2, which has LSF's commands and fewer of their options.
Jobs are asked for as JSON, with as many fields as this LSF knows; a version without JSON is asked for its wide table.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pun_app.adapters.arrays import parse_array, ranges_of
from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, CommandLineAdapter, job_environment
from pun_app.adapters.directives import LSF
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerError, SchedulerUnavailable, Unanswered
from pun_app.adapters.lsf.bsub import submit_command
from pun_app.adapters.lsf.parse import (
    BY_RUNLIMIT,
    BY_SIGNAL,
    Story,
    past_job,
    records,
    stories,
    table,
    told,
)
from pun_app.adapters.lsf.site import cluster_info, default_queues, queues_of
from pun_app.adapters.model import (
    COMPLETED,
    OPTIONS,
    QUEUED,
    QUEUED_HELD,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
)
from pun_app.adapters.native import BSUB

FIELDS = (
    "jobid", "jobindex", "stat", "user", "queue", "job_name", "proj_name", "submit_time", "start_time", "finish_time",
    "exit_code", "exit_reason", "pend_reason", "runtimelimit", "job_description",
)  # fmt: skip
"""What bjobs -o is asked for. What this LSF does not know of it is told by a longer answer about one job."""

NO_FIELD = 99
"""bjobs' status for a field that it does not know."""

_NOT_KNOWN = re.compile(r"<(\w+)> in the format string is not a valid field name")
_NEVER_SENT = re.compile(r"Connection refused|lsf\.conf|LSF_ENVDIR|Cannot (open|locate)|LIM is down")
_UNREACHABLE = re.compile(
    r"not responding|LSF is down|lim is down|Please wait|Failed in an? (LSF|sb|mb)|Communication time ?out|RPC"
    r"|cannot connect",
    re.I,
)
_NO_SUCH_JOB = re.compile(r"Job <[^>]*> is not found|No matching job found|Illegal job ID", re.I)
_NO_JOBS = re.compile(r"No (unfinished |suspended |finished |matching )?job(s)? found", re.I)
_ALREADY_ENDED = re.compile(r"(Job <[^>]*>: Job has already finished\s*)+")
_SUBMITTED = re.compile(r"^Job <(\d+)> is submitted to ", re.M)
_NAMED_TASKS = 1000
"""Tasks that are cancelled by their own ids: bkill sees to some hundred in a second, and to a whole array at once."""
_DAY = 24 * 60 * 60
_EARLIEST = 725_846_400
"""The beginning of 1993: volclava's bhist takes no year before, and none after 2038."""
_UNITS = {"KB": 1024, "MB": 1, "GB": 1 / 1024, "TB": 1 / 1024**2}


class LsfAdapter(CommandLineAdapter):
    """An LSF cluster. Its keys in the cluster file: bindir, libdir, envdir, serverdir, cluster; those of Commands."""

    product = "LSF"
    queued_state = "PEND"
    directives = LSF
    wall_time_unit = 60
    retry_message = re.compile(r"still trying|retrying", re.I)
    # Never 0: to bkill, bstop and their like that is every job of the user.
    job_id = re.compile(r"[1-9]\d{0,9}(\[[1-9]\d{0,8}\])?")
    options = frozenset(OPTIONS) - {"qos"}
    native = BSUB
    programs = ("bsub", "bjobs", "bhist", "bkill", "bstop", "bresume", "bqueues", "bparams", "bhosts", "lsid")
    version_argv = ("lsid", "-V")
    cancel_command, hold_command, release_command = ("bkill",), ("bstop",), ("bresume",)
    submit_tag_location = "description (bjobs -l)"
    failures = ((NotSent, _NEVER_SENT), (Unanswered, _UNREACHABLE), (JobNotFound, _NO_SUCH_JOB))

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        keys = ("bindir", "libdir", "envdir", "serverdir")
        folders = {f"LSF_{key.upper()}": str(job[key]) for key in keys if job.get(key)}
        if job.get("bindir"):
            job = {"bin": job["bindir"], **job}
        # By itself bsub asks again every ten seconds while LSF does not answer, and each attempt may become a job.
        folders["LSB_NTRIES"] = "1"
        # The commands write and read times of their own zone, and without a year. In UTC no hour comes twice.
        super().__init__(cluster_id, job, folders, {"TZ": "UTC", "LSB_DISPLAY_YEAR": "Y"})
        self._cluster = ["-m", str(job["cluster"])] if job.get("cluster") else []
        self._fields: tuple[str, ...] | None = FIELDS

    def for_cluster(self, argv: Any) -> list[str]:
        local = argv[0] in ("bhist", "bparams", "bhosts", "lsid")
        return list(argv) if local else [argv[0], *self._cluster, *argv[1:]]

    def run_submit(self, request: JobRequest) -> Output:
        environment = job_environment(request, "bsub")
        if request.array is not None:
            self._check_array_size(request.array)
        argv = self.for_cluster(submit_command(request, self._memory_units()))
        # The directory that bsub runs in is the job's; -cwd is not in every LSF.
        return self.submit_commands.run(argv, request.content, environment=environment, cwd=request.workdir)

    def parse_job_id(self, output: Output) -> str | None:
        found = _SUBMITTED.search(output.out)
        return found[1] if found else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        text = self._printed(self.run(["bjobs", "-UF", "-l", "-a", "-u", self.user], timeout=LOOKUP_TIMEOUT_S))
        return [job_of(story) for story in stories(text) if story.description.endswith(submit_tag)]

    def failure(self, output: Output) -> SchedulerError:
        error = super().failure(output)
        if not isinstance(error, Unanswered):
            return error
        # bsub adds to each error that the job was not submitted; of a daemon that hangs it cannot know.
        return Unanswered(re.sub(r"[.;: ]*Job not submitted[.]*", "", error.message))

    def is_accepted(self, output: Output) -> bool:
        # volclava's answer for an array, whose elements it then sees to; and that for tasks of which some had ended.
        return "Operation is in progress" in output.err or (
            "is being terminated" in output.out and bool(_ALREADY_ENDED.fullmatch(output.err))
        )

    def array_id(self, job_id: str) -> str:
        return job_id.partition("[")[0]

    def jobs(self) -> list[Job]:
        jobs = self._listed(["-a", "-u", self.user])
        if any(job.native_state == "EXIT" and job.outcome is None for job in jobs):
            # How they ended is known to the long answer alone.
            ended = {story.id: story for story in stories(self._told(["-d", "-u", self.user]))}
            jobs = [told(job, ended[job.id]) if job.outcome is None and job.id in ended else job for job in jobs]
        return self._with_who_ended_them(jobs)

    def job(self, job_id: str) -> Job:
        jobs = [job for job in self._listed([self.check_id(job_id)]) if job.owner == self.user]
        if not jobs:
            return self._ended_long_ago(job_id)
        if len(jobs) == 1 or any(job.native_state == "EXIT" and job.outcome is None for job in jobs):
            more = {story.id: story for story in stories(self._told([job_id]))}
            jobs = [told(job, more[job.id]) if job.id in more else job for job in jobs]
        return self.merge(job_id, self._with_who_ended_them(jobs))

    def merge(self, job_id: str, jobs: list[Job]) -> Job:
        job = super().merge(job_id, jobs)
        is_array = job.id != jobs[0].id
        return msgspec.structs.replace(job, name=re.sub(r"\[\d+\]$", "", job.name or "")) if is_array else job

    def cancel(self, job_id: str) -> None:
        """Cancel an array by its tasks: of a whole one bhist does not tell that somebody killed what ran.

        What waits goes first, so that it does not begin in the place of what ran.
        """
        job = self.unfinished_job(job_id)
        tasks = [] if "[" in job.id else [task for task in self._listed([job.id]) if "[" in task.id]
        waiting = [task for task in tasks if task.status in (QUEUED, QUEUED_HELD)]
        others = [task for task in tasks if task.status not in (QUEUED, QUEUED_HELD, COMPLETED)]
        are_few = len(waiting) + len(others) <= _NAMED_TASKS
        named = [
            f"{job.id}[{span}]"
            for some in (waiting if are_few else [], others[:_NAMED_TASKS])
            for span in ranges_of(sorted(int(task.id.partition("[")[2].rstrip("]")) for task in some))
        ]
        if named:
            self.run_change(self.cancel_command, job, *named)
        if not named or not are_few:
            self.run_change(self.cancel_command, job)

    def _with_who_ended_them(self, jobs: list[Job]) -> list[Job]:
        """The jobs, where this LSF does not tell why it ended one: a script may end with the same exit codes."""
        unclear = [job for job in jobs if job.outcome == "failed" and (job.exit_code or 0) > BY_SIGNAL]
        if not unclear or "exit_reason" in (self._fields or ()):
            return jobs
        ids = list(dict.fromkeys(self.array_id(job.id) for job in unclear))
        ended = {past.job.id: past.job for past in self._past(ids)}
        return [
            msgspec.structs.replace(job, outcome=ended[job.id].outcome, exit_code=ended[job.id].exit_code)
            if job in unclear and job.id in ended
            else job
            for job in jobs
        ]

    def _check_array_size(self, text: str) -> None:
        """Raise Rejected for more tasks than this LSF takes: some make one plain job of them. bparams(1)."""
        try:
            found = re.search(r"MAX_JOB_ARRAY_SIZE\s*=\s*(\d+)", self.read(["bparams", "-l"]))
        except SchedulerUnavailable as error:
            raise NotSent(error.message) from error
        size = parse_array(text).size
        if found and size > int(found[1]):
            raise Rejected(f"options.array: LSF takes at most {found[1]} tasks in one array here, not {size}")

    def output(self, job_id: str) -> OutputFiles:
        mine: list[Story] = []
        for argv in (["bjobs", "-UF", "-l", self.check_id(job_id)], ["bhist", "-l", "-a", "-n", "0", job_id]):
            mine = mine or [story for story in stories(self._printed(self.run(argv))) if story.user == self.user]
        if not mine:
            raise JobNotFound()
        if len(mine) > 1 or ("[" in mine[0].id and "[" not in job_id):
            raise self.array_output_error(job_id, mine[0].id)
        return mine[0].output

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        return self.select([past.job for past in self._past(job_ids)], job_ids)

    def history(self, period: Period) -> list[PastJob]:
        latest = time.time() + _DAY
        ends = [min(max(when, _EARLIEST), latest) for when in (period.start, period.end + 60)]
        days = [time.strftime("%Y/%m/%d/%H:%M", time.gmtime(when)) for when in ends]
        return [past for past in self._past(["-u", self.user, "-C", ",".join(days)]) if period.holds(past.job)]

    def _past(self, chosen: Sequence[str]) -> list[PastJob]:
        """The user's jobs in LSF's history."""
        text = self._printed(self.run(["bhist", "-l", "-a", "-n", "0", *chosen]))
        mine = [story for story in stories(text) if story.user == self.user]
        limits: dict[str, int | None] = {}
        if any(story.exit_code == BY_RUNLIMIT and story.limit is None and not story.reason for story in mine):
            limits = {queue.name: queue.time_limit for queue in self.queues()}
        return [past_job(story, limits) for story in mine]

    def queues(self) -> list[Queue]:
        default = default_queues(self.read(["bparams"]))
        return queues_of(self.read(["bqueues", "-l", "-u", self.user]), default)

    def info(self) -> ClusterInfo:
        return cluster_info(self.read(["bhosts", "-w"]))

    def _listed(self, chosen: list[str]) -> list[Job]:
        """Jobs, with the fields that this LSF knows. Raises JobNotFound, where none of the user's is there."""
        while self._fields:
            output = self.run(["bjobs", "-json", "-o", " ".join(self._fields), *chosen])
            if output.code == NO_FIELD and (name := _NOT_KNOWN.search(output.err)):
                self._fields = tuple(field for field in self._fields if field.upper() != name[1].upper())
                continue
            if output.out.lstrip().startswith("{"):
                # Without jobs the status is that of a failure; where LSF is down, standard error says so besides.
                return self._none(output) if output.code and output.err.strip() else records(output.out)
            if re.search(r"(illegal|invalid|unknown|unrecognized) option|^Usage:", output.err, re.I | re.M):
                self._fields = None
                break
            return self._none(output)
        output = self.run(["bjobs", "-w", "-W", *chosen])
        return table(output.out) if not output.code and output.out.strip() else self._none(output)

    def _none(self, output: Output) -> list[Job]:
        said = output.err.strip() or output.out
        if _NO_JOBS.search(said) or _NO_SUCH_JOB.search(said):
            return []
        raise self.read_failure(output)

    def _told(self, chosen: list[str]) -> str:
        """The long answer about jobs, its lines not broken."""
        return self._printed(self.run(["bjobs", "-UF", "-l", *chosen]))

    def _printed(self, output: Output) -> str:
        """What a reading command printed; nothing where there is no such job."""
        if output.code and not _NO_JOBS.search(output.out + output.err) and not _NO_SUCH_JOB.search(output.err):
            raise self.read_failure(output)
        return output.out

    def _ended_long_ago(self, job_id: str) -> Job:
        job = self.look_up([job_id]).get(job_id)
        if job is None:
            raise JobNotFound()
        return job

    def _memory_units(self) -> tuple[float, float]:
        """What one MiB is in the units of -M and of rusage[mem]: KB and MB, but for lsf.conf's LSF_UNIT_FOR_LIMITS."""
        folder = self.submit_commands.environment.get("LSF_ENVDIR", "/etc")
        try:
            text = Path(folder, "lsf.conf").read_text(errors="replace")
        except OSError:
            text = ""  # On the submit_host, perhaps.
        found = re.search(r"^\s*LSF_UNIT_FOR_LIMITS\s*=\s*\"?([KMGT]B)", text, re.M | re.I)
        return (_UNITS[found[1].upper()],) * 2 if found else (_UNITS["KB"], _UNITS["MB"])


def job_of(story: Story) -> Job:
    """A job as the long answer alone tells of it."""
    return told(Job(id=story.id, name=story.name, owner=story.user, queue=story.queue), story)
