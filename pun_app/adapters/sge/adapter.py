"""The adapter for Grid Engine: it runs qsub, qstat, qacct, qdel, qhold, qrls, qconf and qhost as the user.

It follows the manual pages of Son of Grid Engine 8.1.9, with which it was tested. qstat prints queued and running jobs
as XML. Jobs that have ended are in the accounting file alone, and there only some seconds later.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, CommandLineAdapter, job_environment
from pun_app.adapters.directives import GRID_ENGINE
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerError, SchedulerUnavailable, Unanswered
from pun_app.adapters.groups import group_names
from pun_app.adapters.model import (
    OPTIONS,
    QUEUED,
    QUEUED_HELD,
    Account,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
    ValidationResult,
    merge_tasks,
)
from pun_app.adapters.native import SGE_QSUB
from pun_app.adapters.sge.output import KnownStreams, Streams
from pun_app.adapters.sge.qacct import accounting_command, parse_records
from pun_app.adapters.sge.qconf import parse_objects
from pun_app.adapters.sge.qstat import details_command, has_submit_tag, list_command, parse_rows, with_details
from pun_app.adapters.sge.qsub import submit_command
from pun_app.adapters.sge.site import INSTANCES_COMMAND, cluster_info, parse_queues

log = logging.getLogger("punway.pun")

MAX_RUN_S = 366 * 86_400
"""The longest run of a job that the history finds. qacct selects jobs by their start, and the history by their end."""

_PENDING_RUNNING_SUSPENDED, _WITH_ENDED = "prs", "prsz"
_MAX_REMEMBERED_JOBS = 1000
_MAX_TAG_LOOKUPS = 20
"""Jobs whose context is read in the search for a submit tag. Each takes one command."""
_ACCOUNTING_DELAY_S = 60.0
"""Time after which an ended job is in the accounting file. qmaster writes it every 15 s (flush_time, sge_conf(5))."""

_NEVER_SENT = re.compile(r"Connection refused|Unable to initialize environment|SGE_ROOT")
_UNREACHABLE = re.compile(r"commlib error|unable to (send message|contact)|got \w+ error|cannot reach", re.I)
_NO_SUCH_JOB = re.compile(
    r'job(-array)?( task)? "?[\d.]+"? does not exist|job id .* not found|Following jobs do not exist', re.I
)
_SUBMITTED = re.compile(r"(\d{1,10})(\.\d+-\d+:\d+)?")


class SgeAdapter(CommandLineAdapter):
    """A Grid Engine cell. Keys in the cluster file: sge_root, and those of Commands."""

    product = "Grid Engine"
    queued_state = "qw"
    directives = GRID_ENGINE
    job_id = re.compile(r"[1-9]\d{0,9}(\.[1-9]\d{0,8})?")
    options = frozenset(OPTIONS) - {"nodes", "gpus", "qos", "after", "afterok", "afternotok"}
    native = SGE_QSUB
    programs = ("qsub", "qstat", "qacct", "qdel", "qhold", "qrls", "qconf", "qhost")
    version_argv = ("qstat", "-help")
    cancel_command, hold_command, release_command = ("qdel",), ("qhold",), ("qrls",)
    submit_tag_location = "context (qstat -j ID)"
    failures = ((NotSent, _NEVER_SENT), (Unanswered, _UNREACHABLE), (JobNotFound, _NO_SUCH_JOB))
    failure_noise = re.compile(r"^Unable to run job: |(; )?Exiting\.$")

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        root = job.get("sge_root") or os.environ.get("SGE_ROOT")
        # The commands print and read local times. In UTC, no hour comes twice.
        super().__init__(cluster_id, job, {"SGE_ROOT": str(root)} if root else {}, {"TZ": "UTC"})
        self._environment_name: str | None = None
        self._known = KnownStreams(cluster_id)
        self._never_ran: dict[str, None] = {}
        self._last_seen: dict[str, tuple[float, Job]] = {}

    def run_submit(self, request: JobRequest) -> Output:
        environment = job_environment(request, "qsub")
        return self.submit_commands.run(self._submit_argv(request), request.content, environment=environment)

    def validate(self, request: JobRequest) -> ValidationResult:
        self.check_options(request)
        argv, environment = self._submit_argv(request), job_environment(request, "qsub")
        output = self.submit_commands.run([*argv, "-w", "v"], request.content, environment=environment)
        if output.code:
            raise self.submit_failure(output)
        return ValidationResult(message=output.out.strip()[:500] or None)

    def parse_job_id(self, output: Output) -> str | None:
        found = _SUBMITTED.fullmatch(output.out.strip().rpartition("\n")[2])
        return found[1] if found and not output.code else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        listed = parse_rows(self.read(list_command(self.user, _PENDING_RUNNING_SUSPENDED), timeout=LOOKUP_TIMEOUT_S))
        # A job that was just submitted is among those with the highest numbers.
        return [
            merge_tasks(number, listed[number])
            for number in sorted(listed, key=int, reverse=True)[:_MAX_TAG_LOOKUPS]
            if has_submit_tag(self.read(details_command(number), timeout=LOOKUP_TIMEOUT_S), submit_tag)
        ]

    def jobs(self) -> list[Job]:
        return [merge_tasks(number, tasks) for number, tasks in parse_rows(self._list()).items()]

    def job(self, job_id: str) -> Job:
        number, _, task = self.check_id(job_id).partition(".")
        listed = parse_rows(self._list(), task).get(number, [])
        if any(one.native_state != "z" for one in listed):
            # A row has the number of the array. A task must keep its own id, or a change of it would change the array.
            job = msgspec.structs.replace(merge_tasks(job_id, listed), id=job_id)
            job = with_details(self.read(details_command(number)), job, task)
            recent = list(self._last_seen.items())[-_MAX_REMEMBERED_JOBS:]
            self._last_seen = {**dict(recent), job_id: (time.monotonic(), job)}
            return job
        ended = [past.job for past in self._accounting(["-j", number], task)]
        if not ended and not listed:
            seen = self._last_seen.get(job_id)
            if seen and time.monotonic() - seen[0] < _ACCOUNTING_DELAY_S:
                # qstat no longer has the job, and the accounting file does not have it yet. Return its last state.
                return seen[1]
            raise JobNotFound()
        # A job that qstat lists as ended and that is not yet in the accounting file has no outcome.
        job = msgspec.structs.replace(merge_tasks(job_id, ended or listed), id=job_id)
        return msgspec.structs.replace(job, outcome="cancelled") if not ended and job_id in self._never_ran else job

    def submit(self, request: JobRequest) -> Job:
        job = super().submit(request)
        try:
            self._streams_of(job.id)
        except SchedulerError as trouble:
            # The job is submitted, and an error now would say that it is not.
            log.info("reading the output paths of job %s failed: %s", job.id, trouble.message)
        return job

    def output(self, job_id: str) -> OutputFiles:
        number, _, task = self.check_id(job_id).partition(".")
        streams = self._streams_of(number)
        if streams is None:
            raise JobNotFound(
                f"The output of job {job_id} cannot be found: Grid Engine has no output paths of a job that has ended, "
                "and they were not read before. Look for the file in the job's working directory."
            )
        if streams.owner != self.user:
            raise JobNotFound()
        if streams.array and not task:
            raise self.array_output_error(job_id, f"{number}.1")
        return streams.files(number, task)

    def _streams_of(self, number: str) -> Streams | None:
        output = self.run(details_command(number))
        streams = self._known.find(number, None if output.code else output.out, self.user)
        if streams is None and output.code and not isinstance(error := self.read_failure(output), JobNotFound):
            raise error
        return streams

    def array_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        text = self._list()
        active = {}
        for job_id in job_ids:
            number, _, task = job_id.partition(".")
            listed = parse_rows(text, task).get(number, []) if task else []
            if listed:
                active[job_id] = msgspec.structs.replace(merge_tasks(job_id, listed), id=job_id)
        return {**active, **self.select([past.job for past in self._accounting(["-j"])], job_ids)}

    def cancel(self, job_id: str) -> None:
        job = self.unfinished_job(job_id)
        self.run_change(self.cancel_command, job)
        if job.status in (QUEUED, QUEUED_HELD):
            # The accounting file has no record of a job that never ran.
            self._never_ran[job.id] = None
            for oldest in list(self._never_ran)[:-_MAX_REMEMBERED_JOBS]:
                self._never_ran.pop(oldest, None)

    def has_held_tasks(self, job: Job) -> bool:
        # jobs() lists an array as one job, so read the rows of its tasks.
        tasks = parse_rows(self._list()).get(job.id, [])
        return any(task.status == QUEUED_HELD for task in tasks)

    def history(self, period: Period) -> list[PastJob]:
        begin = time.strftime("%Y%m%d%H%M", time.gmtime(max(0, period.start - MAX_RUN_S)))
        return [past for past in self._accounting(["-b", begin, "-j"]) if period.holds(past.job)]

    def queues(self) -> list[Queue]:
        return parse_queues(self.read(INSTANCES_COMMAND), self.read(["qconf", "-sq", "*"]))

    def accounts(self) -> list[Account]:
        """Return the projects whose access lists admit the user."""
        output = self.run(["qconf", "-sprjl"])
        if output.code and "no project" in output.out + output.err:
            return []
        if output.code:
            raise self.read_failure(output)
        default = self.run(["qconf", "-suser", self.user]).out
        return [
            Account(name, default=f"default_project {name}\n" in default)
            for name in output.out.split()
            if self._admits(self._object("-sprj", name))
        ]

    def info(self) -> ClusterInfo:
        return cluster_info(self.read(["qhost", "-xml"]), self.read(INSTANCES_COMMAND))

    def _list(self) -> str:
        """Return qstat's list of the user's jobs, recently ended ones included."""
        return self.read(list_command(self.user, _WITH_ENDED))

    def _accounting(self, selection: list[str], task: str = "") -> list[PastJob]:
        """Return the records of the user's own jobs, one for each task that has ended."""
        output = self.run(accounting_command(self.user, selection))
        if output.code and not re.search(rf"{_NO_SUCH_JOB.pattern}|/accounting: No such file", output.err + output.out):
            raise self.read_failure(output)
        return parse_records(output.out, self.user, task)

    def _object(self, option: str, name: str) -> dict[str, str]:
        """Return a project (-sprj), an access list (-su) or a parallel environment (-sp).

        Raises SchedulerUnavailable where qconf does not print it.
        """
        found = parse_objects(self.read(["qconf", option, name]))[0] if re.fullmatch("[!-~]+", name) else {}
        if name not in found.values():
            raise SchedulerUnavailable(
                f"Grid Engine's output cannot be read: qconf {option} printed nothing about {name[:40]!r}"
            )
        return found

    def _admits(self, project: dict[str, str]) -> bool:
        return (project.get("acl", "NONE") == "NONE" or self._is_in(project["acl"])) and not (
            project.get("xacl", "NONE") != "NONE" and self._is_in(project["xacl"])
        )

    def _is_in(self, lists: str) -> bool:
        """Return whether the user is in one of these access lists, by name or by a group (``@group``)."""
        groups = {f"@{name}" for name in group_names()}
        for name in re.split(r"[ ,]+", lists):
            entries = re.split(r"[ ,]+", self._object("-su", name).get("entries", ""))
            if groups & set(entries) or self.user in entries:
                return True
        return False

    def _submit_argv(self, request: JobRequest) -> list[str]:
        return submit_command(request, self.parallel_environment() if (request.cores or 1) > 1 else None)

    def parallel_environment(self) -> str:
        """Return the first parallel environment that gives all of a job's slots on one host.

        Each site chooses the names of its environments. Raises Rejected where there is none. sge_pe(5).
        """
        if self._environment_name is None:
            for name in self.read(["qconf", "-spl"]).split():
                if self._object("-sp", name).get("allocation_rule") == "$pe_slots":
                    self._environment_name = name
                    break
            else:
                raise Rejected(
                    "options.cores: this Grid Engine has no parallel environment that keeps a job on one host "
                    '(allocation_rule $pe_slots). Name another one in options.native: ["-pe", NAME, CORES].'
                )
        return self._environment_name
