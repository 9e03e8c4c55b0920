"""Tools for jobs: list, look, wait, read what they wrote, submit, cancel, hold, release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from mcp.server.mcpserver import Context
from pydantic import Field, StrictInt

from mcp_server.arguments import ClusterId, Cursor, JobId, JobNamed, Key, Limit, Options, Stream
from mcp_server.auth import caller_of, place_of
from mcp_server.outputs import Action, Job, Jobs, Output, PastJobs, Statuses, Submitted, Validated, Waited
from mcp_server.portal import Portal

WAIT = 45
"""Seconds that wait_for_job waits by itself: many clients give up on a tool after 60."""
OUTPUT_BYTES = 8 * 1024
"""Bytes of output that a model reads unless it asks for more: some 2,000 tokens."""
OUTPUT_LINES = 100
"""Lines of output where neither tail nor offset is there. The API takes limit alone for the beginning of the file."""


@dataclass
class JobTools:
    """Each answers as the REST API does; what it raises is PortalError."""

    portal: Portal

    async def _ask(self, ctx: Context, method: str, path: str = "", **more: Any) -> Any:
        return await self.portal.ask(caller_of(ctx), method, f"/api/v1/jobs{path}", **more)

    async def list_jobs(self, ctx: Context, cluster: ClusterId, limit: Limit = 50, cursor: Cursor = None) -> Jobs:
        """The user's own jobs on a cluster: those that wait, run or ended a few minutes ago, the latest ids first. For
        older ones use list_past_jobs."""
        page = await self._ask(ctx, "GET", query={"cluster": cluster, "limit": limit, "cursor": cursor})
        return Jobs(jobs=page["data"], next_cursor=page["next_cursor"])

    async def list_past_jobs(
        self,
        ctx: Context,
        cluster: ClusterId,
        since: Annotated[str | None, Field(description="a date or an RFC 3339 time; left out, a week ago")] = None,
        until: Annotated[str | None, Field(description="a date or an RFC 3339 time; left out, now")] = None,
        outcome: Annotated[
            Literal[
                "completed",
                "succeeded",
                "failed",
                "cancelled",
                "timed_out",
                "out_of_memory",
                "node_failed",
                "preempted",
            ],
            Field(description="completed: however they ended"),
        ] = "completed",
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> PastJobs:
        """The user's jobs that have ended, from the scheduler's accounting, with what they used of the time, processors
        and memory that they asked for. Use it to find old jobs, or to choose better requests for the next one."""
        query = {"cluster": cluster, "from": since, "to": until, "status": outcome, "limit": limit, "cursor": cursor}
        page = await self._ask(ctx, "GET", "/historic", query=query)
        return PastJobs(jobs=page["data"], next_cursor=page["next_cursor"])

    async def get_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> Job:
        """One job as it is now, alive or ended: status, why it waits, how it ended. To wait for it, use wait_for_job
        instead of calling this again and again."""
        return Job.model_validate((await self._ask(ctx, "GET", _path(job_id), query={"cluster": cluster}))["data"])

    async def get_job_statuses(
        self, ctx: Context, jobs: Annotated[list[JobNamed], Field(min_length=1, max_length=1000)]
    ) -> Statuses:
        """How many jobs are, in one question, in the order that you name them. Use it instead of many get_job calls."""
        body = {"jobs": [named.model_dump() for named in jobs]}
        return Statuses(jobs=(await self._ask(ctx, "POST", "/status", body=body))["data"])

    async def wait_for_job(
        self,
        ctx: Context,
        cluster: ClusterId,
        job_id: JobId,
        until: Annotated[
            Literal["completed", "running", "change"],
            Field(description="completed: it has ended in any way; running: it has started; change: anything happens"),
        ] = "completed",
        seconds: Annotated[
            StrictInt, Field(ge=0, le=300, description="how long at most; beyond 50 your client may give up first")
        ] = WAIT,
    ) -> Waited:
        """Wait until a job has started or ended, and see how it is then. Comes back early with reached=false when the
        time is up: call it again to wait on. When the job's can_start is false it can never start: stop waiting, and
        tell the user the reason. This is the way to wait: it costs the scheduler next to nothing."""
        where, query = _path(job_id), {"cluster": cluster, "until": until, "wait": seconds}
        # Hundreds may wait at once, and those who do not go first.
        place_of(ctx).wait()
        if until == "change":
            return await self._changed(ctx, where, query)
        job = Job.model_validate((await self._ask(ctx, "GET", where, query=query, waiting=seconds))["data"])
        there = ("completed",) if until == "completed" else ("running", "suspended", "completed")
        return Waited(reached=job.status in there, job=job)

    async def _changed(self, ctx: Context, where: str, query: dict[str, Any]) -> Waited:
        """The API tells a change from what the client has seen, so it is looked at first."""
        caller, path = caller_of(ctx), f"/api/v1/jobs{where}"
        before = await self.portal.good(caller, "GET", path, query={"cluster": query["cluster"]})
        seen = {"If-None-Match": before.headers["ETag"]}
        after = await self.portal.good(caller, "GET", path, query=query, headers=seen, waiting=query["wait"])
        changed = after.status_code != 304
        return Waited(reached=changed, job=Job.model_validate((after if changed else before).json()["data"]))

    async def read_job_output(
        self,
        ctx: Context,
        cluster: ClusterId,
        job_id: JobId,
        stream: Stream = "stdout",
        tail: Annotated[StrictInt | None, Field(ge=1, le=10_000, description="the last so many lines (100)")] = None,
        offset: Annotated[
            StrictInt | None, Field(ge=0, description="read from this byte on instead of the end")
        ] = None,
        limit: Annotated[
            StrictInt,
            Field(ge=1, le=1_048_576, description="bytes at most; 4 of them are about a token, so ask for few"),
        ] = OUTPUT_BYTES,
    ) -> Output:
        """What a job has written: the last lines of its stdout or stderr, or a piece from offset on, to follow a job
        that still writes (give next_offset as the next offset). Use it to see results, and both streams to see why a
        job failed. Where both streams go to one file, both give that file. truncated says that lines are missing."""
        if tail is None and offset is None:
            tail = OUTPUT_LINES
        query = {"cluster": cluster, "stream": stream, "tail": tail, "offset": offset, "limit": limit}
        answer = await self._ask(ctx, "GET", f"{_path(job_id)}/output", query=query)
        return Output.model_validate(answer["data"])

    async def submit_job(
        self,
        ctx: Context,
        cluster: ClusterId,
        script: Annotated[str, Field(min_length=1, description="the job script, from its #!/bin/bash on")],
        options: Options | None = None,
        workdir: Annotated[str | None, Field(description="absolute path to start in; left out, the home")] = None,
        idempotency_key: Key = None,
    ) -> Submitted:
        """Submit a job script to a cluster's scheduler, as the user. It runs with the user's own rights and is charged
        to the user, so say what it will do. Then call wait_for_job, and read_job_output for what it wrote. If the
        answer gets lost, look with list_jobs before you submit again, or use idempotency_key from the start."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        body = _submit_body(cluster, script, options, workdir)
        return Submitted.model_validate((await self._ask(ctx, "POST", body=body, headers=headers))["data"])

    async def validate_job(
        self,
        ctx: Context,
        cluster: ClusterId,
        script: Annotated[str, Field(min_length=1, description="the whole job script")],
        options: Options | None = None,
        workdir: Annotated[str | None, Field(description="absolute path to start in; left out, the home")] = None,
    ) -> Validated:
        """Ask the scheduler whether it would take this job, and when it might start, without submitting it. What it
        refuses comes back as an error that names the reason. Only some schedulers can (Slurm, Grid Engine)."""
        body = _submit_body(cluster, script, options, workdir)
        answer = await self._ask(ctx, "POST", body=body, query={"validate": "true"})
        return Validated.model_validate(answer["data"])

    async def cancel_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> Action:
        """End a job, whether it waits or runs; what it has not written is lost. For good: it cannot be resumed. An id
        of an array ends all of its tasks."""
        answer = await self._ask(ctx, "DELETE", _path(job_id), query={"cluster": cluster})
        return Action.model_validate(answer["data"])

    async def hold_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> Action:
        """Keep a job that waits from starting, until release_job. A job that runs is not held."""
        answer = await self._ask(ctx, "POST", f"{_path(job_id)}/hold", query={"cluster": cluster})
        return Action.model_validate(answer["data"])

    async def release_job(self, ctx: Context, cluster: ClusterId, job_id: JobId) -> Action:
        """Let a held job start when its turn comes."""
        answer = await self._ask(ctx, "POST", f"{_path(job_id)}/release", query={"cluster": cluster})
        return Action.model_validate(answer["data"])


def _path(job_id: str) -> str:
    return f"/{quote(job_id, safe='')}"


def _submit_body(cluster: str, script: str, options: Options | None, workdir: str | None) -> dict[str, Any]:
    content = {"content": script} if workdir is None else {"content": script, "workdir": workdir}
    given = options.model_dump(exclude_none=True) if options else {}
    return {"cluster": cluster, "script": content, "options": given}
