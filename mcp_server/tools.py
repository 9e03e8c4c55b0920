"""The table of tools: for each the API operation that it performs, what it needs, and the text that an agent reads.

Titles, descriptions and schemas come from the API's OpenAPI document (schemas.py). The table adds what only a tool has:
advice about other tools, and the texts of the two tools that are a variant of an operation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations

from mcp_server.cluster_tools import ClusterTools
from mcp_server.job_tools import JobTools
from mcp_server.portal import Portal
from mcp_server.schemas import ApiDocument, Compactor, Schema

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)
"""The hints of submit_job: a script can do whatever its user can, and every submit is another job."""


@dataclass(frozen=True)
class ToolRow:
    """A tool.

    ``operation`` is the id of the API's operation that the tool performs, ``status`` that of its response. ``scope`` is
    the scope that a credential needs, or None if any credential will do. ``title`` and ``description`` replace the
    operation's; ``advice`` follows the description. ``key`` is the name under which the result holds the response's
    data, or "" for a result that is the data. ``fields`` are the schemas of further fields of the result.
    ``arguments`` gives an argument the description of a parameter or field that has another name in the API, and
    ``texts`` gives it a description of its own.
    """

    function: Callable[..., Awaitable[Any]]
    operation: str
    scope: str | None
    hints: ToolAnnotations
    advice: str = ""
    title: str = ""
    description: str = ""
    status: str = "200"
    key: str = ""
    fields: Schema = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.__name__


_JOB = {"job_id": "id"}
_SUBMIT = {"script": "content", "idempotency_key": "Idempotency-Key"}


def tools(portal: Portal) -> tuple[ToolRow, ...]:
    """Return the rows of all tools."""
    sites, jobs = ClusterTools(portal), JobTools(portal)
    return (
        ToolRow(
            sites.whoami,
            "who_am_i",
            None,
            READS,
            "Use it when a call is refused.",
        ),
        ToolRow(
            sites.get_site_notes,
            "site_context",
            None,
            READS,
            "Read them once, before the first job.",
        ),
        ToolRow(
            sites.list_clusters,
            "list_clusters",
            "clusters:read",
            READS,
            "Start here: every other tool takes one of these ids as `cluster`.",
            key="clusters",
        ),
        ToolRow(
            sites.get_cluster,
            "get_cluster",
            "clusters:read",
            READS,
            "Use it to learn which directives (#SBATCH, #PBS, #BSUB, #$) a script may have.",
            arguments={"cluster": "id"},
        ),
        ToolRow(
            sites.get_cluster_info,
            "cluster_info",
            "clusters:read",
            READS,
            "Use it to choose between clusters, or to explain why a job is queued.",
        ),
        ToolRow(
            sites.list_queues,
            "list_queues",
            "clusters:read",
            READS,
            "Use it to choose `queue_name` and `wall_time` for submit_job.",
            key="queues",
        ),
        ToolRow(
            sites.list_accounts,
            "list_accounts",
            "clusters:read",
            READS,
            "Use it to choose `accounting_id` for submit_job.",
            key="accounts",
        ),
        ToolRow(
            jobs.list_jobs,
            "list_jobs",
            "jobs:read",
            READS,
            "For older jobs use list_past_jobs.",
            key="jobs",
        ),
        ToolRow(
            jobs.list_past_jobs,
            "list_historic",
            "jobs:read",
            READS,
            "Use it to choose better requests for the next job.",
            key="jobs",
            arguments={"since": "from", "until": "to"},
            texts={"outcome": "How the jobs ended; `completed` means in any way."},
        ),
        ToolRow(
            jobs.get_job,
            "get_job",
            "jobs:read",
            READS,
            "To wait for a job, use wait_for_job instead of repeated calls.",
            arguments=_JOB,
        ),
        ToolRow(
            jobs.get_job_statuses,
            "job_statuses",
            "jobs:read",
            READS,
            "Use it instead of many get_job calls.",
            key="jobs",
        ),
        ToolRow(
            jobs.wait_for_job,
            "get_job",
            "jobs:read",
            READS,
            title="Wait for a job",
            description="Wait until a job has started or ended, and return the job. If the time is up first, `reached` "
            "is false: call the tool again to continue. If `can_start` is false the job can never start: stop waiting, "
            "and tell the user the `reason`.",
            key="job",
            fields={
                "reached": {
                    "description": "Whether the job has reached `until`.",
                    "type": "boolean",
                }
            },
            arguments=_JOB,
            texts={"seconds": "Seconds to wait at most. Many clients give up after 60."},
        ),
        ToolRow(
            jobs.read_job_output,
            "job_output",
            "jobs:read",
            READS,
            "To follow a running job, pass `next_offset` as the next `offset`. If a job has failed, read both streams.",
            arguments=_JOB,
        ),
        ToolRow(
            jobs.submit_job,
            "submit_job",
            "jobs:write",
            RUNS,
            "The job runs with the user's rights and is charged to the user, so first say what it will do. Then call "
            "wait_for_job, and read_job_output. If the response is lost, call list_jobs before you submit again, or "
            "use `idempotency_key` from the start.",
            status="201",
            arguments=_SUBMIT,
        ),
        ToolRow(
            jobs.validate_job,
            "submit_job",
            "jobs:write",
            READS,
            title="Validate a job",
            description="Ask the scheduler whether it would accept a job and when the job might start, without "
            "submitting it. A refusal is an error that gives the reason. Not every scheduler can do this.",
            arguments=_SUBMIT,
            texts=dict.fromkeys(("script", "options", "workdir"), "As for submit_job."),
        ),
        ToolRow(
            jobs.cancel_job,
            "cancel_job",
            "jobs:write",
            ENDS,
            "Unwritten results are lost.",
            arguments=_JOB,
        ),
        ToolRow(jobs.hold_job, "hold_job", "jobs:write", CHANGES, arguments=_JOB),
        ToolRow(jobs.release_job, "release_job", "jobs:write", CHANGES, arguments=_JOB),
    )


def described(rows: Iterable[ToolRow]) -> list[Tool]:
    """Return the tools as an agent sees them: name, title, description, hints, and schemas of arguments and result."""
    api = ApiDocument.load()
    # A caller sees the tools that the token's scopes allow. So each group of scopes describes its own types.
    compactors: dict[str, tuple[Compactor, Compactor]] = {}
    listed = []
    for row in rows:
        group = (row.scope or "").partition(":")[0]
        if group not in compactors:
            compactors[group] = Compactor(api.components), Compactor(api.components)
        listed.append(_tool(row, api, *compactors[group]))
    return listed


def _tool(row: ToolRow, api: ApiDocument, arguments: Compactor, results: Compactor) -> Tool:
    tool = Tool.from_function(
        row.function,
        title=row.title or api.summary(row.operation),
        description=f"{row.description or api.description(row.operation)} {row.advice}".rstrip(),
        annotations=row.hints,
    )
    tool.parameters = arguments.arguments(
        tool.parameters,
        {
            name: row.texts.get(name) or api.argument(row.operation, row.arguments.get(name, name))
            for name in tool.parameters["properties"]
        },
    )
    tool.fn_metadata.output_schema = results.result(_result(row, api))
    return tool


def _result(row: ToolRow, api: ApiDocument) -> Schema:
    """Return the schema of a tool's result, which holds the response's data and, for a page, its cursor."""
    response = dict(api.response(row.operation, row.status)["properties"])
    data = {name: value for name, value in response.pop("data").items() if name != "description"}
    if not row.key:
        return data
    return {"type": "object", "properties": {**row.fields, row.key: data, **response}}
