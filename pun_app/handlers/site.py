"""What a cluster has: its queues, the caller's accounts, how much of it is in use."""

from __future__ import annotations

from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.handlers.request import Answer, Request
from pun_app.schemas import AccountAnswer


def list_queues(request: Request) -> Answer[list[Queue]]:
    """The queues that the caller may see, as they may be named in options.queue_name."""
    queues, age = request.cluster().scheduler.queues(no_cache=request.no_cache)
    return Answer(queues, age=age)


def list_accounts(request: Request) -> Answer[list[AccountAnswer]]:
    """The accounts that the caller may charge, as they may be named in options.accounting_id."""
    cluster = request.cluster()
    accounts, age = cluster.scheduler.accounts(no_cache=request.no_cache)
    data = [
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
    return Answer(data, age=age)


def cluster_info(request: Request) -> Answer[ClusterInfo]:
    """Nodes, processors and GPUs: how many are in use, and how many there are."""
    info, age = request.cluster().scheduler.info(no_cache=request.no_cache)
    return Answer(info, age=age)
