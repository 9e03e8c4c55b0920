"""A comparison of a job with the limits of its queue, before it is submitted.

Unless their site configures otherwise, schedulers accept a job that is too long for its queue, and leave it queued for
ever.
"""

from __future__ import annotations

import re

from pun_app.adapters.directives import Requested
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest, Queue

_QOS = re.compile(r"(?m)^(?:#SBATCH\s(?:.*\s)?)?(?:--qos\b|-q)")


def check_limits(request: JobRequest, requested: Requested, queues: list[Queue]) -> None:
    """Raise Rejected if the job exceeds a limit of every queue that it may go to.

    An unknown limit counts as none. In Slurm a QOS may lift the limits of a partition, so a job with a QOS is not
    compared.
    """
    if request.qos is not None or _QOS.search("\n".join([request.content, *request.native])):
        return
    names = requested.queue_name.split(",") if requested.queue_name else []
    # A job without a queue goes to the default queue, or without one to any queue that takes it.
    chosen = [queue for queue in queues if (queue.name in names if names else queue.default)]
    if not names and not chosen:
        chosen = queues
    if not chosen:
        return
    where = f"queue {', '.join(queue.name for queue in chosen)}"
    if requested.wall_time is not None:
        limits = [queue.time_limit for queue in chosen]
        if all(limit is not None and requested.wall_time > limit for limit in limits):
            most = max(limit for limit in limits if limit is not None)
            raise Rejected(
                f"options.wall_time: the job asks for {requested.wall_time} s, and {where} allows {most} s; ask for "
                "less, or choose another queue"
            )
    if request.nodes is not None:
        totals = [queue.total_nodes for queue in chosen]
        if all(total is not None and request.nodes > total for total in totals):
            most = max(total for total in totals if total is not None)
            raise Rejected(
                f"options.nodes: the job asks for {request.nodes} nodes, and {where} has {most}; ask for fewer, or "
                "choose another queue"
            )
