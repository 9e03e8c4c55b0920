"""The handlers of the endpoints about a cluster: its queues, the caller's accounts, and its use."""

from __future__ import annotations

from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.handlers.request import Answer, Request
from pun_app.schemas import AccountAnswer


def list_queues(request: Request) -> Answer[list[Queue]]:
    """Return the queues that the caller may see, by the names that options.queue_name accepts."""
    queues, age = request.cluster().scheduler.queues(no_cache=request.no_cache)
    return Answer(queues, age=age)


def list_accounts(request: Request) -> Answer[list[AccountAnswer]]:
    """Return the accounts that the caller may charge, by the names that options.accounting_id accepts."""
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
    """Return the numbers of nodes, processors and GPUs of a cluster, in total and in use."""
    info, age = request.cluster().scheduler.info(no_cache=request.no_cache)
    return Answer(info, age=age)
