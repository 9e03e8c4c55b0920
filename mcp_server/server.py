"""The MCP server: which tools there are, which of them a caller is shown, and the ASGI app that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, TextContent, ToolAnnotations
from pydantic import ValidationError

from mcp_server.arguments import Options, what_is_wrong
from mcp_server.auth import Door, caller_of_request
from mcp_server.cluster_tools import ClusterTools
from mcp_server.guide import NOTES, add_notes, add_prompts
from mcp_server.job_tools import JobTools
from mcp_server.portal import Portal

INSTRUCTIONS = """This is an HPC portal: its tools run batch jobs on the clusters of one computing site, as the Unix
user whose token this is. The usual way: list_clusters; get_site_notes; submit_job with a whole script; wait_for_job;
read_job_output. Times are RFC 3339 in UTC, durations are in seconds. Where a tool refuses, it says why and what to
do."""

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)
"""A script may do whatever its user may, and every submit is another job."""


@dataclass(frozen=True)
class ToolRow:
    """One tool. ``scope`` is what a credential needs for it; None where any will do."""

    function: Callable[..., Awaitable[Any]]
    title: str
    scope: str | None
    hints: ToolAnnotations

    @property
    def name(self) -> str:
        return self.function.__name__


def tools(portal: Portal) -> tuple[ToolRow, ...]:
    """All of them, on a page."""
    sites, jobs = ClusterTools(portal), JobTools(portal)
    return (
        ToolRow(sites.whoami, "Who am I", None, READS),
        ToolRow(sites.get_site_notes, "Read the site's notes for agents", None, READS),
        ToolRow(sites.list_clusters, "List clusters", "clusters:read", READS),
        ToolRow(sites.get_cluster, "Show a cluster", "clusters:read", READS),
        ToolRow(sites.get_cluster_info, "Show how busy a cluster is", "clusters:read", READS),
        ToolRow(sites.list_queues, "List queues", "clusters:read", READS),
        ToolRow(sites.list_accounts, "List accounts", "clusters:read", READS),
        ToolRow(jobs.list_jobs, "List jobs", "jobs:read", READS),
        ToolRow(jobs.list_past_jobs, "List jobs that have ended", "jobs:read", READS),
        ToolRow(jobs.get_job, "Show a job", "jobs:read", READS),
        ToolRow(jobs.get_job_statuses, "Show how many jobs are", "jobs:read", READS),
        ToolRow(jobs.wait_for_job, "Wait for a job", "jobs:read", READS),
        ToolRow(jobs.read_job_output, "Read a job's output", "jobs:read", READS),
        ToolRow(jobs.validate_job, "Check a job without submitting it", "jobs:write", READS),
        ToolRow(jobs.submit_job, "Submit a job", "jobs:write", RUNS),
        ToolRow(jobs.cancel_job, "Cancel a job", "jobs:write", ENDS),
        ToolRow(jobs.hold_job, "Hold a job", "jobs:write", CHANGES),
        ToolRow(jobs.release_job, "Release a job", "jobs:write", CHANGES),
    )


def described(rows: Iterable[ToolRow]) -> list[Tool]:
    """Return the tools as agents are told of them: name, title, description, hints, and schemas of both sides."""
    return [
        Tool.from_function(row.function, title=row.title, annotations=row.hints, description=_one_line(row.function))
        for row in rows
    ]


class Shown:
    """Middleware: a caller is shown what the credential is good for, and told which arguments a tool cannot take."""

    def __init__(self, rows: tuple[ToolRow, ...], made: Sequence[Tool]) -> None:
        self._scopes = {row.name: row.scope for row in rows}
        self._tools = {tool.name: tool for tool in made}

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call" and (no := self._wrong_arguments(ctx.params or {})):
            return CallToolResult(content=[TextContent(type="text", text=no)], is_error=True)
        try:
            result = await call_next(ctx)
        except ValidationError:
            raise
        except ValueError as error:
            # What the SDK says of a prompt that is not there, or lacks an argument, would be a fault of ours.
            if ctx.method != "prompts/get":
                raise
            raise MCPError(INVALID_PARAMS, str(error)) from error
        if ctx.method == "tools/list" and isinstance(result, dict):
            held = caller_of_request(ctx.request).scopes
            result["tools"] = [tool for tool in result["tools"] if self._scopes[tool["name"]] in (None, *held)]
        elif ctx.method == "resources/list" and isinstance(result, dict):
            result["resources"] = [NOTES.model_dump(by_alias=True, mode="json", exclude_none=True)]
        return result

    def _wrong_arguments(self, params: Mapping[str, Any]) -> str | None:
        """What is wrong with a call, in words for who made it. The SDK's own are pydantic's, with its web site."""
        name, given = params.get("name"), params.get("arguments", {})
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None or not isinstance(given, dict):
            return None
        known = tool.parameters["properties"].keys()
        # The SDK leaves out what a tool does not have: a wall time would be lost with its misspelling.
        if unknown := sorted(given.keys() - known):
            named = ", ".join(key[:64] for key in unknown[:10])
            text = f"{name} has no argument {named}. Its arguments are: {', '.join(sorted(known))}."
            if "options" in known and (inner := [key for key in unknown if key in Options.model_fields]):
                text += f" {', '.join(inner)} belongs into options."
            return text
        try:
            tool.fn_metadata.validate_arguments(given)
        except ValidationError as error:
            return f"{name} cannot be called so: {what_is_wrong(error)}. Correct that, and call again."
        return None


def mcp_app(portal: Portal, public_url: str, origin: str, max_body: int) -> Door:
    """The ASGI app: streamable HTTP at /mcp, without sessions, answers in JSON.

    ``origin`` is the one that browsers may call from; of another host's name than ``public_url``'s nothing is taken.
    """
    rows = tools(portal)
    made = described(rows)

    @asynccontextmanager
    async def lifespan(_: Any) -> Any:
        yield {}
        await portal.close()

    server = MCPServer(
        "punway",
        title="HPC portal",
        instructions=INSTRUCTIONS,
        version=version("punway"),
        website_url=public_url,
        log_level="WARNING",
        lifespan=lifespan,
        # Nothing of a server without sessions ever changes, so there is nothing to listen for.
        subscriptions=False,
        tools=made,
        middleware=[Shown(rows, made)],
    )
    add_notes(server, portal)
    add_prompts(server)
    address = urlsplit(public_url)
    usual = {"http": 80, "https": 443}[address.scheme]
    hosts = [address.netloc] + ([f"{address.netloc}:{usual}"] if address.port is None else [])
    app = server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        # door.py has bounds of its own, before it.
        max_request_body_size=max_body,
        transport_security=TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[origin]),
    )
    return Door(app, portal, max_body)


def _one_line(function: Callable[..., Any]) -> str:
    return " ".join((function.__doc__ or "").split())
