"""The MCP server as an ASGI app: it lists the tools that the caller's token allows, and calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, TextContent
from pydantic import ValidationError

from mcp_server.arguments import Options, argument_errors
from mcp_server.auth import AuthMiddleware, caller_of_request
from mcp_server.guide import NOTES, add_notes, add_prompts
from mcp_server.portal import Portal
from mcp_server.tools import ToolRow, described, tools

INSTRUCTIONS = """This is an HPC portal. Its tools run batch jobs on the clusters of one computing site, as the Unix
user who owns the token. The usual order: list_clusters; get_site_notes; submit_job with a whole script; wait_for_job;
read_job_output. Times are RFC 3339 in UTC, durations are in seconds. An error message says what is wrong and what to
do."""


class ToolFilter:
    """An SDK middleware: it hides the tools that the token does not allow, and explains wrong arguments."""

    def __init__(self, rows: tuple[ToolRow, ...], sdk_tools: Sequence[Tool]) -> None:
        self._scopes = {row.name: row.scope for row in rows}
        self._tools = {tool.name: tool for tool in sdk_tools}

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call" and (message := self._wrong_arguments(ctx.params or {})):
            return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)
        try:
            result = await call_next(ctx)
        except ValidationError:
            raise
        except ValueError as error:
            # The SDK reports an unknown prompt or a missing argument as an internal error. It is the client's.
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
        """Return what is wrong with a call, or None. The SDK's message would be pydantic's, with links to its site."""
        name, given = params.get("name"), params.get("arguments", {})
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None or not isinstance(given, dict):
            return None
        known = tool.parameters["properties"].keys()
        # The SDK drops unknown arguments, so a misspelt wall_time would be lost without a word.
        if unknown := sorted(given.keys() - known):
            named = ", ".join(key[:64] for key in unknown[:10])
            text = f"{name} has no argument {named}. Its arguments are: {', '.join(sorted(known))}."
            if "options" in known and (inner := [key for key in unknown if key in Options.model_fields]):
                text += f" Put {', '.join(inner)} into options."
            return text
        try:
            tool.fn_metadata.validate_arguments(given)
        except ValidationError as error:
            return f"{name} rejected the arguments: {argument_errors(error)}. Correct them and call again."
        return None


def mcp_app(portal: Portal, public_url: str, origin: str, max_body: int) -> AuthMiddleware:
    """Return the ASGI app: streamable HTTP at /mcp, without sessions, with JSON responses.

    ``origin`` is the one origin that browsers may call from. A request for another host than ``public_url``'s is
    rejected. ``max_body`` is in bytes.
    """
    rows = tools(portal)
    sdk_tools = described(rows)

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
        # Without sessions no list ever changes, so a client has nothing to subscribe to.
        subscriptions=False,
        tools=sdk_tools,
        middleware=[ToolFilter(rows, sdk_tools)],
    )
    add_notes(server, portal)
    add_prompts(server)
    address = urlsplit(public_url)
    default_port = {"http": 80, "https": 443}[address.scheme]
    hosts = [address.netloc] + ([f"{address.netloc}:{default_port}"] if address.port is None else [])
    app = server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        # AuthMiddleware has already applied a smaller limit.
        max_request_body_size=max_body,
        transport_security=TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[origin]),
    )
    return AuthMiddleware(app, portal, max_body)
