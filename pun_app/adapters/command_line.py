"""The base class of adapters that use their scheduler's own commands.

It has the code that they share. A submit checks the options first, and gives the job a submit tag, by which the job is
found if the command's output is lost. A change queries the job first, since most schedulers accept a hold of a running
job without an error.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from pun_app.adapters.base import Adapter, id_sort_key
from pun_app.adapters.command import Commands, Output
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerError, SchedulerUnavailable, Unanswered
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job, JobRequest

LOOKUP_TIMEOUT_S = 10.0
"""Seconds for each command that searches a job by its submit tag. The client has already waited for the submit."""

log = logging.getLogger("punway.pun")

RECENT_S = 3600
"""Seconds for which jobs() lists an ended job, if the scheduler lets the adapter choose."""

_STEERING = re.compile(
    r"(SLURM|SBATCH|SRUN|PBS|LSF|LSB|SGE|_CONDOR|LD|GCONV|GLIBC|MALLOC)_.*|PATH|IFS|ENV|BASH_ENV|SHELLOPTS"
)


class CommandLineAdapter(Adapter):
    """The base class of adapters for schedulers with a command line."""

    product: ClassVar[str]
    """The scheduler's name in messages."""
    retry_message: ClassVar[re.Pattern[str] | None] = None
    """The message of a submit command that retries by itself, so that several jobs may exist."""
    queued_state: ClassVar[str | None] = None
    """The native state of a job that was just submitted; None if the submit does not determine it."""
    programs: ClassVar[tuple[str, ...]]
    """The names of the commands that the adapter runs. The first one is the submit command."""
    version_argv: ClassVar[tuple[str, ...]]
    """The command that prints the version. ``version_pattern`` finds the version in its output."""
    version_pattern: ClassVar[str] = r"(\S.*)"
    cancel_command: ClassVar[tuple[str, ...]]
    """The command that cancels a job, whose id is appended; likewise the commands that hold and release one."""
    hold_command: ClassVar[tuple[str, ...]]
    release_command: ClassVar[tuple[str, ...]]
    submit_tag_location: ClassVar[str]
    """The place of a job's submit tag, for messages: the field, and the command that shows it."""
    failures: ClassVar[tuple[tuple[type[SchedulerError], re.Pattern[str]], ...]]
    """Pairs of an error and a pattern of the messages that mean it. The first match decides; without a match the error
    is Rejected. NotSent is for messages that prove that nothing reached the scheduler, Unanswered for messages that
    leave this open, and JobNotFound for an unknown job."""
    failure_codes: ClassVar[Mapping[int, type[SchedulerError]]] = MappingProxyType({})
    """The same by exit status, for commands whose exit status is more precise than their message."""
    failure_noise: ClassVar[re.Pattern[str] | None] = None
    """The words that the commands print around their error messages."""

    def __init__(
        self, cluster_id: str, job: dict[str, Any], environment: Mapping[str, str], printing: Mapping[str, str]
    ) -> None:
        """Initialise the adapter with variables for its commands.

        ``environment`` is for all commands. ``printing`` has the variables that set the output format. The submit
        command does not get these, since it may pass its environment on to the job.
        """
        super().__init__(cluster_id, job)
        self.commands = Commands.from_config(job, {**environment, **printing})
        self.submit_commands = Commands.from_config(job, environment)
        self.uid = os.geteuid()
        self.user = pwd.getpwuid(self.uid).pw_name

    # An adapter defines these methods.

    def run_submit(self, request: JobRequest) -> Output:
        """Run the submit command, and return its output. The script goes to its standard input.

        Raises Rejected if this scheduler's options cannot express the request.
        """
        raise NotImplementedError

    def parse_job_id(self, output: Output) -> str | None:
        """Return the job id in the output of the submit command; None without one."""
        raise NotImplementedError

    def find_tagged(self, submit_tag: str) -> list[Job]:
        """Return the user's jobs that have the submit tag. The result may have an array's tasks one by one."""
        raise NotImplementedError

    def is_accepted(self, output: Output) -> bool:
        """Return True for the output of a command that changed a job although its exit status is not 0."""
        return False

    def for_cluster(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the command with the option that selects the configured cluster, if it needs one."""
        return argv

    # The base class implements the following methods with them.

    def failure(self, output: Output) -> SchedulerError:
        """Return the error for a failed command, by the tables ``failure_codes`` and ``failures``."""
        message = self.error_message(output)
        if self.failure_noise:
            message = self.failure_noise.sub("", message).strip()
        matching = (kind for kind, pattern in self.failures if pattern.search(message))
        kind = self.failure_codes.get(output.code) or next(matching, Rejected)
        if kind is JobNotFound:
            return JobNotFound()
        return kind(f"{self.product} does not answer: {message}" if issubclass(kind, SchedulerUnavailable) else message)

    def error_message(self, output: Output) -> str:
        """Return the error message of a failed command as one line, without the command's name and usage text."""
        text = re.split(r"(?im)^usage:", output.err.strip() or output.out.strip(), maxsplit=1)[0]
        own = rf"^\[?(\S*/)?(({'|'.join(self.programs)}): *)?((error|fatal|denied): )?|\]$"
        lines = [re.sub(own, "", line.strip()) for line in text.splitlines() if line.strip() != "[exiting]"]
        return "; ".join(line for line in lines if line)[:1000] or f"it ended with status {output.code}"

    def program_names(self) -> list[str]:
        return list(self.programs)

    def command_path(self, name: str) -> str:
        return self.commands.path(name)

    def version(self) -> str | None:
        output = self.commands.run(self.version_argv)
        if output.code:
            raise self.read_failure(output)
        found = re.search(self.version_pattern, output.out + output.err)
        return found[1].strip() if found else None

    def submit(self, request: JobRequest) -> Job:
        self.check_options(request)
        try:
            output = self.run_submit(request)
            job_id = self.parse_job_id(output)
            if job_id is None:
                raise self.submit_failure(output)
            if self.retry_message and self.retry_message.search(output.err):
                # Each attempt may have created a job.
                repeated = SchedulerUnavailable(f"{self.programs[0]} sent the job more than once")
                return self._find_lost_submit(request.submit_tag, repeated)
        except NotSent:
            raise
        except SchedulerUnavailable as error:
            return self._find_lost_submit(request.submit_tag, error)
        known = self.requested(request)
        return Job(
            id=job_id,
            name=known.job_name,
            owner=self.user,
            status=QUEUED_HELD if known.is_held else QUEUED,
            native_state=self.queued_state,
            queue=known.queue_name,
            account=known.accounting_id,
            submitted_at=int(time.time()),
            wallclock_time=0,
            wallclock_limit=known.wall_time,
        )

    def find_submitted(self, submit_tag: str) -> Job | None:
        """Return the first job with the submit tag, and cancel others that a retry has created."""
        submits: dict[str, list[Job]] = {}
        for job in self.find_tagged(submit_tag):
            submits.setdefault(self.array_id(job.id), []).append(job)
        if not submits:
            return None
        kept, *others = sorted(submits, key=id_sort_key)
        job = self.merge(kept, submits[kept])
        return msgspec.structs.replace(job, reason=self._cancel_others(kept, others)) if others else job

    def _cancel_others(self, kept: str, others: list[str]) -> str:
        """Cancel the other jobs of a submit. Return the sentences that report this to the user."""
        results = []
        for job_id in others:
            try:
                self.cancel(job_id)
                results.append(f"job {job_id} was cancelled")
            except Rejected:
                results.append(f"job {job_id} has ended")
            except SchedulerError as error:
                results.append(f"job {job_id} could not be cancelled ({error.message}); cancel it")
        log.warning("one submit created several jobs; keeping job %s: %s", kept, "; ".join(results))
        return f"The scheduler took this submit more than once. Job {kept} is kept: {'; '.join(results)}"

    def cancel(self, job_id: str) -> None:
        self.run_change(self.cancel_command, self.unfinished_job(job_id))

    def hold(self, job_id: str) -> str | None:
        job = self.job(job_id)
        if job.status not in (QUEUED, QUEUED_HELD):
            raise Rejected(f"Job {job_id} is {job.status}; only a queued job can be held")
        self.run_change(self.hold_command, job)
        return QUEUED_HELD

    def release(self, job_id: str) -> str | None:
        job = self.unfinished_job(job_id)
        if job.status != QUEUED_HELD and not self.has_held_tasks(job):
            return job.status
        self.run_change(self.release_command, job)
        return QUEUED

    def has_held_tasks(self, job: Job) -> bool:
        """Return True for an array that has held tasks. Its own status may be that of other tasks."""
        return any(
            task.status == QUEUED_HELD and task.id != job.id and self.array_id(task.id) == job.id
            for task in self.jobs()
        )

    def run(self, argv: Sequence[str], **settings: Any) -> Output:
        """Run a command on the configured cluster, and return its output."""
        return self.commands.run(self.for_cluster(argv), **settings)

    def read(self, argv: Sequence[str], **settings: Any) -> str:
        """Run a command that only reads, and return its standard output. Raises the errors of read_failure()."""
        output = self.run(argv, **settings)
        if output.code:
            raise self.read_failure(output)
        return output.out

    def read_failure(self, output: Output) -> SchedulerError:
        """Return the error of a failed command that only reads: JobNotFound or SchedulerUnavailable, never Rejected."""
        error = self.failure(output)
        if isinstance(error, Rejected):
            return SchedulerUnavailable(f"{self.product} does not answer: {error.message}")
        if isinstance(error, (NotSent, Unanswered)):
            # The circuit breaker tells a failed database from a failed scheduler by the command (clusters/health.py).
            error.program = output.program
        return error

    def unfinished_job(self, job_id: str) -> Job:
        """Return the user's job. Raises JobNotFound, and Rejected if it has already ended."""
        job = self.job(job_id)
        if job.status == COMPLETED:
            raise Rejected(f"Job {job_id} has already completed ({job.outcome})")
        return job

    def submit_failure(self, output: Output) -> SchedulerError:
        """Return the error of a submit that created no job.

        A message about an unknown job means Rejected here: the new job depends on an unknown one.
        """
        if not output.code:
            printed = (output.out + output.err).strip().partition("\n")[0][:200] or "it printed nothing"
            return Rejected(f"{self.programs[0]} submitted no job: {printed}")
        error = self.failure(output)
        return Rejected(self.error_message(output)) if isinstance(error, JobNotFound) else error

    def parse_job_ids(self, text: str) -> list[str]:
        """Return the job ids in a command's output. Another command may take them as its arguments.

        Raises SchedulerUnavailable if the output has any other word.
        """
        ids = text.split()
        for job_id in ids:
            if not self.is_id(job_id):
                raise SchedulerUnavailable(f"{self.product}'s output cannot be read: {job_id[:40]!r} is not a job id")
        return ids

    def run_change(self, command: tuple[str, ...], job: Job, *tasks: str) -> None:
        """Run a command that changes a job. ``tasks`` are the ids of some of its tasks, to change only these.

        Raises SchedulerUnavailable if the outcome is unknown, since the scheduler may still carry out the change. The
        message then says so.
        """
        try:
            output = self.run([*command, *(tasks or [job.id])])
            if output.code and not self.is_accepted(output):
                raise self.failure(output)
        except NotSent:
            raise
        except SchedulerUnavailable as error:
            done = {self.cancel_command: "cancelled", self.hold_command: "held", self.release_command: "released"}[
                command
            ]
            raise SchedulerUnavailable(
                f"{error.message.rstrip('.')}. It is not known whether job {job.id} was {done}, or will be: look at "
                "its status before you ask again",
                30,
            ) from error

    def _find_lost_submit(self, submit_tag: str, error: SchedulerUnavailable) -> Job:
        """Find the job of a submit whose output was lost, by its submit tag.

        Raises SchedulerUnavailable if the job is not found, since the scheduler may still process the submit. The
        message then says so.
        """
        for pause in (0, 1, 3):
            # A scheduler that has just recovered may still process the submit.
            time.sleep(pause)
            try:
                found = self.find_submitted(submit_tag)
            except SchedulerError as trouble:
                log.info("failed to find a job by its submit tag: %s", trouble.message)
                break
            if found:
                return found
        raise SchedulerUnavailable(
            f"{error.message.rstrip('.')}. It is not known whether the job was submitted: before you submit again, "
            f'look for a job with "{submit_tag}" in its {self.submit_tag_location}',
            30,
        ) from error


def job_environment(request: JobRequest, program: str) -> dict[str, str]:
    """Return the requested variables of the job, for a submit command that passes its environment on to the job.

    Raises Rejected for a variable that would change how ``program``, the submit command, itself works: a variable of
    ld.so(8) or of a scheduler. For a new scheduler, add the prefix of its variables to _STEERING.
    """
    for name in request.environment:
        if _STEERING.fullmatch(name):
            raise Rejected(f"options.environment: {name} would change how {program} works; set it in the script")
    return dict(request.environment)
