"""The handlers of the clusters endpoints."""

from __future__ import annotations

from pun_app.clusters.load import Cluster
from pun_app.handlers.request import Answer, Request
from pun_app.schemas import ClusterAnswer


def list_clusters(request: Request) -> Answer[list[ClusterAnswer]]:
    """Return every cluster that accepts the caller's jobs, except those that the site hides."""
    return Answer([_cluster_answer(cluster) for cluster in request.clusters.listed() if not cluster.hidden])


def get_cluster(request: Request) -> Answer[ClusterAnswer]:
    """Return one cluster, hidden or not. Raises NotFound."""
    return Answer(_cluster_answer(request.clusters.get(request.id)))


def _cluster_answer(cluster: Cluster) -> ClusterAnswer:
    return ClusterAnswer(cluster.id, cluster.title, cluster.adapter_name, cluster.login_host, cluster.state)
