"""ROUTES, the API on a page, and PAGES: all that a client can ask of a PUN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.handlers import clusters, context, history, jobs, output, site, statuses, whoami
from pun_app.pages import api_tokens
from pun_app.pages.auth import PageRoute
from pun_app.parameters import CLUSTER, KEY, OUTPUT, PAGING, PERIOD, VALIDATE, WAITING, Parameter
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
"""Bytes of a request's body. nginx (portal.conf.j2) has the same."""


@dataclass(frozen=True)
class Route:
    """One row. ``handler`` takes a Request (handlers/request.py) and returns what becomes ``data``.

    ``scope`` is None where any credential will do. ``body`` is the type of the request's body, ``answer`` of the
    handler's result, ``status`` of success. ``parameters`` are those of the query and the headers that it looks at;
    every GET looks at If-None-Match besides. ``other`` is the type of another result, whose status is 200. ``large`` is
    the field of the body that may make it as large as portal.max_body; any other body has BODY_LIMIT.
    """

    method: str
    path: str
    scope: str | None
    body: type[msgspec.Struct] | None
    answer: Any
    handler: Callable[..., Any]
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    other: Any = None
    large: str = ""


_ON = (CLUSTER,)
_JOBS = "/api/v1/jobs"
ROUTES = (
    Route("GET", "/api/v1/whoami", None, None, WhoAmI, whoami.who_am_i),
    Route("GET", "/api/v1/context", None, None, ContextAnswer, context.site_context),
    Route("GET", "/api/v1/clusters", "clusters:read", None, list[ClusterAnswer], clusters.list_clusters),
    Route("GET", "/api/v1/clusters/<id>", "clusters:read", None, ClusterAnswer, clusters.get_cluster),
    Route("GET", "/api/v1/queues", "clusters:read", None, list[Queue], site.list_queues, 200, _ON),
    Route("GET", "/api/v1/accounts", "clusters:read", None, list[AccountAnswer], site.list_accounts, 200, _ON),
    Route("GET", "/api/v1/cluster_info", "clusters:read", None, ClusterInfo, site.cluster_info, 200, _ON),
    Route("GET", _JOBS, "jobs:read", None, list[JobAnswer], jobs.list_jobs, 200, (*_ON, *PAGING)),
    Route(
        "POST", _JOBS, "jobs:write", SubmitBody, SubmittedJobAnswer, jobs.submit_job, 201, (VALIDATE, KEY), ValidAnswer,
        "script",
    ),
    Route("POST", f"{_JOBS}/status", "jobs:read", StatusBody, list[StatusAnswer], statuses.job_statuses),
    Route(
        "GET", f"{_JOBS}/historic", "jobs:read", None, list[PastJobAnswer], history.list_historic, 200,
        (*_ON, *PERIOD, *PAGING),
    ),
    Route("GET", f"{_JOBS}/<id>", "jobs:read", None, JobAnswer, jobs.get_job, 200, (*_ON, *WAITING)),
    Route("DELETE", f"{_JOBS}/<id>", "jobs:write", None, JobAction, jobs.cancel_job, 200, _ON),
    Route("GET", f"{_JOBS}/<id>/output", "jobs:read", None, OutputAnswer, output.job_output, 200, (*_ON, *OUTPUT)),
    Route("POST", f"{_JOBS}/<id>/hold", "jobs:write", None, JobAction, jobs.hold_job, 200, _ON),
    Route("POST", f"{_JOBS}/<id>/release", "jobs:write", None, JobAction, jobs.release_job, 200, _ON),
)  # fmt: skip

PAGES = (
    PageRoute("GET", "/settings/api_tokens", api_tokens.show),
    PageRoute("POST", "/settings/api_tokens", api_tokens.make),
    PageRoute("POST", "/settings/api_tokens/revoke", api_tokens.revoke),
)
