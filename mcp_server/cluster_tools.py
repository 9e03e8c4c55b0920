"""Tools that say who one is, and what there is: clusters, their queues and accounts, the site's notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mcp.server.mcpserver import Context

from mcp_server.arguments import ClusterId
from mcp_server.auth import caller_of
from mcp_server.outputs import Accounts, Cluster, ClusterInfo, Clusters, Notes, Queues, WhoAmI
from mcp_server.portal import Portal


@dataclass
class ClusterTools:
    """Each answers as the REST API does; what it raises is PortalError."""

    portal: Portal

    async def _get(self, ctx: Context, path: str, **query: Any) -> Any:
        return (await self.portal.ask(caller_of(ctx), "GET", f"/api/v1/{path}", query=query))["data"]

    async def whoami(self, ctx: Context) -> WhoAmI:
        """Who you act as on this portal, what your token allows, and until when. Use it when something is refused, or
        to tell the user whose jobs these are."""
        return WhoAmI.model_validate(await self._get(ctx, "whoami"))

    async def get_site_notes(self, ctx: Context) -> Notes:
        """What this site's staff tell agents: house rules, which queue is for what, where software and scratch space
        are. Read it once, before you write or submit the first job."""
        return Notes.model_validate(await self._get(ctx, "context"))

    async def list_clusters(self, ctx: Context) -> Clusters:
        """The clusters that take the user's jobs. Start here: every other tool wants one of these ids as cluster."""
        return Clusters(clusters=await self._get(ctx, "clusters"))

    async def get_cluster(self, ctx: Context, cluster: ClusterId) -> Cluster:
        """One cluster: its title, its kind of scheduler, and the host to log in to. Use it to tell which scheduler's
        directives (#SBATCH, #PBS, #BSUB, #$) a script may have."""
        return Cluster.model_validate(await self._get(ctx, f"clusters/{quote(cluster, safe='')}"))

    async def get_cluster_info(self, ctx: Context, cluster: ClusterId) -> ClusterInfo:
        """How busy a cluster is: nodes, processors and GPUs in use and in all. Use it to choose between clusters, or to
        say why a job waits."""
        return ClusterInfo.model_validate(await self._get(ctx, "cluster_info", cluster=cluster))

    async def list_queues(self, ctx: Context, cluster: ClusterId) -> Queues:
        """The queues (Slurm: partitions) of a cluster with their state, time limits, nodes and who may use them. Use it
        to choose queue_name and wall_time for submit_job."""
        return Queues(queues=await self._get(ctx, "queues", cluster=cluster))

    async def list_accounts(self, ctx: Context, cluster: ClusterId) -> Accounts:
        """The accounts (projects) that the user may charge on a cluster, and what is left of them. Use it to choose
        accounting_id for submit_job, and when a submit is refused for its account. Not every scheduler has accounts."""
        return Accounts(accounts=await self._get(ctx, "accounts", cluster=cluster))
