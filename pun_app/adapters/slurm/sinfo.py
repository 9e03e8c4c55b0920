"""Slurm's nodes: the command lines of sinfo, and its rows. Pure functions.

Tested with Slurm 22.05.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pun_app.adapters.model import ClusterInfo
from pun_app.adapters.parse import number, records

NodeCounts = tuple[int, int, int]
"""The numbers of active, idle and all nodes."""


class Node(NamedTuple):
    """A row of nodes_command(): a node in one partition, with the columns of NODE_COLUMNS as printed."""

    host: str
    state: str
    cpus: str
    gres: str
    gres_used: str


NODE_COLUMNS = Node(host="NodeHost", state="StateLong", cpus="CPUsState", gres="Gres", gres_used="GresUsed")
"""sinfo's names of the columns (sinfo(1), --Format)."""

_GPUS = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)")
_ACTIVE = re.compile(r"^(allocated|mixed|completing)")


def queue_nodes_command(delimiter: str) -> list[str]:
    """Return the argv for the node counts of each partition: allocated, idle, other and total."""
    return ["sinfo", "--all", "--noheader", f"--Format=PartitionName:{delimiter},NodeAIOT:{delimiter}"]


def parse_queue_nodes(text: str, delimiter: str) -> dict[str, NodeCounts]:
    """Return the node counts by partition. The rows of a partition are added up."""
    counts: dict[str, NodeCounts] = {}
    for name, printed in records(text, delimiter, 2):
        active, idle, _, total = (*[number(part) or 0 for part in printed.split("/")], 0, 0, 0, 0)[:4]
        before = counts.get(name, (0, 0, 0))
        counts[name] = (before[0] + active, before[1] + idle, before[2] + total)
    return counts


def nodes_command(delimiter: str) -> list[str]:
    """Return the argv that lists every node, once for each of its partitions."""
    columns = ",".join(f"{name}:{delimiter}" for name in NODE_COLUMNS)
    return ["sinfo", "--all", "--Node", "--noheader", f"--Format={columns}"]


def parse_nodes(text: str, delimiter: str) -> ClusterInfo:
    """Return the load of the cluster, summed over all nodes. A node in several partitions counts once."""
    nodes = {row[0]: Node._make(row) for row in records(text, delimiter, len(NODE_COLUMNS))}.values()
    cpus = [[number(part) or 0 for part in node.cpus.split("/")] for node in nodes]
    return ClusterInfo(
        active_nodes=sum(bool(_ACTIVE.match(node.state)) for node in nodes),
        total_nodes=len(nodes),
        active_processors=sum(counts[0] for counts in cpus),
        total_processors=sum(counts[-1] for counts in cpus),
        active_gpus=sum(_gpus(node.gres_used) for node in nodes),
        total_gpus=sum(_gpus(node.gres) for node in nodes),
    )


def _gpus(gres: str) -> int:
    """Return the number of GPUs: ``gpu:a100:2(S:0-1),gpu:1`` → 3."""
    return sum(int(count) for count in _GPUS.findall(gres))
