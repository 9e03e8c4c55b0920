"""What is there besides tools: the site's notes as a resource, and prompts for what users ask for most."""

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
    description="House rules, and what is where, as this site's staff tell agents; each with the file it is from.",
    mime_type="text/markdown",
)


def add_notes(server: MCPServer, portal: Portal) -> None:
    """The notes can be read at NOTES.uri. They are read as the caller, so they are listed by server.py's middleware."""

    @server.resource("punway://site/{document}", name="site", title=NOTES.title, mime_type="text/markdown")
    async def site(document: str, ctx: Context) -> str:
        """document: notes."""
        if document != "notes":
            raise ResourceNotFoundError(f"There is no document {document}; there is notes")
        notes = (await portal.ask(caller_of(ctx), "GET", "/api/v1/context"))["data"]["notes"]
        return "\n\n".join(map(_marked, notes)) if notes else "This site has no notes for agents."


def _marked(note: dict[str, str | bool]) -> str:
    cut = "\n(The rest of this note is left out.)" if note["truncated"] else ""
    return f"<!-- from {note['source']} -->\n{note['content']}{cut}"


def add_prompts(server: MCPServer) -> None:
    """They name the tools, and leave it to the model to call them."""

    @server.prompt(title="Why did my job fail?")
    def why_did_my_job_fail(
        job_id: Annotated[str, Field(description="the job's id")],
        cluster: Annotated[str, Field(description="the cluster's id; left out, it is looked for")] = "",
    ) -> str:
        """Find out why a job failed, and what to change."""
        where = f"on the cluster {cluster}" if cluster else "(find its cluster with list_clusters and get_job)"
        return (
            f"Find out why my job {job_id} {where} did not do what it should.\n"
            "1. get_job: how did it end, with which exit code and native_reason?\n"
            "2. read_job_output for stderr and for stdout: what are the last things that it said?\n"
            "3. If it timed out or ran out of memory, list_past_jobs shows what it used of what it asked for.\n"
            "4. Tell me the cause in one sentence, with the line of output that shows it. If you cannot tell, say so, "
            "and say what would show it.\n"
            "5. Propose the corrected script or options. Submit it only once I agree."
        )

    @server.prompt(title="Write a job script")
    def write_a_job_script(
        task: Annotated[str, Field(description="what the job shall do")],
        cluster: Annotated[str, Field(description="the cluster's id; left out, one is chosen")] = "",
    ) -> str:
        """Write a job script for a cluster of this site, with requests that fit."""
        where = f"for the cluster {cluster}" if cluster else "for the cluster of list_clusters that suits it best"
        return (
            f"Write a job script {where} that does this: {task}\n"
            "1. get_site_notes: follow what the site says of software, scratch space and queues.\n"
            "2. list_queues and list_accounts: choose what fits; leave out what the defaults are good for.\n"
            "3. Begin with #!/bin/bash and set -euo pipefail, and let the script say what it does as it goes on.\n"
            "4. Ask for the time, cores and memory that it needs, with a margin, and say how you came to them.\n"
            "5. Check it with validate_job where the scheduler can. Show me the script before you submit it."
        )
