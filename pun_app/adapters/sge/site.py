"""The queues and hosts of a Grid Engine cell: the output of qstat -f, qconf -sq and qhost. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pun_app.adapters.markup import Element, document, text_of
from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.adapters.parse import clock, number
from pun_app.adapters.sge.qconf import parse_objects
from pun_app.adapters.sge.qstat import PRODUCT

INSTANCES_COMMAND = ("qstat", "-xml", "-f", "-s", "s")
"""argv that lists every queue on every host. Suspended jobs are asked for so that few jobs are listed with them."""

_STARTS_NO_JOBS = re.compile("[dDuEo]")
"""States of a queue on a host that starts no job: d disabled, D by the calendar, u unreachable, E error, o orphaned."""


def parse_queues(instances: str, configured: str) -> list[Queue]:
    """Return the queues, from the state of each on each host (qstat -xml -f) and from their limits (qconf -sq)."""
    by_queue: dict[str, list[Element]] = {}
    for instance in document(instances, PRODUCT).iter("Queue-List"):
        by_queue.setdefault(text_of(instance, "name").partition("@")[0], []).append(instance)
    return [_queue(queue, by_queue.get(queue["qname"], [])) for queue in parse_objects(configured) if "qname" in queue]


def _queue(queue: dict[str, str], instances: list[Element]) -> Queue:
    states = [text_of(instance, "state") for instance in instances]
    slots_used = [number(text_of(instance, "slots_used")) or 0 for instance in instances]
    up = [not _STARTS_NO_JOBS.search(state) for state in states]
    return Queue(
        name=queue["qname"],
        state="up" if any(up) or not instances else "down",
        native_state=",".join(sorted({state for state in states if state})) or None,
        time_limit=clock(queue.get("h_rt", "").partition(",")[0]),
        active_nodes=sum(used > 0 for used in slots_used),
        idle_nodes=sum(used == 0 and is_up for used, is_up in zip(slots_used, up, strict=True)),
        total_nodes=len(instances),
    )


def cluster_info(hosts: str, instances: str) -> ClusterInfo:
    """Return the sums over all hosts: processors (qhost -xml), and slots in use (qstat -xml -f)."""
    used: dict[str, int] = {}
    for instance in document(instances, PRODUCT).iter("Queue-List"):
        host = text_of(instance, "name").partition("@")[2]
        used[host] = used.get(host, 0) + (number(text_of(instance, "slots_used")) or 0)
    processors = {
        host.get("name", ""): value
        for host in document(hosts, PRODUCT).iter("host")
        for value in _values(host, "num_proc")
    }
    return ClusterInfo(
        active_nodes=sum(slots > 0 for slots in used.values()),
        total_nodes=len(processors),
        active_processors=sum(used.values()),
        total_processors=sum(processors.values()),
    )


def _values(host: Element, name: str) -> Iterator[int]:
    """Yield a host's value of that name. The host "global" has "-" there, which is left out."""
    for value in host.iter("hostvalue"):
        found = number(value.text or "") if value.get("name") == name else None
        if found is not None:
            yield found
