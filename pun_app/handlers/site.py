"""What a cluster has: its queues, the caller's accounts, how much of it is in use."""

from __future__ import annotations

from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.handlers.request import Request
from pun_app.schemas import AccountAnswer


def list_queues(request: Request) -> list[Queue]:
    """The queues that the caller may see, as they may be named in options.queue_name."""
    queues, request.age = request.cluster().scheduler.queues(fresh=request.fresh)
    return queues


def list_accounts(request: Request) -> list[AccountAnswer]:
    """The accounts that the caller may charge, as they may be named in options.accounting_id."""
    cluster = request.cluster()
    accounts, request.age = cluster.scheduler.accounts(fresh=request.fresh)
    return [
        AccountAnswer(
            name=account.name,
            cluster=cluster.id,
            default=account.default,
            qos=account.qos,
            default_qos=account.default_qos,
            cpu_minutes_limit=account.cpu_minutes_limit,
            cpu_minutes_used=account.cpu_minutes_used,
            cpu_minutes_left=account.cpu_minutes_left,
        )
        for account in accounts
    ]


def cluster_info(request: Request) -> ClusterInfo:
    """Nodes, processors and GPUs: how many are in use, and how many there are."""
    info, request.age = request.cluster().scheduler.info(fresh=request.fresh)
    return info
