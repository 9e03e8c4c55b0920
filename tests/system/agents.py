"""The official SDK's client, as an agent's host uses it: over HTTP through nginx, or over stdio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent, TextResourceContents

T = TypeVar("T")


class Agent:
    """An agent that calls tools. ``mode`` is auto (the protocol of 2026-07-28) or legacy (the one before)."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def tool(self, name: str, **arguments: Any) -> Any:
        """Call a tool and return its structured result. Fail if the tool returns an error."""
        result = await self.client.call_tool(name, arguments)
        assert not result.is_error, result.content
        return result.structured_content

    async def refused(self, name: str, **arguments: Any) -> str:
        """Call a tool that must fail, and return its message."""
        result = await self.client.call_tool(name, arguments)
        assert result.is_error and result.structured_content is None
        return text_of(result.content[0])


def text_of(content: Any) -> str:
    """Return the text of a content block."""
    assert isinstance(content, (TextContent, TextResourceContents))
    return content.text


def with_agent(url: str, token: str, steps: Callable[[Agent], Awaitable[T]], mode: Any = "auto") -> T:
    """Run an steps over HTTP."""

    async def run() -> T:
        async with AsyncExitStack() as stack:
            headers = {"Authorization": f"Bearer {token}"}
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=120))
            transport = streamable_http_client(f"{url}/mcp", http_client=http)
            return await steps(Agent(await stack.enter_async_context(Client(transport, mode=mode))))

    return anyio.run(run)


def with_stdio_agent(
    command: list[str], environment: dict[str, str], steps: Callable[[Agent], Awaitable[T]], mode: Any = "auto"
) -> T:
    """Run an steps over the standard input and output of a command."""

    async def run() -> T:
        server = StdioServerParameters(command=command[0], args=command[1:], env=environment)
        async with Client(server, mode=mode) as client:
            return await steps(Agent(client))

    return anyio.run(run)
