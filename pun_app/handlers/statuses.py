"""POST /api/v1/jobs/status: how many jobs are, of several clusters, which are asked side by side."""

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
"""The gate of requests that may name several clusters; no cluster's id has a blank."""


def job_statuses(request: Request) -> Answer[list[StatusAnswer]]:
    """How many jobs are, of several clusters, in the order asked for; one that is not there among them."""
    body: StatusBody = request.body
    asked: dict[str, list[str]] = {}
    for one in body.jobs:
        asked.setdefault(one.cluster, []).append(one.id)
    request.place.take(STATUSES)
    found = _side_by_side(request, asked)
    age = max(age for _, age in found.values())
    return Answer([_status(one, found[one.cluster][0]) for one in body.jobs], age=age)


def _side_by_side(request: Request, asked: dict[str, list[str]]) -> dict[str, tuple[dict[str, Job] | ApiError, float]]:
    """Return the jobs of each cluster, or why they are not known, and how old that is.

    All clusters are asked at once, so one that does not answer leaves the others theirs.
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

    # A thread for each cluster that there is, whatever else is named.
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
