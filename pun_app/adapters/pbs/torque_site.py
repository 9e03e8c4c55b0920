"""The queues and nodes of a Torque cluster: the output of qstat -Q, qstat -B and pbsnodes. Pure functions."""

from __future__ import annotations

from pun_app.adapters.markup import Element, text_of
from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.adapters.parse import clock, number


def _attributes(text: str, kind: str) -> dict[str, dict[str, str]]:
    """Return the attributes of each object of a kind (Queue, Server), by its name.

    ``qstat -Q -f`` and ``qstat -B -f`` print a line such as ``Queue: batch``, and then lines of ``name = value``.
    """
    found: dict[str, dict[str, str]] = {}
    # A long value is continued on lines that begin with a tab.
    for line in text.replace("\n\t", "").splitlines():
        name, _, value = line.partition(" = ")
        if line.startswith(f"{kind}: "):
            found[line.partition(": ")[2].strip()] = {}
        elif found and value:
            found[list(found)[-1]][name.strip()] = value.strip()
    return found


def parse_queues(queues: str, server: str) -> list[Queue]:
    """Return the queues, from the output of ``qstat -Q -f`` and of ``qstat -B -f``, which names the default queue."""
    default = {attributes.get("default_queue") for attributes in _attributes(server, "Server").values()}
    return [_queue(name, attributes, name in default) for name, attributes in _attributes(queues, "Queue").items()]


def _queue(name: str, attributes: dict[str, str], default: bool) -> Queue:
    accepts_jobs, starts_jobs = attributes.get("enabled") == "True", attributes.get("started") == "True"
    states = {(True, True): "up", (True, False): "down", (False, True): "draining"}
    return Queue(
        name=name,
        state=states.get((accepts_jobs, starts_jobs), "inactive"),
        native_state=f"enabled={attributes.get('enabled')} started={attributes.get('started')}",
        default=default,
        time_limit=clock(attributes.get("resources_max.walltime", "")),
        default_time_limit=clock(attributes.get("resources_default.walltime", "")),
    )


def cluster_info(nodes: Element) -> ClusterInfo:
    """Return the sums over all nodes of ``pbsnodes -x``.

    A node has np processors. Its jobs name those that they use, as in ``0-3/12.server``.
    """
    listed = list(nodes.iter("Node"))
    jobs = [text_of(node, "jobs") for node in listed]
    return ClusterInfo(
        active_nodes=sum(bool(of_node) for of_node in jobs),
        total_nodes=len(listed),
        active_processors=sum(_processors(of_node) for of_node in jobs),
        total_processors=sum(number(text_of(node, "np")) or 0 for node in listed),
        total_gpus=sum(number(text_of(node, "gpus")) or 0 for node in listed),
    )


def _processors(jobs: str) -> int:
    """Return the number of processors that jobs use: 6 for ``0-3,6/12.server,4/13.server``."""
    count = 0
    for part in jobs.split(",") if jobs else []:
        first, _, last = part.strip().partition("/")[0].partition("-")
        count += (number(last) or number(first) or 0) - (number(first) or 0) + 1
    return count
