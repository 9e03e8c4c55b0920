"""What a job asks for against what its queue allows, before it is submitted.

Schedulers take a job that is too long for its queue and let it wait for ever, unless their site says otherwise.
"""

from __future__ import annotations

import re

from pun_app.adapters.directives import Requested
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest, Queue

_QOS = re.compile(r"(?m)^(?:#SBATCH\s(?:.*\s)?)?(?:--qos\b|-q)")


def check_limits(request: JobRequest, asked: Requested, queues: list[Queue]) -> None:
    """Raise Rejected where every queue that the job may go to allows less than it asks for.

    What is not known is no limit. A QOS of Slurm may lift its partition's limits, so with one nothing is compared.
    """
    if request.qos is not None or _QOS.search("\n".join([request.content, *request.native])):
        return
    names = asked.queue_name.split(",") if asked.queue_name else []
    # Without a queue's name a job goes to the default; where there is none, to any that takes it.
    chosen = [queue for queue in queues if (queue.name in names if names else queue.default)]
    if not names and not chosen:
        chosen = queues
    if not chosen:
        return
    where = f"queue {', '.join(queue.name for queue in chosen)}"
    if asked.wall_time is not None:
        limits = [queue.time_limit for queue in chosen]
        if all(limit is not None and asked.wall_time > limit for limit in limits):
            most = max(limit for limit in limits if limit is not None)
            raise Rejected(
                f"options.wall_time: the job asks for {asked.wall_time} s, and {where} allows {most} s; ask for less, "
                "or choose another queue"
            )
    if request.nodes is not None:
        totals = [queue.total_nodes for queue in chosen]
        if all(total is not None and request.nodes > total for total in totals):
            most = max(total for total in totals if total is not None)
            raise Rejected(
                f"options.nodes: the job asks for {request.nodes} nodes, and {where} has {most}; ask for fewer, or "
                "choose another queue"
            )
