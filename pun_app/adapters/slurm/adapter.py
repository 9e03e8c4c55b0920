"""The adapter for Slurm, which runs Slurm's commands as the user.

Each command has a module of pure functions: its command line and its output. sbatch.py submits, squeue.py and sacct.py
list jobs.
"""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pun_app.adapters.base import id_sort_key
from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, CommandLineAdapter, job_environment
from pun_app.adapters.directives import SLURM
from pun_app.adapters.errors import JobNotFound, NotSent, Unanswered, Unsupported
from pun_app.adapters.model import (
    COMPLETED,
    OPTIONS,
    Account,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
    ValidationResult,
)
from pun_app.adapters.native import SBATCH
from pun_app.adapters.parse import RecordStream, new_delimiter, records
from pun_app.adapters.slurm import output as output_paths
from pun_app.adapters.slurm import sacct, sacctmgr, sbatch, scontrol, sinfo, squeue

log = logging.getLogger("punway.pun")

_NOT_SENT = re.compile(r"connect failure|Connection refused|Could not establish a configuration", re.IGNORECASE)
_UNANSWERED = re.compile(
    r"Unable to contact slurm|Socket timed out|Connection (refused|reset|timed out)|Zero Bytes were transmitted"
    r"|authentication|Could not establish a configuration|communication|Transport endpoint|Unexpected message",
    re.IGNORECASE,
)
_NO_SUCH_JOB = re.compile(r"Invalid job id", re.IGNORECASE)


class SlurmAdapter(CommandLineAdapter):
    """A Slurm cluster. Its keys in the cluster file: cluster, conf, and those of Commands."""

    product = "Slurm"
    queued_state = "PENDING"
    directives = SLURM
    wall_time_unit = 60
    job_id = re.compile(r"[1-9]\d{0,9}([_+]\d{1,9})?")
    options = frozenset(OPTIONS)
    native = SBATCH
    programs = ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo", "sacctmgr", "sshare")
    version_argv = ("sinfo", "--version")
    version_pattern = r"slurm\S* (\S+)"
    # For an unknown job scancel prints nothing and exits with 0. It is never run for one.
    cancel_command, hold_command, release_command = ("scancel",), ("scontrol", "hold"), ("scontrol", "release")
    submit_tag_location = "comment (squeue --me --Format=JobID,Comment:80)"
    failures = ((NotSent, _NOT_SENT), (Unanswered, _UNANSWERED), (JobNotFound, _NO_SUCH_JOB))

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        conf = {"SLURM_CONF": str(job["conf"])} if job.get("conf") else {}
        # Unix seconds have no time zone, and no hour that daylight saving time repeats. squeue(1), sacct(1).
        super().__init__(cluster_id, job, conf, {"SLURM_TIME_FORMAT": "%s"})
        self._cluster = str(job["cluster"]) if job.get("cluster") else None
        self._local_cluster_name: str | None = None

    def run_submit(self, request: JobRequest) -> Output:
        argv, environment = sbatch.submit_command(request), job_environment(request, "sbatch")
        return self.submit_commands.run(self.for_cluster(argv), request.content, login=False, environment=environment)

    def validate(self, request: JobRequest) -> ValidationResult:
        self.check_options(request)
        argv, environment = sbatch.validate_command(request), job_environment(request, "sbatch")
        output = self.commands.run(self.for_cluster(argv), request.content, login=False, environment=environment)
        if output.code:
            raise self.submit_failure(output)
        return sbatch.parse_validation(output.err)

    def parse_job_id(self, output: Output) -> str | None:
        return None if output.code else sbatch.parse_job_id(output.out, self._cluster)

    def find_tagged(self, submit_tag: str) -> list[Job]:
        def keep(_uid: int | None, comment: str | None, job: Job) -> Job | None:
            return job if comment and comment.endswith(submit_tag) else None

        return self._queue(keep, user=self.user, timeout=LOOKUP_TIMEOUT_S)

    def array_id(self, job_id: str) -> str:
        # 123_4 is a task, and 123+1 a part of a heterogeneous job.
        return re.split("[_+]", job_id)[0]

    def jobs(self) -> list[Job]:
        return self._queue(lambda _uid, _comment, job: job, user=self.user)

    def _queue(
        self,
        keep: Callable[[int | None, str | None, Job], Job | None],
        *,
        user: str | None = None,
        job_id: str | None = None,
        **settings: Any,
    ) -> list[Job]:
        """Return the jobs in squeue that ``keep(uid, comment, job)`` returns. Rows are parsed while squeue prints."""
        delimiter = new_delimiter()
        stream = RecordStream(delimiter, len(squeue.COLUMNS))
        jobs: list[Job] = []

        def take(data: bytes) -> None:
            for row in stream.feed(data):
                job = keep(*squeue.parse_row(row))
                if job is not None:
                    jobs.append(job)

        self.read(squeue.jobs_command(delimiter, user=user, job_id=job_id), take=take, **settings)
        return jobs

    def page(self, count: int, before: str | None) -> list[Job]:
        delimiter = new_delimiter()
        stream = RecordStream(delimiter, len(squeue.COLUMNS))
        latest: list[tuple[Any, list[str]]] = []

        def take(data: bytes) -> None:
            for row in stream.feed(data):
                entry = id_sort_key(row[0]), row
                if before is not None and entry[0] >= id_sort_key(before):
                    continue
                if len(latest) < count:
                    heapq.heappush(latest, entry)
                else:
                    heapq.heappushpop(latest, entry)

        self.read(squeue.jobs_command(delimiter, user=self.user), take=take)
        return [squeue.parse_row(row)[2] for _, row in sorted(latest, reverse=True)]

    def job(self, job_id: str) -> Job:
        self.check_id(job_id)
        is_reused = False

        def keep(uid: int | None, _comment: str | None, job: Job) -> Job | None:
            nonlocal is_reused
            is_reused = is_reused or uid != self.uid
            return job if uid == self.uid else None

        try:
            jobs = self._queue(keep, job_id=job_id)
        except JobNotFound:
            jobs = []
        if jobs and _may_lack_tasks(job_id, jobs):
            jobs = _with_earlier(jobs, self._accounted([job_id]))
        if not jobs and not is_reused:
            # The job has left the queue (MinJobAge), but accounting has it. Skip this if the id is now another user's:
            # Slurm starts again at FirstJobId (slurm.conf(5)), and accounting may have an older job of this user.
            jobs = list(self.look_up([job_id]).values())
        if not jobs:
            raise JobNotFound()
        return self.merge(job_id, jobs)

    def output(self, job_id: str) -> OutputFiles:
        delimiter = new_delimiter()
        try:
            printed = self.read(output_paths.queue_command(delimiter, self.check_id(job_id)))
        except JobNotFound:
            printed = ""
        rows = self._own_rows(printed, delimiter, output_paths.QUEUE_COLUMNS)
        if rows:
            self._check_single(job_id, rows)
            return output_paths.files_in_queue(output_paths.QueueRow._make(rows[0]))
        printed = self.read(output_paths.accounting_command(delimiter, job_id))
        rows = self._own_rows(printed, delimiter, output_paths.ACCOUNTING_COLUMNS)
        if not rows:
            raise JobNotFound()
        self._check_single(job_id, rows)
        return output_paths.files_in_accounting(output_paths.AccountingRow._make(rows[0]))

    def _own_rows(self, printed: str, delimiter: str, columns: Sequence[str]) -> list[list[str]]:
        """Return the rows whose second column is this user's uid."""
        return [row for row in records(printed, delimiter, len(columns)) if row[1] == str(self.uid)]

    def _check_single(self, job_id: str, rows: list[list[str]]) -> None:
        """Raise Rejected for an array. A queued array is one row, of its first task."""
        first = rows[0][0]
        if len(rows) > 1 or (first != job_id and first.startswith(f"{job_id}_")):
            raise self.array_output_error(job_id, first)

    def select(self, jobs: list[Job], job_ids: Sequence[str]) -> dict[str, Job]:
        """Select jobs as Adapter.select() does, but leave out an array's outcome if accounting may have more tasks."""
        found = super().select(jobs, job_ids)
        for job_id, job in found.items():
            if "_" not in job_id and job.status == COMPLETED and _is_array(job_id, jobs):
                found[job_id] = msgspec.structs.replace(job, outcome=None)
        return found

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        return super().select(self._accounted(job_ids), job_ids)

    def _accounted(self, job_ids: Sequence[str]) -> list[Job]:
        """Return the user's jobs with these ids in accounting; none on a site without accounting."""
        delimiter = new_delimiter()
        output = self.run(sacct.sacct_jobs_command(delimiter, ",".join(job_ids)))
        if output.code:
            if "accounting storage is disabled" in output.err:
                return []
            raise self.read_failure(output)
        return [job for uid, job in sacct.parse_jobs(output.out, delimiter) if uid == self.uid]

    def history(self, period: Period) -> list[PastJob]:
        delimiter = new_delimiter()
        printed = self.read(sacct.sacct_history_command(delimiter, self.user, period))
        # Compare uids, not names. Compare times again, since sacct includes jobs that only overlap the period.
        rows = sacct.parse_history(printed, delimiter)
        return [past for uid, past in rows if uid == self.uid and period.holds(past.job)]

    def queues(self) -> list[Queue]:
        delimiter = new_delimiter()
        nodes = sinfo.parse_queue_nodes(self.read(sinfo.queue_nodes_command(delimiter)), delimiter)
        return scontrol.parse_queues(self.read(scontrol.QUEUES_COMMAND), nodes)

    def accounts(self) -> list[Account]:
        output = self.commands.run(sacctmgr.accounts_command(self.user, self._cluster or self._local_cluster()))
        if output.code:
            if "accounting_storage" in output.err:
                raise Unsupported(f"Slurm keeps no accounts on cluster {self.cluster_id}")
            raise self.read_failure(output)
        accounts = sacctmgr.parse_accounts(output.out)
        if not accounts:
            return []
        shares = self.run(sacctmgr.shares_command([account.name for account in accounts]))
        if shares.code:
            # sshare fails if Slurm counts no usage. The accounts are complete without it.
            log.info("cannot read the usage of accounts: %s", self.failure(shares).message)
            return accounts
        return sacctmgr.parse_shares(shares.out, accounts)

    def info(self) -> ClusterInfo:
        delimiter = new_delimiter()
        return sinfo.parse_nodes(self.read(sinfo.nodes_command(delimiter)), delimiter)

    def for_cluster(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the command for the configured cluster.

        ``--clusters`` is added only for a cluster other than the local one: with it squeue asks slurmdbd first and
        takes ten times as long.
        """
        if self._cluster is None or self._cluster == self._local_cluster():
            return argv
        return [argv[0], f"--clusters={self._cluster}", *argv[1:]]

    def _local_cluster(self) -> str:
        """Return the name of the cluster that commands use without ``--clusters``."""
        if self._local_cluster_name is None:
            output = self.commands.run(scontrol.CLUSTER_NAME_COMMAND)
            if output.code:
                raise self.read_failure(output)
            self._local_cluster_name = scontrol.parse_cluster_name(output.out)
        return self._local_cluster_name


def _is_array(job_id: str, jobs: list[Job]) -> bool:
    return any(job.id.startswith(f"{job_id}_") for job in jobs)


def _may_lack_tasks(job_id: str, jobs: list[Job]) -> bool:
    """Return True for tasks of an array that have all ended: Slurm may have forgotten those that ended earlier."""
    return _is_array(job_id, jobs) and all(job.status == COMPLETED for job in jobs)


def _with_earlier(jobs: list[Job], accounted: list[Job]) -> list[Job]:
    """Return the tasks that only accounting has, and after them the tasks in the queue."""
    listed = {job.id for job in jobs}
    return [*(job for job in accounted if job.id not in listed), *jobs]
