"""The handlers of the jobs endpoints: list, get, submit, cancel, hold and release."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

import msgspec

from pun_app.adapters.model import COMPLETED, RUNNING, SUSPENDED, Job, JobRequest
from pun_app.clusters.dependencies import Met
from pun_app.clusters.load import Cluster
from pun_app.deadline import until
from pun_app.errors import BadRequest, Refused
from pun_app.handlers.paging import cursor_after, entry_before, unknown_cursor
from pun_app.handlers.request import Answer, Request
from pun_app.long_poll import MIN_FIRST_LOOK_S, Parked
from pun_app.queries import DEFAULT_PAGE, JobQuery, JobsQuery, SubmitQuery
from pun_app.schemas import (
    JobAction,
    JobAnswer,
    Options,
    SubmitBody,
    SubmittedJobAnswer,
    ValidAnswer,
)

DEFAULT_WAIT_S = 60
"""Seconds to wait if the request has ``until`` and no ``wait``."""


def list_jobs(request: Request) -> Answer[list[JobAnswer]]:
    """Return the caller's jobs on one cluster, including recently finished ones.

    Without ``limit`` and ``cursor``, these are all of them. Otherwise they are a page, the latest ids first, so that a
    job that is submitted between two pages does not move the others. Raises BadRequest for an unknown cursor.
    """
    query: JobsQuery = request.query
    cluster = request.cluster()
    if query.limit is None and query.cursor is None:
        jobs, age = cluster.scheduler.jobs(no_cache=request.no_cache)
        return Answer([job_answer(cluster, job) for job in jobs], age=age)
    limit, before = query.limit or DEFAULT_PAGE, entry_before(query.cursor)
    if before is not None and not cluster.scheduler.adapter.is_id(before):
        raise unknown_cursor()
    jobs, age = cluster.scheduler.page(limit + 1, before, no_cache=request.no_cache)
    next_cursor = cursor_after(jobs[limit - 1].id) if len(jobs) > limit else ""
    return Answer([job_answer(cluster, job) for job in jobs[:limit]], age=age, next_cursor=next_cursor)


def get_job(request: Request) -> Answer[JobAnswer]:
    """Return one job of the caller, active or finished.

    With ``wait``, the answer comes once the job has reached the state in ``until``, the time is up, or it is known that
    the job can never start. Raises NotFound, also for a job of another user, and Parked to wait.
    """
    cluster = request.cluster()
    if request.wait is not None:  # This is the second call, after the wait.
        job, age = request.wait.job()
    else:
        seconds, goal = _waiting(request.query)
        # The first look counts towards the wait.
        with until(request.arrived + max(seconds, MIN_FIRST_LOOK_S) if seconds else math.inf):
            job, age = cluster.scheduler.job(request.id, no_cache=request.no_cache)
        if seconds:
            before = _etag(job)
            is_done: Callable[[Job], bool] = {
                "running": lambda job: job.status in (RUNNING, SUSPENDED, COMPLETED) or job.can_start is False,
                "completed": lambda job: job.status == COMPLETED or job.can_start is False,
                "change": lambda job: not _is_seen(request, _etag(job), before),
            }[goal]
            if not is_done(job):
                known = job, time.monotonic() - age
                deadline = request.arrived + seconds
                raise Parked(request.long_poll.wait_for(cluster.scheduler, request.id, is_done, deadline, known))
    return Answer(job_answer(cluster, job), age=age, etag=_etag(job))


def _waiting(query: JobQuery) -> tuple[int, str]:
    """Return ``wait`` in seconds and ``until``, each with its default if the other one is given."""
    if query.wait is None:
        return (DEFAULT_WAIT_S, query.until) if query.until else (0, "")
    return query.wait, query.until or "completed"


def _etag(job: Job) -> str:
    """Return the ETag of a job. Every change of the job changes it, except a longer run time."""
    state = (
        job.status, job.native_state, job.outcome, job.exit_code, job.queue, job.started_at, job.ended_at,
        job.can_start,
    )  # fmt: skip
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def _is_seen(request: Request, etag: str, before: str) -> bool:
    """Return True if the client knows this ETag: from If-None-Match or, without that header, as the one ``before``."""
    names_tags = request.if_none_match and not request.if_none_match.star_tag
    return request.if_none_match.contains_weak(etag) if names_tags else etag == before


def submit_job(request: Request) -> Answer[SubmittedJobAnswer] | Answer[ValidAnswer]:
    """Submit a job and return it in its first state.

    With ``validate``, ask the scheduler whether it would accept the job, and submit nothing. With an Idempotency-Key,
    submit once for each key. Raises BadRequest for a blank cluster or script, Refused, and what idempotency.py raises.
    """
    query: SubmitQuery = request.query
    body: SubmitBody = request.body
    if not body.cluster.strip():
        raise BadRequest("Missing cluster in request body: add the id of a cluster; GET /api/v1/clusters lists them")
    cluster = request.entered(body.cluster)
    if body.script.content.isspace():
        raise BadRequest("script.content: the script is blank; write a job script, starting with its #! line")
    if "\0" in body.script.content:
        raise BadRequest("script.content: the script contains a NUL character; remove it")
    if query.validate:
        asked, met = cluster.scheduler.settle_dependencies(_job_request(body))
        trial = cluster.scheduler.validate(asked)
        return Answer(ValidAnswer(True, _time(trial.starts_at), trial.message, met), status=200)

    def submit(asked: JobRequest) -> SubmittedJobAnswer:
        settled, met = cluster.scheduler.settle_dependencies(asked)
        return _submitted_answer(cluster, cluster.scheduler.submit(settled), met)

    def find(submit_tag: str) -> SubmittedJobAnswer | None:
        job = cluster.scheduler.find_submitted(submit_tag)
        return _submitted_answer(cluster, job, {}) if job else None

    if request.idempotency_key is None:
        return Answer(submit(_job_request(body)))
    key = request.idempotency_key
    data, is_replayed = request.submits.once(key, body, lambda: _job_request(body), submit, find)
    return Answer(data, is_replayed=is_replayed)


def _job_request(body: SubmitBody) -> JobRequest:
    """Return the request of a body in the adapters' form. Raises Refused for a path that cannot be used."""
    options = body.options or Options()
    return JobRequest(
        content=body.script.content,
        workdir=_workdir(body.script.workdir),
        job_name=options.job_name,
        queue_name=options.queue_name,
        accounting_id=options.accounting_id,
        wall_time=options.wall_time,
        output_path=_path("output_path", options.output_path),
        error_path=_path("error_path", options.error_path),
        array=options.array,
        after=_ids(options.after),
        afterok=_ids(options.afterok),
        afternotok=_ids(options.afternotok),
        afterany=_ids(options.afterany),
        nodes=options.nodes,
        cores=options.cores,
        memory=_mebibytes(options.memory),
        gpus=options.gpus,
        qos=options.qos,
        reservation=options.reservation,
        environment=options.environment or {},
        hold=bool(options.hold),
        email=options.email,
        native=tuple(options.native or ()),
    )


def cancel_job(request: Request) -> Answer[JobAction]:
    """Cancel a queued or running job."""
    cluster = request.cluster()
    cluster.scheduler.cancel(request.id)
    return Answer(JobAction(request.id, "cancelled"))


def hold_job(request: Request) -> Answer[JobAction]:
    """Hold a queued job, so that it does not start."""
    cluster = request.cluster()
    return Answer(JobAction(request.id, cluster.scheduler.hold(request.id)))


def release_job(request: Request) -> Answer[JobAction]:
    """Release a held job, so that it can start."""
    cluster = request.cluster()
    return Answer(JobAction(request.id, cluster.scheduler.release(request.id)))


def _ids(given: list[str | int] | None) -> tuple[str, ...]:
    return tuple(str(job_id) for job_id in given or ())


def _mebibytes(size: str | None) -> int | None:
    """Return the MiB in ``500M``, ``4G`` or ``1T``. The schema has checked the form."""
    return None if size is None else int(size[:-1]) * {"M": 1, "G": 1024, "T": 1024**2}[size[-1]]


def _path(option: str, given: str | None) -> str | None:
    """Return the path of an output file, with the caller's home in place of ``~``.

    Schedulers treat ``~`` in different ways, so it does not reach them. Raises Refused for ``~name``.
    """
    if given is None or not given.startswith("~"):
        return given
    if not given.startswith("~/"):
        raise Refused(f"options.{option}: only ~/ is supported, for your home; write {given} as an absolute path")
    return os.path.join(os.environ["HOME"], given[2:].lstrip("/"))


def _workdir(given: str | None) -> str:
    """Return the job's working directory, by default the caller's home. Raises Refused if it cannot be used."""
    workdir = Path(given or os.environ["HOME"])
    if not workdir.is_absolute():
        raise Refused(f"script.workdir: write an absolute path, not {given}")
    try:
        if not workdir.exists():
            raise Refused(f"script.workdir does not exist: {workdir}; create it or write another one")
        if not workdir.is_dir():
            raise Refused(f"script.workdir is not a directory: {workdir}; write one that is")
    except OSError as error:
        raise Refused(f"script.workdir cannot be used: {workdir}: {error.strerror}") from error
    if not os.access(workdir, os.X_OK):
        raise Refused(
            f"script.workdir cannot be entered: {workdir}: permission denied; you need its execute permission"
        )
    return str(workdir)


def _submitted_answer(cluster: Cluster, job: Job, met: Met) -> SubmittedJobAnswer:
    return SubmittedJobAnswer(**msgspec.structs.asdict(job_answer(cluster, job)), dependencies_met=met)


def job_answer(cluster: Cluster, job: Job) -> JobAnswer:
    """Return a job in the API's form."""
    return JobAnswer(
        job_id=job.id,
        cluster=cluster.id,
        job_name=job.name,
        job_owner=job.owner,
        status=job.status,
        native_state=job.native_state,
        native_reason=job.native_reason,
        outcome=job.outcome,
        exit_code=job.exit_code,
        queue_name=job.queue,
        accounting_id=job.account,
        submitted_at=_time(job.submitted_at),
        started_at=_time(job.started_at),
        ended_at=_time(job.ended_at),
        wallclock_time=job.wallclock_time,
        wallclock_limit=job.wallclock_limit,
        can_start=job.can_start,
        reason=job.reason,
    )


@lru_cache(4096)  # Polls repeat the same times, and formatting them is most of the cost of an answer.
def _time(seconds: int | None) -> str | None:
    """Return a time in Unix seconds as RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")
