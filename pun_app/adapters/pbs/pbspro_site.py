"""The queues and nodes of a PBS cluster: the JSON of qstat -B, qstat -Q and pbsnodes. Pure functions.

Tested with OpenPBS 23.06.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.adapters.parse import duration, number
from pun_app.adapters.pbs.pbspro_qstat import decode

SERVERS_COMMAND = ("qstat", "-B", "-f", "-F", "json")
QUEUES_COMMAND = ("qstat", "-Q", "-f", "-F", "json")
NODES_COMMAND = ("pbsnodes", "-a", "-F", "json")


class Server(Struct):
    """The attributes of one server. pbs_server_attributes(7B)."""

    default_queue: str = ""


class Servers(Struct):
    """The output of ``qstat -B -f -F json``."""

    servers: dict[str, Server] = field(name="Server", default_factory=dict)


class PbsQueue(Struct):
    """The attributes of one queue. pbs_queue_attributes(7B)."""

    enabled: str = "False"
    started: str = "False"
    resources_max: dict[str, Any] = {}
    resources_default: dict[str, Any] = {}
    acl_user_enable: str = "False"
    acl_users: Any = ""


class Queues(Struct):
    """The output of ``qstat -Q -f -F json``."""

    queues: dict[str, PbsQueue] = field(name="Queue", default_factory=dict)


class Node(Struct):
    """The attributes of one node. pbs_node_attributes(7B)."""

    state: str = ""
    jobs: Any = None
    resources_available: dict[str, Any] = {}
    resources_assigned: dict[str, Any] = {}


class Nodes(Struct):
    """The output of ``pbsnodes -a -F json``."""

    nodes: dict[str, Node] = {}


def parse_queues(queues: str, servers: str, user: str) -> list[Queue]:
    """Return the queues that admit a user, from the output of qstat -Q and qstat -B. Raises SchedulerUnavailable."""
    default = {server.default_queue for server in decode(servers, Servers).servers.values()}
    return [
        _queue(name, queue, name in default)
        for name, queue in decode(queues, Queues).queues.items()
        if _admits(queue, user)
    ]


def _queue(name: str, queue: PbsQueue, default: bool) -> Queue:
    accepts_jobs, starts_jobs = queue.enabled == "True", queue.started == "True"
    states = {(True, True): "up", (True, False): "down", (False, True): "draining"}
    return Queue(
        name=name,
        state=states.get((accepts_jobs, starts_jobs), "inactive"),
        native_state=f"enabled={queue.enabled} started={queue.started}",
        default=default,
        time_limit=duration(str(queue.resources_max.get("walltime", ""))),
        default_time_limit=duration(str(queue.resources_default.get("walltime", ""))),
    )


def _admits(queue: PbsQueue, user: str) -> bool:
    """Return whether a queue admits a user. Its list of users, if it has one, is such as ``+alice@*,-bob,carol``."""
    if queue.acl_user_enable != "True":
        return True
    for entry in str(queue.acl_users).split(","):
        name = entry.strip().lstrip("+-").partition("@")[0]
        if name in (user, "*", ""):
            return not entry.strip().startswith("-")
    return False


def cluster_info(text: str) -> ClusterInfo:
    """Return the sums over all nodes of ``pbsnodes -a -F json``. Raises SchedulerUnavailable."""
    nodes = list(decode(text, Nodes).nodes.values())

    def total(resources: list[dict[str, Any]], name: str) -> int:
        return sum(number(str(one.get(name, ""))) or 0 for one in resources)

    available, assigned = [node.resources_available for node in nodes], [node.resources_assigned for node in nodes]
    return ClusterInfo(
        active_nodes=sum(bool(node.jobs) or total([node.resources_assigned], "ncpus") > 0 for node in nodes),
        total_nodes=len(nodes),
        active_processors=total(assigned, "ncpus"),
        total_processors=total(available, "ncpus"),
        active_gpus=total(assigned, "ngpus"),
        total_gpus=total(available, "ngpus"),
    )
