"""The adapter for Torque: it runs qsub, qselect, qstat, qdel, qhold, qrls and pbsnodes as the user.

It follows the manual pages and the source of Torque 6. Jobs are read as XML, by their ids. An ended job is listed for
as long as its queue keeps it (keep_completed).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, CommandLineAdapter
from pun_app.adapters.directives import PBS
from pun_app.adapters.errors import JobNotFound, NotSent, Unanswered
from pun_app.adapters.markup import Element, document, text_of
from pun_app.adapters.model import (
    OPTIONS,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    Queue,
)
from pun_app.adapters.native import TORQUE_QSUB
from pun_app.adapters.pbs.output import output_files
from pun_app.adapters.pbs.qsub import environment
from pun_app.adapters.pbs.torque_qstat import MAX_IDS_PER_COMMAND, job_of, jobs_command, parse_jobs
from pun_app.adapters.pbs.torque_qsub import submit_command
from pun_app.adapters.pbs.torque_site import cluster_info, parse_queues

UNKNOWN_JOB, NOT_YOURS = 153, 159
"""Exit codes of the commands: Torque's error number modulo 256."""

_NEVER_SENT = re.compile(r"connection refused|cannot connect to|cannot resolve|unable to communicate", re.I)
_UNREACHABLE = re.compile(r"time[d]? ?out|connection|munge|trqauthd|end of file|errno=15\d{3}", re.I)


class TorqueAdapter(CommandLineAdapter):
    """A Torque cluster. Keys in the cluster file: host, and those of Commands."""

    product = "Torque"
    directives = PBS
    queued_state = "Q"
    job_id = re.compile(r"\d{1,12}(\[\d{0,9}\])?(\.[A-Za-z0-9][A-Za-z0-9_.-]{0,200})?")
    options = frozenset(OPTIONS)
    native = TORQUE_QSUB
    programs = ("qsub", "qselect", "qstat", "qdel", "qhold", "qrls", "pbsnodes")
    version_argv = ("qstat", "--version")
    version_pattern = r"[Vv]ersion:? (\S+)"
    cancel_command, hold_command, release_command = ("qdel",), ("qhold",), ("qrls",)
    submit_tag_location = "PBS_O_MAIL (qstat -f)"
    failures = ((NotSent, _NEVER_SENT), (Unanswered, _UNREACHABLE))
    failure_codes = MappingProxyType({UNKNOWN_JOB: JobNotFound})

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        # OOD's factory calls bin_overrides custom_bin for this adapter.
        job = {"bin_overrides": job.get("custom_bin"), **job}
        super().__init__(cluster_id, job, {"PBS_DEFAULT": str(job["host"])} if job.get("host") else {}, {})

    def run_submit(self, request: JobRequest) -> Output:
        return self.submit_commands.run(
            submit_command(request), request.content, environment=environment(request), cwd=request.workdir
        )

    def parse_job_id(self, output: Output) -> str | None:
        found = self.job_id.fullmatch(output.out.strip().partition("\n")[0])
        return found[0] if found and not output.code else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        jobs = self._jobs(self._select(timeout=LOOKUP_TIMEOUT_S), timeout=LOOKUP_TIMEOUT_S)
        return [job_of(job) for job in jobs if f"PBS_O_MAIL={submit_tag}" in text_of(job, "Variable_List")]

    def array_id(self, job_id: str) -> str:
        return re.sub(r"\[\d+\]", "[]", job_id)

    def jobs(self) -> list[Job]:
        return [job_of(job) for job in self._jobs(self._select())]

    def job(self, job_id: str) -> Job:
        # With -t, qstat prints the tasks of the array. Without it, an array's id prints all jobs of all users.
        found = [job_of(job) for job in self._jobs([self.check_id(job_id)], tasks="[]" in job_id)]
        mine = [job for job in found if job.owner == self.user]
        if not mine:
            raise JobNotFound()
        return self.merge(job_id, mine)

    def merge(self, job_id: str, jobs: list[Job]) -> Job:
        if "[]" not in job_id:
            return jobs[0]
        return msgspec.structs.replace(super().merge(job_id, jobs), name=re.sub(r"-\d+$", "", jobs[0].name or ""))

    def output(self, job_id: str) -> OutputFiles:
        if "[]" in self.check_id(job_id):
            raise self.array_output_error(job_id, job_id.replace("[]", "[1]").partition(".")[0])
        for job in self._jobs([job_id]):
            if job_of(job).owner == self.user:
                paths = (text_of(job, name) for name in ("Output_Path", "Error_Path", "Join_Path", "Keep_Files"))
                return output_files(text_of(job, "Job_Id"), *paths)
        raise JobNotFound()

    def normalize_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        # Without arrays: jobs() lists their tasks, and an array's id would print all jobs of all users.
        single = [job_id for job_id in job_ids if "[]" not in job_id]
        mine = [job for job in map(job_of, self._jobs(single)) if job.owner == self.user]
        return self.select(mine, job_ids)

    def queues(self) -> list[Queue]:
        return parse_queues(self.read(["qstat", "-Q", "-f"]), self.read(["qstat", "-B", "-f"]))

    def info(self) -> ClusterInfo:
        return cluster_info(document(self.read(["pbsnodes", "-x"]), self.product))

    def _select(self, **settings: Any) -> list[str]:
        """Return the ids of the user's jobs, including ended ones that are still kept."""
        return self.parse_job_ids(self.read(["qselect", "-u", self.user], **settings))

    def _jobs(self, ids: Sequence[str], *, tasks: bool = False, **settings: Any) -> list[Element]:
        """Return those of the jobs that Torque has. Raises SchedulerUnavailable."""
        jobs: list[Element] = []
        for start in range(0, len(ids), MAX_IDS_PER_COMMAND):
            argv = jobs_command(ids[start : start + MAX_IDS_PER_COMMAND], tasks=tasks)
            output = self.run(argv, **settings)
            # qstat fails if one of the jobs does not exist, but prints the others.
            if output.code not in (0, UNKNOWN_JOB, NOT_YOURS):
                raise self.read_failure(output)
            jobs += parse_jobs(output.out, self.product)
        return jobs
