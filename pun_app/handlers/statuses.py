"""The handler of POST /api/v1/jobs/status: the status of several jobs, from clusters that are asked in parallel."""

from __future__ import annotations

from functools import partial

from pun_app.adapters.errors import SchedulerError
from pun_app.adapters.model import Job
from pun_app.deadline import BATCH_S, begin, until
from pun_app.errors import ApiError, NotFound
from pun_app.handlers.request import Answer, Request
from pun_app.scheduler_errors import api_error
from pun_app.schemas import JobNamed, StatusAnswer, StatusBody

STATUSES = "POST /jobs/status"
"""The gate of requests that may name several clusters. A cluster's id has no blank, so no cluster has this gate."""


def job_statuses(request: Request) -> Answer[list[StatusAnswer]]:
    """Return the status of several jobs in the order of the request. An unknown job has an error instead."""
    body: StatusBody = request.body
    asked: dict[str, list[str]] = {}
    for one in body.jobs:
        asked.setdefault(one.cluster, []).append(one.id)
    request.place.take(STATUSES)
    found = _ask_in_parallel(request, asked)
    age = max(age for _, age in found.values())
    return Answer([_status(one, found[one.cluster][0]) for one in body.jobs], age=age)


def _ask_in_parallel(
    request: Request, asked: dict[str, list[str]]
) -> dict[str, tuple[dict[str, Job] | ApiError, float]]:
    """Return the jobs of each cluster, or the error of the cluster, and the age of the answer in seconds.

    All clusters are asked in parallel, so a cluster that does not answer does not delay the others.
    """
    deadline = request.arrived + BATCH_S

    def ask(cluster_id: str) -> tuple[dict[str, Job] | ApiError, float]:
        try:
            with until(deadline):
                return request.clusters.get(cluster_id).scheduler.jobs_by_id(
                    asked[cluster_id], no_cache=request.no_cache
                )
        except ApiError as error:
            return error, 0.0
        except SchedulerError as error:
            return api_error(error), 0.0

    # Existing clusters get a thread each. Names of others get an error without one.
    others = [cluster.id for cluster in request.clusters.listed() if cluster.id in asked][1:]
    begun = {cluster_id: begin(partial(ask, cluster_id), "statuses") for cluster_id in others}
    rest = {cluster_id: ask(cluster_id) for cluster_id in asked if cluster_id not in begun}
    return rest | {cluster_id: answer.result() for cluster_id, answer in begun.items()}


def _status(asked: JobNamed, found: dict[str, Job] | ApiError) -> StatusAnswer:
    if isinstance(found, ApiError):
        return StatusAnswer(asked.cluster, asked.id, error=found.error, message=found.message)
    job = found.get(asked.id)
    if job is None:
        return StatusAnswer(asked.cluster, asked.id, error=NotFound.error, message="Job not found")
    return StatusAnswer(
        cluster=asked.cluster,
        job_id=asked.id,
        status=job.status,
        native_state=job.native_state,
        native_reason=job.native_reason,
        outcome=job.outcome,
        exit_code=job.exit_code,
        can_start=job.can_start,
        reason=job.reason,
    )
