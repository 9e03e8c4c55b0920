"""The adapter for OpenPBS and PBS Pro: it runs qsub, qselect, qstat, qdel, qhold, qrls and pbsnodes as the user.

It follows the manual pages of OpenPBS 23.06, with which it was tested. Jobs are read as JSON, by their ids. A list of
all users' jobs would be long, and the environment of one user's job can make it unreadable for everybody.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, RECENT_S, CommandLineAdapter
from pun_app.adapters.directives import PBS
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, Unanswered, Unsupported
from pun_app.adapters.model import (
    OPTIONS,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
)
from pun_app.adapters.native import PBS_QSUB
from pun_app.adapters.pbs.output import output_files
from pun_app.adapters.pbs.pbspro_qstat import (
    MAX_IDS_PER_COMMAND,
    Jobs,
    PbsJob,
    decode,
    job_of,
    jobs_command,
    owner_of,
    past_job,
)
from pun_app.adapters.pbs.pbspro_qsub import submit_command
from pun_app.adapters.pbs.pbspro_site import (
    NODES_COMMAND,
    QUEUES_COMMAND,
    SERVERS_COMMAND,
    cluster_info,
    parse_queues,
)
from pun_app.adapters.pbs.qsub import environment
from pun_app.adapters.script import in_workdir

UNKNOWN_JOB, FINISHED = 153, 35
"""Exit codes of the commands: PBS's error number modulo 256."""

_NEVER_SENT = re.compile(r"connection refused|cannot connect|couldn't connect|pbsconf error", re.IGNORECASE)
_UNREACHABLE = re.compile(
    r"connection (reset|timed out)|no route|unable to authenticate|end of file|server.*shutting|errno=15\d{3}"
    r"|communication",
    re.IGNORECASE,
)
_HISTORY_OFF = "not configured to maintain job history"


class PbsProAdapter(CommandLineAdapter):
    """An OpenPBS or PBS Pro cluster. Keys in the cluster file: host, exec, and those of Commands."""

    product = "PBS"
    directives = PBS
    job_id = re.compile(r"\d{1,12}(\[\d{0,9}\])?(\.[A-Za-z0-9][A-Za-z0-9_.-]{0,200})?")
    options = frozenset(OPTIONS) - {"qos"}
    native = PBS_QSUB
    programs = ("qsub", "qselect", "qstat", "qdel", "qhold", "qrls", "pbsnodes")
    version_argv = ("qstat", "--version")
    version_pattern = r"pbs_version = (\S+)"
    # Each command gets one id. With a known and an unknown id, the server of OpenPBS 23.06 crashes.
    cancel_command, hold_command, release_command = ("qdel",), ("qhold",), ("qrls",)
    submit_tag_location = "PBS_O_MAIL (qstat -f)"
    failures = ((NotSent, _NEVER_SENT), (Unanswered, _UNREACHABLE))
    failure_codes = MappingProxyType({UNKNOWN_JOB: JobNotFound})

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        server = {"PBS_DEFAULT": str(job["host"]), "PBS_SERVER": str(job["host"])} if job.get("host") else {}
        if job.get("exec"):
            server["PBS_EXEC"] = str(job["exec"])
            job = {"bin": os.path.join(str(job["exec"]), "bin"), **job}
        # The commands print and read local times. In UTC, no hour comes twice.
        super().__init__(cluster_id, job, server, {"TZ": "UTC"})

    def run_submit(self, request: JobRequest) -> Output:
        script = in_workdir(request, '"$PBS_O_WORKDIR"', "PBS_O_WORKDIR", self.product)
        return self.submit_commands.run(
            submit_command(request), script, environment=environment(request), cwd=request.workdir
        )

    def parse_job_id(self, output: Output) -> str | None:
        # Whatever the exit code is: with -W block=true, it is that of the job.
        found = self.job_id.fullmatch(output.out.strip().partition("\n")[0])
        return found[0] if found else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        jobs = self._jobs(self._select("-u", self.user, timeout=LOOKUP_TIMEOUT_S), timeout=LOOKUP_TIMEOUT_S)
        return [job_of(job_id, job) for job_id, job in jobs.items() if submit_tag in str(job.variables)]

    def run_change(self, command: tuple[str, ...], job: Job, *tasks: str) -> None:
        array = re.sub(r"\[\d+\]", "[]", job.id)
        if command != self.cancel_command and array != job.id:
            raise Rejected(
                f"Job {job.id} is a task of an array. PBS holds and releases only whole arrays. Use the job id {array}."
            )
        super().run_change(command, job, *tasks)

    def jobs(self) -> list[Job]:
        ids = self._select("-u", self.user)
        try:
            ids += self._ended(int(time.time()) - RECENT_S)
        except Unsupported:
            pass  # Without a job history, PBS has only jobs that have not ended.
        return [job_of(job_id, job) for job_id, job in self._jobs(ids).items()]

    def job(self, job_id: str) -> Job:
        for found, job in self._jobs([self.check_id(job_id)]).items():
            if owner_of(job) == self.user:
                return job_of(found, job)
        raise JobNotFound()

    def output(self, job_id: str) -> OutputFiles:
        for found, job in self._jobs([self.check_id(job_id)]).items():
            if owner_of(job) == self.user:
                if "[]" in found:
                    raise self.array_output_error(job_id, found.replace("[]", "[1]").partition(".")[0])
                return output_files(found, str(job.output), str(job.error), str(job.join_path), str(job.keep_files))
        raise JobNotFound()

    def normalize_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        mine = [job_of(found, job) for found, job in self._jobs(job_ids).items() if owner_of(job) == self.user]
        return self.select(mine, job_ids)

    def history(self, period: Period) -> list[PastJob]:
        past = [past_job(job_id, job) for job_id, job in self._jobs(self._ended(period.start)).items()]
        return [one for one in past if period.holds(one.job)]

    def queues(self) -> list[Queue]:
        servers = self.read(SERVERS_COMMAND)
        return parse_queues(self.read(QUEUES_COMMAND), servers, self.user)

    def info(self) -> ClusterInfo:
        return cluster_info(self.read(NODES_COMMAND))

    def _select(self, *options: str, **settings: Any) -> list[str]:
        """Return the ids of jobs and arrays, without those of an array's tasks."""
        return self.parse_job_ids(self.read(["qselect", *options], **settings))

    def _ended(self, since: int) -> list[str]:
        """Return the ids of the user's ended jobs that changed after ``since`` (Unix seconds).

        Raises Unsupported where PBS keeps no job history.
        """
        earliest = time.strftime("%Y%m%d%H%M.%S", time.gmtime(since))
        output = self.run(["qselect", "-H", "-u", self.user, f"-tm.ge.{earliest}"])
        if _HISTORY_OFF in output.err:
            raise Unsupported(
                f"PBS keeps no job history on cluster {self.cluster_id}. An administrator can enable it on the server "
                "(job_history_enable)."
            )
        if output.code:
            raise self.read_failure(output)
        return self.parse_job_ids(output.out)

    def _jobs(self, ids: Sequence[str], **settings: Any) -> dict[str, PbsJob]:
        """Return those of the jobs that PBS has, by id. Raises SchedulerUnavailable."""
        jobs: dict[str, PbsJob] = {}
        for start in range(0, len(ids), MAX_IDS_PER_COMMAND):
            part = ids[start : start + MAX_IDS_PER_COMMAND]
            output = self.run(jobs_command(part, with_history=True), **settings)
            if _HISTORY_OFF in output.err:
                output = self.run(jobs_command(part, with_history=False), **settings)
            # qstat fails if one of the jobs does not exist, but prints the others.
            if output.code not in (0, UNKNOWN_JOB, FINISHED):
                raise self.read_failure(output)
            jobs |= decode(output.out, Jobs).jobs
        return jobs
