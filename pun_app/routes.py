"""The tables of everything that a client can request from a PUN: ROUTES, the API, and PAGES, the HTML pages.

The summaries and descriptions are published: the OpenAPI document, the API page and the MCP tools show them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.handlers import clusters, context, history, jobs, output, site, statuses, whoami
from pun_app.handlers.request import Answer, Request
from pun_app.pages import api_tokens
from pun_app.pages.auth import PageRoute
from pun_app.queries import ClusterQuery, HistoryQuery, JobQuery, JobsQuery, OutputQuery, Query, SubmitQuery
from pun_app.schemas import (
    AccountAnswer,
    ClusterAnswer,
    ContextAnswer,
    JobAction,
    JobAnswer,
    OutputAnswer,
    PastJobAnswer,
    StatusAnswer,
    StatusBody,
    SubmitBody,
    SubmittedJobAnswer,
    ValidAnswer,
    WhoAmI,
)

BODY_LIMIT = 1024 * 1024
"""Maximum size of a request body in bytes. nginx (portal.conf.j2) enforces the same limit."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """An endpoint. ``handler`` takes a Request and returns an Answer (handlers/request.py).

    ``summary`` and ``description`` are written for clients. ``scope`` is None if any credential will do. ``body`` is
    the type of the request body, ``answer`` the type of ``data``, ``status`` the status of success. ``query`` is the
    type of the query string. A route that ``takes_idempotency_key`` reads the header Idempotency-Key, and every GET
    reads If-None-Match. ``other`` is the type of ``data`` in an alternative response with status 200. ``large`` names
    the one field of the body that may make it as large as portal.max_body; any other body is limited to BODY_LIMIT.
    """

    method: str
    path: str
    summary: str
    description: str
    scope: str | None
    handler: Callable[[Request], Answer[Any]]
    answer: Any
    status: int = 200
    body: type[msgspec.Struct] | None = None
    large: str = ""
    other: Any = None
    query: type[Query] = Query
    takes_idempotency_key: bool = False


ROUTES = (
    Route(
        method="GET",
        path="/api/v1/whoami",
        summary="Show who you are",
        description="Your user name, your credential, what it allows and when it expires.",
        scope=None,
        handler=whoami.who_am_i,
        answer=WhoAmI,
    ),
    Route(
        method="GET",
        path="/api/v1/context",
        summary="Read the site's notes for agents",
        description="Notes from the site's staff for AI agents: house rules, queues, software, scratch space.",
        scope=None,
        handler=context.site_context,
        answer=ContextAnswer,
    ),
    Route(
        method="GET",
        path="/api/v1/clusters",
        summary="List clusters",
        description="The clusters that accept your jobs, except those that the site hides.",
        scope="clusters:read",
        handler=clusters.list_clusters,
        answer=list[ClusterAnswer],
    ),
    Route(
        method="GET",
        path="/api/v1/clusters/<id>",
        summary="Get a cluster",
        description="One cluster, even if the site hides it from the list.",
        scope="clusters:read",
        handler=clusters.get_cluster,
        answer=ClusterAnswer,
    ),
    Route(
        method="GET",
        path="/api/v1/queues",
        summary="List queues",
        description="The queues (Slurm: partitions) of a cluster that you may see.",
        scope="clusters:read",
        handler=site.list_queues,
        answer=list[Queue],
        query=ClusterQuery,
    ),
    Route(
        method="GET",
        path="/api/v1/accounts",
        summary="List accounts",
        description="The accounts (projects) that you may charge on a cluster, with their processor minutes. Not every "
        "scheduler has accounts.",
        scope="clusters:read",
        handler=site.list_accounts,
        answer=list[AccountAnswer],
        query=ClusterQuery,
    ),
    Route(
        method="GET",
        path="/api/v1/cluster_info",
        summary="Show the load of a cluster",
        description="The numbers of nodes, processors and GPUs of a cluster, in use and in total.",
        scope="clusters:read",
        handler=site.cluster_info,
        answer=ClusterInfo,
        query=ClusterQuery,
    ),
    Route(
        method="GET",
        path="/api/v1/jobs",
        summary="List jobs",
        description="Your jobs on one cluster, including recently finished ones: all of them, or with `limit` or "
        "`cursor` one page, highest job ids first.",
        scope="jobs:read",
        handler=jobs.list_jobs,
        answer=list[JobAnswer],
        query=JobsQuery,
    ),
    Route(
        method="POST",
        path="/api/v1/jobs",
        summary="Submit a job",
        description="Submit a job script to a cluster's scheduler. Returns the job as far as it is known.",
        scope="jobs:write",
        handler=jobs.submit_job,
        answer=SubmittedJobAnswer,
        status=201,
        body=SubmitBody,
        large="script",
        other=ValidAnswer,
        query=SubmitQuery,
        takes_idempotency_key=True,
    ),
    Route(
        method="POST",
        path="/api/v1/jobs/status",
        summary="Get the status of several jobs",
        description="The status of up to 1,000 jobs, on one cluster or several, in the order of the request. If a "
        "status is unknown, `error` says why.",
        scope="jobs:read",
        handler=statuses.job_statuses,
        answer=list[StatusAnswer],
        body=StatusBody,
    ),
    Route(
        method="GET",
        path="/api/v1/jobs/historic",
        summary="List finished jobs",
        description="Your finished jobs from the scheduler's accounting, latest end first, with the processor time "
        "and memory that they used.",
        scope="jobs:read",
        handler=history.list_historic,
        answer=list[PastJobAnswer],
        query=HistoryQuery,
    ),
    Route(
        method="GET",
        path="/api/v1/jobs/<id>",
        summary="Get a job",
        description="One of your jobs, active or finished.",
        scope="jobs:read",
        handler=jobs.get_job,
        answer=JobAnswer,
        query=JobQuery,
    ),
    Route(
        method="DELETE",
        path="/api/v1/jobs/<id>",
        summary="Cancel a job",
        description="End a queued or running job for good. The id of an array ends all of its tasks.",
        scope="jobs:write",
        handler=jobs.cancel_job,
        answer=JobAction,
        query=ClusterQuery,
    ),
    Route(
        method="GET",
        path="/api/v1/jobs/<id>/output",
        summary="Read a job's output",
        description="The last lines (`tail`) of what a job has written, as on a terminal; or `limit` bytes from "
        "`offset`, exact, so that pieces can be joined. If both streams go to one file, both return that file.",
        scope="jobs:read",
        handler=output.job_output,
        answer=OutputAnswer,
        query=OutputQuery,
    ),
    Route(
        method="POST",
        path="/api/v1/jobs/<id>/hold",
        summary="Hold a job",
        description="Keep a queued job from starting until it is released. A running job cannot be held.",
        scope="jobs:write",
        handler=jobs.hold_job,
        answer=JobAction,
        query=ClusterQuery,
    ),
    Route(
        method="POST",
        path="/api/v1/jobs/<id>/release",
        summary="Release a job",
        description="Let a held job start when its turn comes.",
        scope="jobs:write",
        handler=jobs.release_job,
        answer=JobAction,
        query=ClusterQuery,
    ),
)

PAGES = (
    PageRoute("GET", "/settings/api_tokens", api_tokens.show),
    PageRoute("POST", "/settings/api_tokens", api_tokens.make),
    PageRoute("POST", "/settings/api_tokens/revoke", api_tokens.revoke),
)
