"""ROUTES, the API on a page, and PAGES: all that a client can ask of a PUN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.handlers import clusters, context, history, jobs, output, site, whoami
from pun_app.pages import api_tokens
from pun_app.pages.door import PageRoute
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
    ValidAnswer,
    WhoAmI,
)


@dataclass(frozen=True)
class Route:
    """One row. ``handler`` takes a Request (handlers/request.py) and returns what becomes ``data``.

    ``scope`` is None where any credential will do. ``body`` is the type of the request's body, ``answer`` of the
    handler's result, ``status`` of success.
    """

    method: str
    path: str
    scope: str | None
    body: type[msgspec.Struct] | None
    answer: Any
    handler: Callable[..., Any]
    status: int = 200


ROUTES = (
    Route("GET", "/api/v1/whoami", None, None, WhoAmI, whoami.who_am_i),
    Route("GET", "/api/v1/context", None, None, ContextAnswer, context.site_context),
    Route("GET", "/api/v1/clusters", "clusters:read", None, list[ClusterAnswer], clusters.list_clusters),
    Route("GET", "/api/v1/clusters/<id>", "clusters:read", None, ClusterAnswer, clusters.get_cluster),
    Route("GET", "/api/v1/queues", "clusters:read", None, list[Queue], site.list_queues),
    Route("GET", "/api/v1/accounts", "clusters:read", None, list[AccountAnswer], site.list_accounts),
    Route("GET", "/api/v1/cluster_info", "clusters:read", None, ClusterInfo, site.cluster_info),
    Route("GET", "/api/v1/jobs", "jobs:read", None, list[JobAnswer], jobs.list_jobs),
    Route("POST", "/api/v1/jobs", "jobs:write", SubmitBody, JobAnswer | ValidAnswer, jobs.submit_job, 201),
    Route("POST", "/api/v1/jobs/status", "jobs:read", StatusBody, list[StatusAnswer], jobs.job_statuses),
    Route("GET", "/api/v1/jobs/historic", "jobs:read", None, list[PastJobAnswer], history.list_historic),
    Route("GET", "/api/v1/jobs/<id>", "jobs:read", None, JobAnswer, jobs.get_job),
    Route("DELETE", "/api/v1/jobs/<id>", "jobs:write", None, JobAction, jobs.cancel_job),
    Route("GET", "/api/v1/jobs/<id>/output", "jobs:read", None, OutputAnswer, output.job_output),
    Route("POST", "/api/v1/jobs/<id>/hold", "jobs:write", None, JobAction, jobs.hold_job),
    Route("POST", "/api/v1/jobs/<id>/release", "jobs:write", None, JobAction, jobs.release_job),
)

PAGES = (
    PageRoute("GET", "/settings/api_tokens", api_tokens.show),
    PageRoute("POST", "/settings/api_tokens", api_tokens.make),
    PageRoute("POST", "/settings/api_tokens/revoke", api_tokens.revoke),
)
