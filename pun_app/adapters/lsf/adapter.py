"""The adapter for LSF: it runs bsub, bjobs, bhist, bkill, bstop, bresume, bqueues, bparams and bhosts as the user.

It follows IBM's documentation of LSF 10.1 and was tested with volclava 2.2, whose commands have fewer options. It lists
jobs as JSON, with those fields that this LSF knows, or in the wide table where bjobs has no JSON.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from pun_app.adapters.arrays import parse_array, ranges_of
from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, CommandLineAdapter, job_environment
from pun_app.adapters.directives import LSF
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerError, SchedulerUnavailable, Unanswered
from pun_app.adapters.lsf.bhist import history_command, past_job
from pun_app.adapters.lsf.bjobs import (
    FIELDS,
    UNKNOWN_FIELD_EXIT_CODE,
    details_command,
    json_command,
    parse_json,
    parse_table,
    table_command,
)
from pun_app.adapters.lsf.bsub import memory_units_per_mib, submit_command
from pun_app.adapters.lsf.long_format import LongRecord, job_of, parse_long_format, with_details
from pun_app.adapters.lsf.output import output_files
from pun_app.adapters.lsf.site import cluster_info, default_queues, parse_queues
from pun_app.adapters.lsf.states import RUN_LIMIT_EXIT_CODE, SIGNAL_EXIT_CODE
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

_UNKNOWN_FIELD = re.compile(r"<(\w+)> in the format string is not a valid field name")
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
_MAX_NAMED_TASKS = 1000
"""Tasks that one cancel names by their ids. bkill ends some hundreds of tasks a second, but a whole array at once."""
_DAY_S = 24 * 60 * 60
_EARLIEST_BHIST_TIME = 725_846_400
"""The beginning of 1993, in Unix seconds. volclava's bhist refuses earlier years, and years after 2038."""


class LsfAdapter(CommandLineAdapter):
    """An LSF cluster.

    Keys in the cluster file: bindir, libdir, envdir, serverdir, cluster, and those of Commands.
    """

    product = "LSF"
    queued_state = "PEND"
    directives = LSF
    wall_time_unit = 60
    retry_message = re.compile(r"still trying|retrying", re.I)
    # Never 0: bkill, bstop and bresume take 0 for all jobs of the user.
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
        # By default, bsub retries every ten seconds while LSF does not answer, and each attempt may become a job.
        folders["LSB_NTRIES"] = "1"
        # The commands print and read local times, by default without a year. In UTC, no hour comes twice.
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
        units = memory_units_per_mib(self.submit_commands.environment.get("LSF_ENVDIR", "/etc"))
        argv = self.for_cluster(submit_command(request, units))
        # bsub makes its own working directory that of the job. Not every LSF has -cwd.
        return self.submit_commands.run(argv, request.content, environment=environment, cwd=request.workdir)

    def parse_job_id(self, output: Output) -> str | None:
        found = _SUBMITTED.search(output.out)
        return found[1] if found else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        text = self._found(self.run(details_command(["-a", "-u", self.user]), timeout=LOOKUP_TIMEOUT_S))
        return [job_of(record) for record in parse_long_format(text) if record.description.endswith(submit_tag)]

    def failure(self, output: Output) -> SchedulerError:
        error = super().failure(output)
        if not isinstance(error, Unanswered):
            return error
        # bsub adds to every error that the job was not submitted, which it cannot know while the daemon hangs.
        return Unanswered(re.sub(r"[.;: ]*Job not submitted[.]*", "", error.message))

    def is_accepted(self, output: Output) -> bool:
        # volclava prints the first while it goes through the tasks of an array, and fails with the second where some of
        # the tasks had ended.
        return "Operation is in progress" in output.err or (
            "is being terminated" in output.out and bool(_ALREADY_ENDED.fullmatch(output.err))
        )

    def array_id(self, job_id: str) -> str:
        return job_id.partition("[")[0]

    def jobs(self) -> list[Job]:
        jobs = self._listed(["-a", "-u", self.user])
        if any(job.native_state == "EXIT" and job.outcome is None for job in jobs):
            # This LSF's list does not tell how a job ended, but the long format does.
            ended = self._details(["-d", "-u", self.user])
            jobs = [
                with_details(job, ended[job.id]) if job.outcome is None and job.id in ended else job for job in jobs
            ]
        return self._with_killed_jobs(jobs)

    def job(self, job_id: str) -> Job:
        jobs = [job for job in self._listed([self.check_id(job_id)]) if job.owner == self.user]
        if not jobs:
            return self._past_job(job_id)
        if len(jobs) == 1 or any(job.native_state == "EXIT" and job.outcome is None for job in jobs):
            details = self._details([job_id])
            jobs = [with_details(job, details[job.id]) if job.id in details else job for job in jobs]
        return self.merge(job_id, self._with_killed_jobs(jobs))

    def merge(self, job_id: str, jobs: list[Job]) -> Job:
        job = super().merge(job_id, jobs)
        is_array = job.id != jobs[0].id
        return msgspec.structs.replace(job, name=re.sub(r"\[\d+\]$", "", job.name or "")) if is_array else job

    def cancel(self, job_id: str) -> None:
        """Cancel a job, and an array task by task.

        bhist does not record that a user killed the running tasks of an array where the array was killed as a whole.
        Queued tasks go first, so that none of them starts in the place of a running one.
        """
        job = self.unfinished_job(job_id)
        tasks = [] if "[" in job.id else [task for task in self._listed([job.id]) if "[" in task.id]
        queued = [task for task in tasks if task.status in (QUEUED, QUEUED_HELD)]
        started = [task for task in tasks if task.status not in (QUEUED, QUEUED_HELD, COMPLETED)]
        are_few = len(queued) + len(started) <= _MAX_NAMED_TASKS
        named = [
            f"{job.id}[{indices}]"
            for group in (queued if are_few else [], started[:_MAX_NAMED_TASKS])
            for indices in ranges_of(sorted(int(task.id.partition("[")[2].rstrip("]")) for task in group))
        ]
        if named:
            self.run_change(self.cancel_command, job, *named)
        if not named or not are_few:
            self.run_change(self.cancel_command, job)

    def _with_killed_jobs(self, jobs: list[Job]) -> list[Job]:
        """Return the jobs, with the outcome from LSF's history for those that a signal seems to have ended.

        Asks bhist only where this LSF has no field exit_reason: a script may end with the same exit codes by itself.
        """
        unclear = [job for job in jobs if job.outcome == "failed" and (job.exit_code or 0) > SIGNAL_EXIT_CODE]
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
        """Raise Rejected for more tasks than bparams(1) allows. volclava 2.2 makes one plain job of such an array."""
        try:
            found = re.search(r"MAX_JOB_ARRAY_SIZE\s*=\s*(\d+)", self.read(["bparams", "-l"]))
        except SchedulerUnavailable as error:
            raise NotSent(error.message) from error
        size = parse_array(text).size
        if found and size > int(found[1]):
            raise Rejected(
                f"options.array: This LSF accepts at most {found[1]} tasks in one array, and {size} were given. "
                "Split the array."
            )

    def output(self, job_id: str) -> OutputFiles:
        self.check_id(job_id)
        mine: list[LongRecord] = []
        for argv in (details_command([job_id]), history_command([job_id])):
            mine = mine or self._own_records(self._found(self.run(argv)))
        if not mine:
            raise JobNotFound()
        if len(mine) > 1 or ("[" in mine[0].id and "[" not in job_id):
            raise self.array_output_error(job_id, mine[0].id)
        return output_files(mine[0])

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        return self.select([past.job for past in self._past(job_ids)], job_ids)

    def history(self, period: Period) -> list[PastJob]:
        latest = time.time() + _DAY_S
        # bhist reads whole minutes.
        ends = [min(max(when, _EARLIEST_BHIST_TIME), latest) for when in (period.start, period.end + 60)]
        times = [time.strftime("%Y/%m/%d/%H:%M", time.gmtime(when)) for when in ends]
        return [past for past in self._past(["-u", self.user, "-C", ",".join(times)]) if period.holds(past.job)]

    def _past(self, selection: Sequence[str]) -> list[PastJob]:
        """Return the user's own jobs in LSF's history."""
        mine = self._own_records(self._found(self.run(history_command(selection))))
        limits: dict[str, int | None] = {}
        if any(
            record.exit_code == RUN_LIMIT_EXIT_CODE and record.run_limit_s is None and not record.reason
            for record in mine
        ):
            limits = {queue.name: queue.time_limit for queue in self.queues()}
        return [past_job(record, limits) for record in mine]

    def _own_records(self, text: str) -> list[LongRecord]:
        return [record for record in parse_long_format(text) if record.user == self.user]

    def queues(self) -> list[Queue]:
        default = default_queues(self.read(["bparams"]))
        return parse_queues(self.read(["bqueues", "-l", "-u", self.user]), default)

    def info(self) -> ClusterInfo:
        return cluster_info(self.read(["bhosts", "-w"]))

    def _listed(self, selection: list[str]) -> list[Job]:
        """Return jobs, with the fields that this LSF knows; an empty list where LSF has none of them."""
        while self._fields:
            output = self.run(json_command(self._fields, selection))
            if output.code == UNKNOWN_FIELD_EXIT_CODE and (name := _UNKNOWN_FIELD.search(output.err)):
                self._fields = tuple(field for field in self._fields if field.upper() != name[1].upper())
                continue
            if output.out.lstrip().startswith("{"):
                # bjobs prints an empty list and fails, both without jobs and while LSF is down. Only stderr differs.
                return self._no_jobs(output) if output.code and output.err.strip() else parse_json(output.out)
            if re.search(r"(illegal|invalid|unknown|unrecognized) option|^Usage:", output.err, re.I | re.M):
                self._fields = None
                break
            return self._no_jobs(output)
        output = self.run(table_command(selection))
        return parse_table(output.out) if not output.code and output.out.strip() else self._no_jobs(output)

    def _no_jobs(self, output: Output) -> list[Job]:
        """Return an empty list where bjobs says that it found none. Raises SchedulerUnavailable for other output."""
        message = output.err.strip() or output.out
        if _NO_JOBS.search(message) or _NO_SUCH_JOB.search(message):
            return []
        raise self.read_failure(output)

    def _details(self, selection: list[str]) -> dict[str, LongRecord]:
        """Return the long records of jobs by id."""
        text = self._found(self.run(details_command(selection)))
        return {record.id: record for record in parse_long_format(text)}

    def _found(self, output: Output) -> str:
        """Return what a command printed about jobs; "" where it found none. Raises SchedulerUnavailable."""
        if output.code and not _NO_JOBS.search(output.out + output.err) and not _NO_SUCH_JOB.search(output.err):
            raise self.read_failure(output)
        return output.out

    def _past_job(self, job_id: str) -> Job:
        """Return a job that only the history has. Raises JobNotFound."""
        job = self.look_up([job_id]).get(job_id)
        if job is None:
            raise JobNotFound()
        return job
