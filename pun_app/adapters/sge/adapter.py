"""Grid Engine and its descendants: qsub, qstat, qacct, qdel, qhold, qrls, qconf and qhost, as the user.

Seen with Son of Grid Engine 8.1.9, checked against its manual pages. What runs or waits is asked for as XML; what has
ended stands in the accounting file alone, and there only some seconds later.
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
from pun_app.adapters.sge.parse import cluster_info, details, has_submit_tag, objects, past_jobs, queues_of, rows
from pun_app.adapters.sge.qsub import shell_options, stream_options, task_options

log = logging.getLogger("punway.pun")

LONGEST_RUN = 366 * 86_400
"""Seconds. qacct chooses by the start of jobs; one that ended in a period has not begun longer than this before it."""

_REMEMBERED = 1000
_LATEST = 20
_ON_ITS_WAY = 60.0
"""Seconds after which a job stands in the accounting file, which qmaster writes every 15 (flush_time, sge_conf(5))."""

_NEVER_SENT = re.compile(r"Connection refused|Unable to initialize environment|SGE_ROOT")
_UNREACHABLE = re.compile(r"commlib error|unable to (send message|contact)|got \w+ error|cannot reach", re.I)
_NO_SUCH_JOB = re.compile(
    r'job(-array)?( task)? "?[\d.]+"? does not exist|job id .* not found|Following jobs do not exist', re.I
)
_SUBMITTED = re.compile(r"(\d{1,10})(\.\d+-\d+:\d+)?")
_NAME = re.compile(r"(?!\d)[!-~]+")


class SgeAdapter(CommandLineAdapter):
    """A Grid Engine cell. Its keys in the cluster file: sge_root, and those of Commands."""

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
        # The commands write and read times of their own zone. In UTC no hour comes twice.
        super().__init__(cluster_id, job, {"SGE_ROOT": str(root)} if root else {}, {"TZ": "UTC"})
        self._one_host: str | None = None
        self._known = KnownStreams(cluster_id)
        self._never_ran: dict[str, None] = {}
        self._alive: dict[str, tuple[float, Job]] = {}

    def run_submit(self, request: JobRequest) -> Output:
        environment = job_environment(request, "qsub")
        return self.submit_commands.run(self._submit_command(request), request.content, environment=environment)

    def validate(self, request: JobRequest) -> ValidationResult:
        self.check_options(request)
        argv, environment = self._submit_command(request), job_environment(request, "qsub")
        output = self.submit_commands.run([*argv, "-w", "v"], request.content, environment=environment)
        if output.code:
            raise self.submit_failure(output)
        return ValidationResult(message=output.out.strip()[:500] or None)

    def parse_job_id(self, output: Output) -> str | None:
        found = _SUBMITTED.fullmatch(output.out.strip().rpartition("\n")[2])
        return found[1] if found and not output.code else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        listed = rows(self.read(self._listing("prs"), timeout=LOOKUP_TIMEOUT_S))
        # Each is a command; what was just submitted is among the latest.
        return [
            merge_tasks(number, listed[number])
            for number in sorted(listed, key=int, reverse=True)[:_LATEST]
            if has_submit_tag(self.read(["qstat", "-xml", "-j", number], timeout=LOOKUP_TIMEOUT_S), submit_tag)
        ]

    def jobs(self) -> list[Job]:
        return [merge_tasks(number, tasks) for number, tasks in rows(self.read(self._listing("prsz"))).items()]

    def job(self, job_id: str) -> Job:
        number, _, task = self.check_id(job_id).partition(".")
        listed = rows(self.read(self._listing("prsz")), task).get(number, [])
        if any(one.native_state != "z" for one in listed):
            # A row has the number of the array, whose id would make every change one of all its tasks.
            job = msgspec.structs.replace(merge_tasks(job_id, listed), id=job_id)
            job = details(self.read(["qstat", "-xml", "-j", number]), job, task)
            self._alive = {**dict(list(self._alive.items())[-_REMEMBERED:]), job_id: (time.monotonic(), job)}
            return job
        ended = [past.job for past in self._accounting(["-j", number], task)]
        if not ended and not listed:
            seen = self._alive.get(job_id)
            if seen and time.monotonic() - seen[0] < _ON_ITS_WAY:
                # It has left qstat, and is on its way to the accounting file: it is as it was.
                return seen[1]
            raise JobNotFound()
        # Until it stands in the accounting file it is known that it has ended, not how.
        job = msgspec.structs.replace(merge_tasks(job_id, ended or listed), id=job_id)
        return msgspec.structs.replace(job, outcome="cancelled") if not ended and job_id in self._never_ran else job

    def submit(self, request: JobRequest) -> Job:
        job = super().submit(request)
        try:
            self._streams_of(job.id)
        except SchedulerError as trouble:
            # The job is there, whatever becomes of this.
            log.info("where the output of job %s goes is not known: %s", job.id, trouble.message)
        return job

    def output(self, job_id: str) -> OutputFiles:
        number, _, task = self.check_id(job_id).partition(".")
        streams = self._streams_of(number)
        if streams is None:
            raise JobNotFound(
                f"Where the output of job {job_id} went is not known: Grid Engine tells it until it has ended"
            )
        if streams.owner != self.user:
            raise JobNotFound()
        if streams.array and not task:
            raise self.array_output_error(job_id, f"{number}.1")
        return streams.files(number, task)

    def _streams_of(self, number: str) -> Streams | None:
        output = self.run(["qstat", "-xml", "-j", number])
        streams = self._known.of(number, None if output.code else output.out, self.user)
        if streams is None and output.code and not isinstance(error := self.read_failure(output), JobNotFound):
            raise error
        return streams

    def array_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        text = self.read(self._listing("prsz"))
        alive = {}
        for job_id in job_ids:
            number, _, task = job_id.partition(".")
            listed = rows(text, task).get(number, []) if task else []
            if listed:
                alive[job_id] = msgspec.structs.replace(merge_tasks(job_id, listed), id=job_id)
        return {**alive, **self.select([past.job for past in self._accounting(["-j"])], job_ids)}

    def cancel(self, job_id: str) -> None:
        job = self.unfinished_job(job_id)
        self.run_change(self.cancel_command, job)
        if job.status in (QUEUED, QUEUED_HELD):
            # Of a job that never ran the accounting file says nothing.
            self._never_ran[job.id] = None
            for oldest in list(self._never_ran)[:-_REMEMBERED]:
                self._never_ran.pop(oldest, None)

    def has_held_tasks(self, job: Job) -> bool:
        # In the list an array is one job here.
        tasks = rows(self.read(self._listing("prsz"))).get(job.id, [])
        return any(task.status == QUEUED_HELD for task in tasks)

    def history(self, period: Period) -> list[PastJob]:
        begin = time.strftime("%Y%m%d%H%M", time.gmtime(max(0, period.start - LONGEST_RUN)))
        return [past for past in self._accounting(["-b", begin, "-j"]) if period.holds(past.job)]

    def queues(self) -> list[Queue]:
        return queues_of(self.read(["qstat", "-xml", "-f", "-s", "s"]), self.read(["qconf", "-sq", "*"]))

    def accounts(self) -> list[Account]:
        """The projects that let the user in."""
        output = self.run(["qconf", "-sprjl"])
        if output.code and "no project" in output.out + output.err:
            return []
        if output.code:
            raise self.read_failure(output)
        default = self.run(["qconf", "-suser", self.user]).out
        return [
            Account(name, default=f"default_project {name}\n" in default)
            for name in output.out.split()
            if self._lets_in(self._object("-sprj", name))
        ]

    def info(self) -> ClusterInfo:
        return cluster_info(self.read(["qhost", "-xml"]), self.read(["qstat", "-xml", "-f", "-s", "s"]))

    def _listing(self, states: str) -> list[str]:
        return ["qstat", "-xml", "-r", "-u", self.user, "-s", states]

    def _accounting(self, chosen: list[str], task: str = "") -> list[PastJob]:
        """Records of the user's own jobs, one for each task that has ended."""
        output = self.run(["qacct", "-o", self.user, *chosen])
        if output.code and not re.search(rf"{_NO_SUCH_JOB.pattern}|/accounting: No such file", output.err + output.out):
            raise self.read_failure(output)
        return past_jobs(output.out, self.user, task)

    def _object(self, option: str, name: str) -> dict[str, str]:
        """What qconf shows of one project, access list or parallel environment."""
        found = objects(self.read(["qconf", option, name]))[0] if re.fullmatch("[!-~]+", name) else {}
        if name not in found.values():
            raise SchedulerUnavailable(
                f"Grid Engine's answer cannot be read: qconf {option} tells nothing of {name[:40]!r}"
            )
        return found

    def _lets_in(self, project: dict[str, str]) -> bool:
        return (project.get("acl", "NONE") == "NONE" or self._is_in(project["acl"])) and not (
            project.get("xacl", "NONE") != "NONE" and self._is_in(project["xacl"])
        )

    def _is_in(self, lists: str) -> bool:
        """Whether the user is in one of these access lists, by name or by a group (``@group``)."""
        groups = {f"@{name}" for name in group_names()}
        for name in re.split(r"[ ,]+", lists):
            entries = re.split(r"[ ,]+", self._object("-su", name).get("entries", ""))
            if groups & set(entries) or self.user in entries:
                return True
        return False

    def _submit_command(self, request: JobRequest) -> list[str]:
        """argv of a submit; the script goes to its standard input. Raises Rejected."""
        argv = ["qsub", "-terse", "-ac", f"PUNWAY={request.submit_tag}", "-wd", request.workdir]
        if request.job_name is not None:
            if not _NAME.fullmatch(request.job_name):
                raise Rejected(
                    "options.job_name: Grid Engine takes ASCII characters without blanks, the first no digit"
                )
            argv += ["-N", request.job_name]
        for option, value in (("-q", request.queue_name), ("-P", request.accounting_id), ("-ar", request.reservation)):
            if value is not None:
                argv += [option, value]
        argv += stream_options(request)
        if request.wall_time is not None:
            argv += ["-l", f"h_rt={request.wall_time}"]
        if request.memory is not None:
            # Grid Engine counts memory for each slot.
            argv += ["-l", f"h_vmem={-(-request.memory // (request.cores or 1))}M"]
        if (request.cores or 1) > 1:
            argv += ["-pe", self._parallel_environment(), str(request.cores)]
        argv += task_options(request)
        if request.hold:
            argv.append("-h")
        if request.email is not None:
            argv += ["-M", request.email, "-m", "ea"]
        if request.afterany:
            argv += ["-hold_jid", ",".join(job.partition(".")[0] for job in request.afterany)]
        if request.environment:
            # The names alone: qsub takes the values from its own environment, where nobody else reads them.
            argv += ["-v", ",".join(request.environment)]
        return [*argv, *shell_options(request), *request.native]

    def _parallel_environment(self) -> str:
        """The first that gives all of a job's slots on one host; which there are, each site decides. sge_pe(5)."""
        if self._one_host is None:
            for name in self.read(["qconf", "-spl"]).split():
                if self._object("-sp", name).get("allocation_rule") == "$pe_slots":
                    self._one_host = name
                    break
            else:
                raise Rejected(
                    "options.cores: this Grid Engine has no parallel environment that keeps a job on one host "
                    '(allocation_rule $pe_slots); name one in options.native: ["-pe", NAME, CORES]'
                )
        return self._one_host
