"""Tools for jobs: list, get, wait for, read the output of, submit, check, cancel, hold and release them.

Their titles and descriptions are in tools.py, as agents read them; these docstrings are for developers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from mcp.server.mcpserver import Context
from pydantic import Field, StrictInt

from mcp_server.arguments import ClusterId, Cursor, IdempotencyKey, JobId, JobNamed, Limit, Options, Stream
from mcp_server.auth import caller_of, place_of
from mcp_server.portal import Portal

DEFAULT_WAIT_S = 45
"""The default of wait_for_job. Many clients give up on a tool after 60 seconds."""
DEFAULT_OUTPUT_BYTES = 8 * 1024
"""The default size of output for a model, about 2,000 tokens."""
DEFAULT_OUTPUT_LINES = 100
"""The number of last lines if the call gives neither tail nor offset. With limit alone, the API would read the file
from its beginning."""
Outcome = Literal[
    "completed", "succeeded", "failed", "cancelled", "timed_out", "out_of_memory", "node_failed", "preempted"
]


@dataclass
class JobTools:
    """The tools. Each returns the API's data as it is, and raises PortalError."""

    portal: Portal

    async def _ask(self, ctx: Context, method: str, path: str = "", **more: Any) -> Any:
        return await self.portal.ask(caller_of(ctx), method, f"/api/v1/jobs{path}", **more)

    async def _data(self, ctx: Context, method: str, path: str = "", **more: Any) -> dict[str, Any]:
        return dict((await self._ask(ctx, method, path, **more))["data"])

    async def list_jobs(
        self, ctx: Context, cluster: ClusterId, limit: Limit = 50, cursor: Cursor = None
    ) -> dict[str, Any]:
        """Return one page of the caller's jobs on a cluster."""
        page = await self._ask(ctx, "GET", query={"cluster": cluster, "limit": limit, "cursor": cursor})
        return {"jobs": page["data"], "next_cursor": page["next_cursor"]}

    async def list_past_jobs(
        self,
        ctx: Context,
        cluster: ClusterId,
        since: str | None = None,
        until: str | None = None,
        outcome: Outcome = "completed",
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Return one page of the caller's finished jobs, from the scheduler's accounting."""
        query = {"cluster": cluster, "from": since, "to": until, "status": outcome, "limit": limit, "cursor": cursor}
        page = await self._ask(ctx, "GET", "/historic", query=query)
        return {"jobs": page["data"], "next_cursor": page["next_cursor"]}

    async def get_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> dict[str, Any]:
        """Return one job."""
        return await self._data(ctx, "GET", _path(job_id), query={"cluster": cluster})

    async def get_job_statuses(
        self, ctx: Context, jobs: Annotated[list[JobNamed], Field(min_length=1, max_length=1000)]
    ) -> dict[str, Any]:
        """Return the status of several jobs, in the order of the argument."""
        body = {"jobs": [named.model_dump() for named in jobs]}
        return {"jobs": (await self._ask(ctx, "POST", "/status", body=body))["data"]}

    async def wait_for_job(
        self,
        ctx: Context,
        cluster: ClusterId,
        job_id: JobId,
        until: Literal["completed", "running", "change"] = "completed",
        seconds: Annotated[StrictInt, Field(ge=0, le=300)] = DEFAULT_WAIT_S,
    ) -> dict[str, Any]:
        """Return the job once it has reached ``until`` or the time is up, and whether it has."""
        path, query = _path(job_id), {"cluster": cluster, "until": until, "wait": seconds}
        # Hundreds of calls may wait at once, so a waiting call leaves its place to others.
        place_of(ctx).wait()
        if until == "change":
            return await self._changed(ctx, path, query)
        job = await self._data(ctx, "GET", path, query=query, wait_s=seconds)
        reached = ("completed",) if until == "completed" else ("running", "suspended", "completed")
        return {"reached": job["status"] in reached, "job": job}

    async def _changed(self, ctx: Context, path: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return the job once it has changed. The API compares with an ETag, so read the job first to get one."""
        caller, path = caller_of(ctx), f"/api/v1/jobs{path}"
        before = await self.portal.ask_raw(caller, "GET", path, query={"cluster": query["cluster"]})
        if_none_match = {"If-None-Match": before.headers["ETag"]}
        after = await self.portal.ask_raw(caller, "GET", path, query=query, headers=if_none_match, wait_s=query["wait"])
        changed = after.status_code != 304
        return {"reached": changed, "job": (after if changed else before).json()["data"]}

    async def read_job_output(
        self,
        ctx: Context,
        cluster: ClusterId,
        job_id: JobId,
        stream: Stream = "stdout",
        tail: Annotated[StrictInt | None, Field(ge=1, le=10_000)] = None,
        offset: Annotated[StrictInt | None, Field(ge=0)] = None,
        limit: Annotated[StrictInt, Field(ge=1, le=1_048_576)] = DEFAULT_OUTPUT_BYTES,
    ) -> dict[str, Any]:
        """Return the last lines of a job's output, or a piece of it."""
        if tail is None and offset is None:
            tail = DEFAULT_OUTPUT_LINES
        query = {"cluster": cluster, "stream": stream, "tail": tail, "offset": offset, "limit": limit}
        return await self._data(ctx, "GET", f"{_path(job_id)}/output", query=query)

    async def submit_job(
        self,
        ctx: Context,
        cluster: ClusterId,
        script: Annotated[str, Field(min_length=1)],
        options: Options | None = None,
        workdir: str | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        """Submit a job and return it."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        return await self._data(ctx, "POST", body=_submit_body(cluster, script, options, workdir), headers=headers)

    async def validate_job(
        self,
        ctx: Context,
        cluster: ClusterId,
        script: Annotated[str, Field(min_length=1)],
        options: Options | None = None,
        workdir: str | None = None,
    ) -> dict[str, Any]:
        """Return whether the scheduler would accept a job, without submitting it."""
        body = _submit_body(cluster, script, options, workdir)
        return await self._data(ctx, "POST", body=body, query={"validate": "true"})

    async def cancel_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> dict[str, Any]:
        """Cancel a job."""
        return await self._data(ctx, "DELETE", _path(job_id), query={"cluster": cluster})

    async def hold_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> dict[str, Any]:
        """Hold a queued job."""
        return await self._data(ctx, "POST", f"{_path(job_id)}/hold", query={"cluster": cluster})

    async def release_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> dict[str, Any]:
        """Release a held job."""
        return await self._data(ctx, "POST", f"{_path(job_id)}/release", query={"cluster": cluster})


def _path(job_id: str) -> str:
    return f"/{quote(job_id, safe='')}"


def _submit_body(cluster: str, script: str, options: Options | None, workdir: str | None) -> dict[str, Any]:
    content = {"content": script} if workdir is None else {"content": script, "workdir": workdir}
    given = options.model_dump(exclude_none=True) if options else {}
    return {"cluster": cluster, "script": content, "options": given}
