"""The Clusters endpoints."""

from __future__ import annotations

from pun_app.clusters.load import Cluster
from pun_app.handlers.request import Request
from pun_app.schemas import ClusterAnswer


def list_clusters(request: Request) -> list[ClusterAnswer]:
    """Every cluster that takes the caller's jobs, but for those that the site keeps out of menus."""
    return [_answer(cluster) for cluster in request.clusters.listed() if not cluster.hidden]


def get_cluster(request: Request) -> ClusterAnswer:
    """One cluster, hidden or not."""
    return _answer(request.clusters.get(request.id))


def _answer(cluster: Cluster) -> ClusterAnswer:
    return ClusterAnswer(cluster.id, cluster.title, cluster.adapter_name, cluster.login_host, cluster.state)
