"""OpenPBS and PBS Pro: qsub, qselect, qstat, qdel, qhold, qrls and pbsnodes, as the user.

Seen with OpenPBS 23.06, checked against its manual pages. Jobs are asked for as JSON, by id: a list of everybody's
jobs would be read to its end for a few, and one user's environment can make it unreadable for all.
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
from pun_app.adapters.pbs.pbspro_parse import (
    JobAnswer,
    Jobs,
    Nodes,
    Queues,
    Servers,
    admits,
    cluster_info,
    job_of,
    past_job,
    queue_of,
    read,
    user_of,
)
from pun_app.adapters.pbs.qsub import common_options, dependencies, environment, output_files
from pun_app.adapters.script import in_workdir

UNKNOWN_JOB, FINISHED = 153, 35
"""Exit statuses of the commands: PBS's error number modulo 256."""

_NEVER_SENT = re.compile(r"connection refused|cannot connect|couldn't connect|pbsconf error", re.IGNORECASE)
_UNREACHABLE = re.compile(
    r"connection (reset|timed out)|no route|unable to authenticate|end of file|server.*shutting|errno=15\d{3}"
    r"|communication",
    re.IGNORECASE,
)
_HISTORY_OFF = "not configured to maintain job history"
_RANGE = re.compile(r"(\d+)(?:-(\d+)(:\d+)?)?(%\d+)?")
_IN_ONE_COMMAND = 2000


class PbsProAdapter(CommandLineAdapter):
    """An OpenPBS or PBS Pro cluster. Its keys in the cluster file: host, exec, and those of Commands."""

    product = "PBS"
    directives = PBS
    job_id = re.compile(r"\d{1,12}(\[\d{0,9}\])?(\.[A-Za-z0-9][A-Za-z0-9_.-]{0,200})?")
    options = frozenset(OPTIONS) - {"qos"}
    native = PBS_QSUB
    programs = ("qsub", "qselect", "qstat", "qdel", "qhold", "qrls", "pbsnodes")
    version_argv = ("qstat", "--version")
    version_pattern = r"pbs_version = (\S+)"
    # One id a command: with a good and an unknown one, OpenPBS 23.06's server crashes.
    cancel_command, hold_command, release_command = ("qdel",), ("qhold",), ("qrls",)
    submit_tag_location = "PBS_O_MAIL (qstat -f)"
    failures = ((NotSent, _NEVER_SENT), (Unanswered, _UNREACHABLE))
    failure_codes = MappingProxyType({UNKNOWN_JOB: JobNotFound})

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        server = {"PBS_DEFAULT": str(job["host"]), "PBS_SERVER": str(job["host"])} if job.get("host") else {}
        if job.get("exec"):
            server["PBS_EXEC"] = str(job["exec"])
            job = {"bin": os.path.join(str(job["exec"]), "bin"), **job}
        # The commands write and read times of their own zone. In UTC no hour comes twice.
        super().__init__(cluster_id, job, server, {"TZ": "UTC"})

    def run_submit(self, request: JobRequest) -> Output:
        script = in_workdir(request, '"$PBS_O_WORKDIR"', "PBS_O_WORKDIR", self.product)
        return self.submit_commands.run(
            submit_command(request), script, environment=environment(request), cwd=request.workdir
        )

    def parse_job_id(self, output: Output) -> str | None:
        # Before the exit status, which with -W block=true is the job's own.
        found = self.job_id.fullmatch(output.out.strip().partition("\n")[0])
        return found[0] if found else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        jobs = self._jobs(self._select("-u", self.user, timeout=LOOKUP_TIMEOUT_S), timeout=LOOKUP_TIMEOUT_S)
        return [job_of(job_id, job) for job_id, job in jobs.items() if submit_tag in str(job.variables)]

    def run_change(self, command: tuple[str, ...], job: Job, *tasks: str) -> None:
        array = re.sub(r"\[\d+\]", "[]", job.id)
        if command != self.cancel_command and array != job.id:
            raise Rejected(
                f"Job {job.id} is a task of an array, which PBS holds and releases only as a whole: ask for {array}"
            )
        super().run_change(command, job, *tasks)

    def jobs(self) -> list[Job]:
        ids = self._select("-u", self.user)
        try:
            ids += self._ended(int(time.time()) - RECENT_S)
        except Unsupported:
            pass  # Without a history only what has not ended is there.
        return [job_of(job_id, job) for job_id, job in self._jobs(ids).items()]

    def job(self, job_id: str) -> Job:
        for found, job in self._jobs([self.check_id(job_id)]).items():
            if user_of(job) == self.user:
                return job_of(found, job)
        raise JobNotFound()

    def output(self, job_id: str) -> OutputFiles:
        for found, job in self._jobs([self.check_id(job_id)]).items():
            if user_of(job) == self.user:
                if "[]" in found:
                    raise self.array_output_error(job_id, found.replace("[]", "[1]").partition(".")[0])
                return output_files(found, str(job.output), str(job.error), str(job.joined), str(job.kept))
        raise JobNotFound()

    def normalize_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        mine = [job_of(found, job) for found, job in self._jobs(job_ids).items() if user_of(job) == self.user]
        return self.select(mine, job_ids)

    def history(self, period: Period) -> list[PastJob]:
        past = [past_job(job_id, job) for job_id, job in self._jobs(self._ended(period.start)).items()]
        return [one for one in past if period.holds(one.job)]

    def queues(self) -> list[Queue]:
        servers = read(self.read(["qstat", "-B", "-f", "-F", "json"]), Servers).servers.values()
        queues = read(self.read(["qstat", "-Q", "-f", "-F", "json"]), Queues).queues
        default = {server.default_queue for server in servers}
        return [queue_of(name, queue, name in default) for name, queue in queues.items() if admits(queue, self.user)]

    def info(self) -> ClusterInfo:
        return cluster_info(list(read(self.read(["pbsnodes", "-a", "-F", "json"]), Nodes).nodes.values()))

    def _select(self, *options: str, **settings: Any) -> list[str]:
        """Ids of jobs and arrays, not of an array's tasks."""
        return self.parse_job_ids(self.read(["qselect", *options], **settings))

    def _ended(self, since: int) -> list[str]:
        """Ids of the user's jobs that have ended, and changed since then. Raises Unsupported."""
        when = time.strftime("%Y%m%d%H%M.%S", time.gmtime(since))
        output = self.run(["qselect", "-H", "-u", self.user, f"-tm.ge.{when}"])
        if _HISTORY_OFF in output.err:
            raise Unsupported(f"PBS keeps no history of jobs on cluster {self.cluster_id} (job_history_enable)")
        if output.code:
            raise self.read_failure(output)
        return self.parse_job_ids(output.out)

    def _jobs(self, ids: Sequence[str], **settings: Any) -> dict[str, JobAnswer]:
        """Those of the jobs that are there, by id. Raises SchedulerUnavailable.

        With ``-E`` they are one question to the server; without it, OpenPBS 23.06 prints the first of several alone.
        """
        jobs: dict[str, JobAnswer] = {}
        in_json = ["-E", "-f", "-F", "json"]
        for start in range(0, len(ids), _IN_ONE_COMMAND):
            part = ids[start : start + _IN_ONE_COMMAND]
            output = self.run(["qstat", "-x", *in_json, *part], **settings)
            if _HISTORY_OFF in output.err:
                output = self.run(["qstat", *in_json, *part], **settings)
            # One that has gone makes the status that of a failure; the others are told all the same.
            if output.code not in (0, UNKNOWN_JOB, FINISHED):
                raise self.read_failure(output)
            jobs |= read(output.out, Jobs).jobs
        return jobs


def submit_command(request: JobRequest) -> list[str]:
    """argv of a submit; the script goes to its standard input. Raises Rejected.

    ``-f``: otherwise qsub leaves a process behind, in whose words everybody can read what was submitted.
    """
    argv = ["qsub", "-f", *common_options(request)]
    if request.reservation is not None:
        if request.queue_name is not None:
            raise Rejected("options.reservation: a reservation of PBS is a queue of its own; leave queue_name out")
        argv += ["-q", request.reservation]
    if request.array is not None:
        argv += ["-J", _array_range(request.array)]
    return [*argv, *_chunks(request), *dependencies(request), *request.native]


def _array_range(given: str) -> str:
    """What -J takes: one range of two numbers or more."""
    match = _RANGE.fullmatch(given)
    if not match:
        raise Rejected("options.array: PBS takes one range, such as 0-9, 0-9:2 or 1-100%10")
    first, last, step, at_once = match.groups()
    if last is None or int(last) == int(first):
        # A single task is the one of two that a step of two leaves.
        last, step = str(int(first) + 1), ":2"
    return f"{first}-{last}{step or ''}{at_once or ''}"


def _chunks(request: JobRequest) -> list[str]:
    """Nodes, and what each of them is to have, as ``select``; nothing where none of it was asked for."""
    nodes, cores = request.nodes or 1, request.cores
    each = (f":mem={request.memory}mb" if request.memory is not None else "") + (
        f":ngpus={request.gpus}" if request.gpus is not None else ""
    )
    if request.nodes is None and cores is None and not each:
        return []
    if cores is None:
        select = f"{nodes}:ncpus=1{each}"
    elif cores < nodes:
        raise Rejected(f"options.cores: {cores} cores cannot be on {nodes} nodes")
    else:
        # Where they do not come out even, some of the nodes have one more.
        few, more = divmod(cores, nodes)
        parts = [(more, few + 1), (nodes - more, few)]
        select = "+".join(f"{count}:ncpus={cpus}{each}" for count, cpus in parts if count)
    argv = ["-l", f"select={select}"]
    return [*argv, "-l", "place=scatter"] if nodes > 1 else argv
