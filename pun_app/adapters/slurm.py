"""Slurm: sbatch, squeue, sacct, scancel, scontrol, sinfo, sacctmgr and sshare, as the user.

What each is asked, and what it prints, is in slurm_jobs.py and slurm_site.py.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import secrets
import time
from typing import Any

from pun_app.adapters.base import Adapter
from pun_app.adapters.command import CommandFailed, Commands
from pun_app.adapters.model import (
    COMPLETED,
    OPTIONS,
    QUEUED,
    QUEUED_HELD,
    Account,
    ClusterInfo,
    Job,
    JobRequest,
    PastJob,
    Period,
    Queue,
    whole_job,
)
from pun_app.adapters.slurm_jobs import (
    NEVER_SENT,
    failure,
    history_command,
    job_environment,
    new_delimiter,
    parse_history,
    parse_queue,
    parse_submit,
    queue_command,
    submit_command,
)
from pun_app.adapters.slurm_past import parse_past, past_command
from pun_app.adapters.slurm_site import (
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
from pun_app.errors import NotFound, NotSupported, Refused, Unavailable

log = logging.getLogger("punway.pun")


class SlurmAdapter(Adapter):
    """A Slurm cluster. Its keys in the cluster file: cluster, conf, and those of Commands."""

    job_id = re.compile(r"[1-9]\d{0,9}([_+]\d{1,9})?")
    options = frozenset(OPTIONS)

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        super().__init__(cluster_id, job)
        # Epoch seconds: no zone, and no hour that a change of clock has twice. squeue(1), sacct(1).
        self._environment = {"SLURM_TIME_FORMAT": "%s"}
        if job.get("conf"):
            self._environment["SLURM_CONF"] = str(job["conf"])
        self._commands = Commands.from_config(job, self._environment)
        self._submit_commands = Commands.from_config(
            job, {k: v for k, v in self._environment.items() if k == "SLURM_CONF"}
        )
        self._cluster = str(job["cluster"]) if job.get("cluster") else None
        self._local_name: str | None = None
        self._uid = os.geteuid()
        self._user = pwd.getpwuid(self._uid).pw_name

    def commands(self) -> list[str]:
        return ["sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo", "sacctmgr", "sshare"]

    def command_path(self, name: str) -> str:
        return self._commands.path(name)

    def submit(self, request: JobRequest) -> Job:
        self.check_options(request)
        mark = f"punway:{secrets.token_hex(8)}"
        argv, environment = submit_command(request, mark), job_environment(request)
        try:
            output = self._submit_commands.run(self._aimed(argv), request.content, login=False, environment=environment)
        except CommandFailed as error:
            return self._taken_after_all(mark, error)
        if output.code:
            trouble = failure(output)
            if isinstance(trouble, Unavailable) and not NEVER_SENT.search(trouble.message):
                return self._taken_after_all(mark, trouble)
            raise trouble
        return Job(
            id=parse_submit(output, self._cluster),
            name=request.job_name,
            owner=self._user,
            status=QUEUED_HELD if request.hold else QUEUED,
            native_state="PENDING",
            queue=request.queue_name,
            account=request.accounting_id,
            submitted_at=int(time.time()),
            wallclock_time=0,
            wallclock_limit=request.wall_time,
        )

    def jobs(self) -> list[Job]:
        delimiter = new_delimiter()
        text = self._ask(queue_command(delimiter, user=self._user))
        return [job for _, _, job in parse_queue(text, delimiter)]

    def job(self, job_id: str) -> Job:
        self.check_id(job_id)
        delimiter = new_delimiter()
        try:
            text = self._ask(queue_command(delimiter, job_id=job_id))
            rows = [(uid, job) for uid, _, job in parse_queue(text, delimiter)]
        except NotFound:
            rows = []
        if not rows:
            # It has left the queue (MinJobAge); accounting still knows it.
            rows = parse_history(self._ask(history_command(delimiter, job_id)), delimiter)
        mine = [job for uid, job in rows if uid == self._uid]
        if not mine:
            raise NotFound("Job not found")
        return whole_job(job_id, mine)

    def cancel(self, job_id: str) -> None:
        # scancel says nothing of a job that is not there, and ends with 0.
        self._unfinished(job_id)
        self._do(["scancel", job_id])

    def hold(self, job_id: str) -> str | None:
        job = self.job(job_id)
        if job.status not in (QUEUED, QUEUED_HELD):
            # Slurm takes a hold of a running job and says nothing; it would hold only a requeue.
            raise Refused(f"Job {job_id} is {job.status}; only a queued job can be held")
        self._do(["scontrol", "hold", job_id])
        return QUEUED_HELD

    def release(self, job_id: str) -> str | None:
        job = self._unfinished(job_id)
        if job.status != QUEUED_HELD:
            return job.status
        self._do(["scontrol", "release", job_id])
        return QUEUED

    def history(self, period: Period) -> list[PastJob]:
        delimiter = new_delimiter()
        rows = parse_past(self._ask(past_command(delimiter, self._user, period)), delimiter)
        # By uid, not by name, and by our own reading of the times: sacct takes in what only touches the period.
        return [past for uid, past in rows if uid == self._uid and period.holds(past.job)]

    def queues(self) -> list[Queue]:
        delimiter = new_delimiter()
        nodes = parse_queue_nodes(self._ask(queue_nodes_command(delimiter)), delimiter)
        return parse_queues(self._ask(queues_command()), nodes)

    def accounts(self) -> list[Account]:
        output = self._commands.run(accounts_command(self._user, self._cluster or self._local()))
        if output.code:
            error = failure(output)
            if "accounting_storage" in error.message:
                raise NotSupported(f"Slurm keeps no accounts on cluster {self.cluster_id}")
            raise error if isinstance(error, Unavailable) else Unavailable(f"Slurm does not answer: {error.message}")
        accounts = parse_accounts(output.out)
        if not accounts:
            return []
        shares = self._commands.run(self._aimed(shares_command([account.name for account in accounts])))
        if shares.code:
            # Where Slurm counts no usage there is nothing to tell of it; the accounts are there all the same.
            log.info("what is left of accounts is not known: %s", failure(shares).message)
            return accounts
        return parse_shares(shares.out, accounts)

    def info(self) -> ClusterInfo:
        delimiter = new_delimiter()
        return parse_info(self._ask(info_command(delimiter)), delimiter)

    def _unfinished(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job.status == COMPLETED:
            raise Refused(f"Job {job_id} has already completed ({job.outcome})")
        return job

    def _taken_after_all(self, mark: str, error: Unavailable) -> Job:
        """The job of a submit whose answer was lost, found by its mark.

        Raises Unavailable that says that it is not known: the controller may still have it before it.
        """
        delimiter = new_delimiter()
        try:
            rows = parse_queue(self._ask(queue_command(delimiter, user=self._user)), delimiter)
        except (Unavailable, Refused):
            rows = []
        found = [job for _, comment, job in rows if comment and comment.endswith(mark)]
        if found:
            return whole_job(found[0].id.partition("_")[0], found)
        raise Unavailable(
            f"{error.message}. It is not known whether the job was submitted: before you submit again, look "
            f'for a job with "{mark}" in its comment (squeue --me --Format=JobID,Comment:80)',
            30,
        ) from error

    def _do(self, argv: list[str]) -> None:
        output = self._commands.run(self._aimed(argv))
        if output.code:
            raise failure(output)

    def _ask(self, argv: list[str]) -> str:
        """What a reading command printed. Whatever else goes wrong with it is the scheduler's trouble."""
        output = self._commands.run(self._aimed(argv))
        if output.code:
            error = failure(output)
            if isinstance(error, Refused):
                raise Unavailable(f"Slurm does not answer: {error.message}") from error
            raise error
        return output.out

    def _aimed(self, argv: list[str]) -> list[str]:
        """The command, for the configured cluster. ``-M`` only for a cluster that is not the local one:
        with it squeue asks slurmdbd first and takes ten times as long."""
        if self._cluster is None or self._cluster == self._local():
            return argv
        return [argv[0], f"--clusters={self._cluster}", *argv[1:]]

    def _local(self) -> str:
        """The name of the cluster that commands speak to without ``-M``."""
        if self._local_name is None:
            output = self._commands.run(["scontrol", "show", "config"])
            if output.code:
                raise failure(output)
            name = re.search(r"^ClusterName\s*=\s*(\S+)", output.out, re.MULTILINE)
            self._local_name = name[1] if name else ""
        return self._local_name
