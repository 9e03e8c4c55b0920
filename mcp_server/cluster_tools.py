"""Tools about the caller, the site, its clusters, and their queues and accounts.

Their titles and descriptions are in tools.py, as agents read them; these docstrings are for developers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mcp.server.mcpserver import Context

from mcp_server.arguments import ClusterId
from mcp_server.auth import caller_of
from mcp_server.portal import Portal


@dataclass
class ClusterTools:
    """The tools. Each returns the API's data as it is, and raises PortalError."""

    portal: Portal

    async def _get(self, ctx: Context, path: str, **query: Any) -> Any:
        return (await self.portal.ask(caller_of(ctx), "GET", f"/api/v1/{path}", query=query))["data"]

    async def whoami(self, ctx: Context) -> dict[str, Any]:
        """Return the caller's user name and what the credential allows."""
        return dict(await self._get(ctx, "whoami"))

    async def get_site_notes(self, ctx: Context) -> dict[str, Any]:
        """Return the site's notes for agents."""
        return dict(await self._get(ctx, "context"))

    async def list_clusters(self, ctx: Context) -> dict[str, Any]:
        """Return the clusters that accept the caller's jobs."""
        return {"clusters": await self._get(ctx, "clusters")}

    async def get_cluster(self, ctx: Context, cluster: ClusterId) -> dict[str, Any]:
        """Return one cluster."""
        return dict(await self._get(ctx, f"clusters/{quote(cluster, safe='')}"))

    async def get_cluster_info(self, ctx: Context, cluster: ClusterId) -> dict[str, Any]:
        """Return the numbers of nodes, processors and GPUs of a cluster."""
        return dict(await self._get(ctx, "cluster_info", cluster=cluster))

    async def list_queues(self, ctx: Context, cluster: ClusterId) -> dict[str, Any]:
        """Return the queues of a cluster."""
        return {"queues": await self._get(ctx, "queues", cluster=cluster)}

    async def list_accounts(self, ctx: Context, cluster: ClusterId) -> dict[str, Any]:
        """Return the accounts that the caller may charge on a cluster."""
        return {"accounts": await self._get(ctx, "accounts", cluster=cluster)}
