"""Slurm: sbatch, squeue, sacct, scancel, scontrol, sinfo, sacctmgr and sshare, as the user.

What each is asked, and what it prints, is in squeue.py and site.py.
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
from pun_app.adapters.parse import RecordStream, records
from pun_app.adapters.slurm.output import (
    OUTPUT_FIELDS,
    PAST_OUTPUT_FIELDS,
    output_command,
    output_files,
    past_output_command,
    past_output_files,
)
from pun_app.adapters.slurm.sacct import parse_past, past_command
from pun_app.adapters.slurm.site import (
    accounts_command,
    info_command,
    parse_accounts,
    parse_info,
    parse_queue_nodes,
    parse_queues,
    parse_shares,
    queue_nodes_command,
    queues_command,
    shares_command,
)
from pun_app.adapters.slurm.squeue import (
    NEVER_SENT,
    NO_SUCH_JOB,
    QUEUE_FIELDS,
    UNREACHABLE,
    history_command,
    new_delimiter,
    parse_history,
    parse_submit,
    parse_trial,
    queue_command,
    queued_job,
    submit_command,
    trial_command,
)

log = logging.getLogger("punway.pun")


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
    # scancel says nothing of a job that is not there, and ends with 0; it is never asked for one.
    cancel_command, hold_command, release_command = ("scancel",), ("scontrol", "hold"), ("scontrol", "release")
    submit_tag_location = "comment (squeue --me --Format=JobID,Comment:80)"
    failures = ((NotSent, NEVER_SENT), (Unanswered, UNREACHABLE), (JobNotFound, NO_SUCH_JOB))

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        conf = {"SLURM_CONF": str(job["conf"])} if job.get("conf") else {}
        # Epoch seconds: no zone, and no hour that a change of clock has twice. squeue(1), sacct(1).
        super().__init__(cluster_id, job, conf, {"SLURM_TIME_FORMAT": "%s"})
        self._cluster = str(job["cluster"]) if job.get("cluster") else None
        self._local_name: str | None = None

    def run_submit(self, request: JobRequest) -> Output:
        argv, environment = submit_command(request), job_environment(request, "sbatch")
        return self.submit_commands.run(self.for_cluster(argv), request.content, login=False, environment=environment)

    def validate(self, request: JobRequest) -> ValidationResult:
        self.check_options(request)
        argv, environment = trial_command(request), job_environment(request, "sbatch")
        output = self.commands.run(self.for_cluster(argv), request.content, login=False, environment=environment)
        if output.code:
            raise self.submit_failure(output)
        return parse_trial(output.err)

    def parse_job_id(self, output: Output) -> str | None:
        return None if output.code else parse_submit(output.out, self._cluster)

    def find_tagged(self, submit_tag: str) -> list[Job]:
        def keep(_: int | None, comment: str | None, job: Job) -> Job | None:
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
        """The jobs that ``keep`` gives back of uid, comment and job, read while squeue prints the rest."""
        delimiter = new_delimiter()
        stream = RecordStream(delimiter, len(QUEUE_FIELDS))
        jobs: list[Job] = []

        def take(data: bytes) -> None:
            for row in stream.feed(data):
                job = keep(*queued_job(*row))
                if job is not None:
                    jobs.append(job)

        self.read(queue_command(delimiter, user=user, job_id=job_id), take=take, **settings)
        return jobs

    def page(self, count: int, before: str | None) -> list[Job]:
        delimiter = new_delimiter()
        stream = RecordStream(delimiter, len(QUEUE_FIELDS))
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

        self.read(queue_command(delimiter, user=self.user), take=take)
        return [queued_job(*row)[2] for _, row in sorted(latest, reverse=True)]

    def job(self, job_id: str) -> Job:
        self.check_id(job_id)
        others = False

        def keep(uid: int | None, _: str | None, job: Job) -> Job | None:
            nonlocal others
            others = others or uid != self.uid
            return job if uid == self.uid else None

        try:
            mine = self._queue(keep, job_id=job_id)
        except JobNotFound:
            mine = []
        if mine and _may_lack_tasks(job_id, mine):
            mine = _with_earlier(mine, self._accounted([job_id]))
        if not mine and not others:
            # It has left the queue (MinJobAge); accounting still knows it. Not where the id is another user's now:
            # Slurm starts again at FirstJobId (slurm.conf(5)), and accounting may hold a job of ours that had it.
            mine = list(self.look_up([job_id]).values())
        if not mine:
            raise JobNotFound()
        return self.merge(job_id, mine)

    def output(self, job_id: str) -> OutputFiles:
        delimiter = new_delimiter()
        try:
            printed = self.read(output_command(delimiter, self.check_id(job_id)))
        except JobNotFound:
            printed = ""
        rows = self._mine(printed, delimiter, OUTPUT_FIELDS)
        made: Callable[..., OutputFiles] = output_files
        if not rows:
            rows = self._mine(self.read(past_output_command(delimiter, job_id)), delimiter, PAST_OUTPUT_FIELDS)
            made = past_output_files
        if not rows:
            raise JobNotFound()
        # An array that waits is one row, of its first task.
        if len(rows) > 1 or (rows[0][0] != job_id and rows[0][0].startswith(f"{job_id}_")):
            raise self.array_output_error(job_id, rows[0][0])
        return made(*rows[0])

    def _mine(self, printed: str, delimiter: str, fields: Sequence[str]) -> list[list[str]]:
        """The rows whose second field is this user's uid."""
        return [row for row in records(printed, delimiter, len(fields)) if row[1] == str(self.uid)]

    def select(self, jobs: list[Job], job_ids: Sequence[str]) -> dict[str, Job]:
        """As Adapter.picked(); how an array ended is left open where accounting may know of more tasks."""
        found = super().select(jobs, job_ids)
        for job_id, job in found.items():
            if "_" not in job_id and job.status == COMPLETED and _is_array(job_id, jobs):
                found[job_id] = msgspec.structs.replace(job, outcome=None)
        return found

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        return super().select(self._accounted(job_ids), job_ids)

    def _accounted(self, job_ids: Sequence[str]) -> list[Job]:
        """What accounting knows of these jobs of the user; nothing where the site keeps no accounting."""
        delimiter = new_delimiter()
        output = self.run(history_command(delimiter, ",".join(job_ids)))
        if output.code:
            if "accounting storage is disabled" in output.err:
                return []
            raise self.read_failure(output)
        return [job for uid, job in parse_history(output.out, delimiter) if uid == self.uid]

    def history(self, period: Period) -> list[PastJob]:
        delimiter = new_delimiter()
        rows = parse_past(self.read(past_command(delimiter, self.user, period)), delimiter)
        # By uid, not by name, and by our own reading of the times: sacct takes in what only touches the period.
        return [past for uid, past in rows if uid == self.uid and period.holds(past.job)]

    def queues(self) -> list[Queue]:
        delimiter = new_delimiter()
        nodes = parse_queue_nodes(self.read(queue_nodes_command(delimiter)), delimiter)
        return parse_queues(self.read(queues_command()), nodes)

    def accounts(self) -> list[Account]:
        output = self.commands.run(accounts_command(self.user, self._cluster or self._local()))
        if output.code:
            if "accounting_storage" in output.err:
                raise Unsupported(f"Slurm keeps no accounts on cluster {self.cluster_id}")
            raise self.read_failure(output)
        accounts = parse_accounts(output.out)
        if not accounts:
            return []
        shares = self.run(shares_command([account.name for account in accounts]))
        if shares.code:
            # Where Slurm counts no usage there is nothing to tell of it; the accounts are there all the same.
            log.info("what is left of accounts is not known: %s", self.failure(shares).message)
            return accounts
        return parse_shares(shares.out, accounts)

    def info(self) -> ClusterInfo:
        delimiter = new_delimiter()
        return parse_info(self.read(info_command(delimiter)), delimiter)

    def for_cluster(self, argv: Sequence[str]) -> Sequence[str]:
        """The command, for the configured cluster. ``-M`` only for a cluster that is not the local one:
        with it squeue asks slurmdbd first and takes ten times as long."""
        if self._cluster is None or self._cluster == self._local():
            return argv
        return [argv[0], f"--clusters={self._cluster}", *argv[1:]]

    def _local(self) -> str:
        """The name of the cluster that commands speak to without ``-M``."""
        if self._local_name is None:
            output = self.commands.run(["scontrol", "show", "config"])
            if output.code:
                raise self.read_failure(output)
            name = re.search(r"^ClusterName\s*=\s*(\S+)", output.out, re.MULTILINE)
            self._local_name = name[1] if name else ""
        return self._local_name


def _is_array(job_id: str, jobs: list[Job]) -> bool:
    return any(job.id.startswith(f"{job_id}_") for job in jobs)


def _may_lack_tasks(job_id: str, jobs: list[Job]) -> bool:
    """Whether these are tasks of an array that have all ended: Slurm forgets those that ended earlier before them."""
    return _is_array(job_id, jobs) and all(job.status == COMPLETED for job in jobs)


def _with_earlier(jobs: list[Job], accounted: list[Job]) -> list[Job]:
    """The tasks that the queue tells of, and before them those that accounting alone knows."""
    listed = {job.id for job in jobs}
    return [*(job for job in accounted if job.id not in listed), *jobs]
