"""The MCP resource with the site's notes, and the MCP prompts for the most common requests."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import Resource
from pydantic import Field

from mcp_server.auth import caller_of
from mcp_server.portal import Portal

NOTES = Resource(
    uri="punway://site/notes",
    name="site_notes",
    title="The site's notes for agents",
    description="Notes from the site's staff for AI agents, such as house rules; each names the file that it is from.",
    mime_type="text/markdown",
)


def add_notes(server: MCPServer, portal: Portal) -> None:
    """Let clients read the notes at NOTES.uri.

    Reading needs the caller's credential, so this is a template of resources; ToolFilter lists the one resource.
    """

    @server.resource(
        "punway://site/{document}",
        name="site",
        title=NOTES.title,
        description="A document of the site. There is one: notes.",
        mime_type="text/markdown",
    )
    async def site(document: str, ctx: Context) -> str:
        if document != "notes":
            raise ResourceNotFoundError(f"Unknown document {document}. Read punway://site/notes.")
        notes = (await portal.ask(caller_of(ctx), "GET", "/api/v1/context"))["data"]["notes"]
        return "\n\n".join(map(_with_source, notes)) if notes else "This site has no notes for agents."


def _with_source(note: dict[str, str | bool]) -> str:
    ending = "\n(The rest of this note is left out.)" if note["truncated"] else ""
    return f"<!-- from {note['source']} -->\n{note['content']}{ending}"


def add_prompts(server: MCPServer) -> None:
    """Add the prompts. They name tools; the model decides whether to call them."""

    @server.prompt(title="Why did my job fail?", description="Find out why a job failed and what to change.")
    def why_did_my_job_fail(
        job_id: Annotated[str, Field(description="The job's id.")],
        cluster: Annotated[str, Field(description="The cluster's id. Default: the assistant looks for it.")] = "",
    ) -> str:
        where = f"on the cluster {cluster}" if cluster else "(find its cluster with list_clusters and get_job)"
        return (
            f"Find out why my job {job_id} {where} failed.\n"
            "1. get_job: how did it end, with which exit code and native_reason?\n"
            "2. read_job_output for stderr and for stdout: what are the last messages?\n"
            "3. If it timed out or ran out of memory, list_past_jobs shows how much of its request it used.\n"
            "4. Tell me the cause in one sentence, with the line of output that shows it. If you cannot find it, say "
            "so, and say what would show it.\n"
            "5. Propose the corrected script or options. Submit it only after I agree."
        )

    @server.prompt(title="Write a job script", description="Write a job script for a cluster of this site.")
    def write_a_job_script(
        task: Annotated[str, Field(description="What the job should do.")],
        cluster: Annotated[str, Field(description="The cluster's id. Default: the assistant chooses one.")] = "",
    ) -> str:
        where = f"for the cluster {cluster}" if cluster else "for the most suitable cluster of list_clusters"
        return (
            f"Write a job script {where} that does this: {task}\n"
            "1. get_site_notes: follow the site's rules about software, scratch space and queues.\n"
            "2. list_queues and list_accounts: choose what fits, and omit options whose defaults are fine.\n"
            "3. Begin with #!/bin/bash and set -euo pipefail, and let the script print its progress.\n"
            "4. Request the time, cores and memory that it needs, with a margin, and explain the numbers.\n"
            "5. Check it with validate_job if the scheduler supports that. Show me the script before you submit it."
        )
