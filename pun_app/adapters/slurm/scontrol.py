"""Slurm's configuration: the command lines of scontrol, and its output. Pure functions.

Tested with Slurm 22.05.
"""

from __future__ import annotations

import re

from pun_app.adapters.model import Queue
from pun_app.adapters.parse import duration, number, word
from pun_app.adapters.slurm.sinfo import NodeCounts

QUEUE_STATES = {"UP": "up", "DOWN": "down", "DRAIN": "draining", "INACTIVE": "inactive"}
"""States of a partition (scontrol(1)), with the state of the queue. A partition that is UP accepts and starts jobs.
DOWN only accepts jobs, DRAIN only starts queued jobs, and INACTIVE does neither."""

CLUSTER_NAME_COMMAND = ("scontrol", "show", "config")
QUEUES_COMMAND = ("scontrol", "--oneliner", "show", "partition")
"""A command without ``--all``, so that it omits hidden partitions and those of other groups."""

_PAIR = re.compile(r"(?:^|(?<=\s))(\w+)=(\S*)")


def parse_cluster_name(text: str) -> str:
    """Return the name of the cluster in its configuration; "" without one."""
    name = re.search(r"^ClusterName\s*=\s*(\S+)", text, re.MULTILINE)
    return name[1] if name else ""


def parse_queues(text: str, nodes: dict[str, NodeCounts]) -> list[Queue]:
    """Return a queue for each partition, a line of ``Key=value`` words. ``nodes`` has the node counts by partition."""
    return [_queue(dict(_PAIR.findall(line)), nodes) for line in text.splitlines() if line.startswith("PartitionName=")]


def _queue(partition: dict[str, str], nodes: dict[str, NodeCounts]) -> Queue:
    name, state = partition["PartitionName"], partition.get("State", "")
    active, idle, total = nodes.get(name, (None, None, number(partition.get("TotalNodes", ""))))
    return Queue(
        name=name,
        state=QUEUE_STATES.get(state),
        native_state=word(state),
        default=partition.get("Default") == "YES",
        time_limit=duration(partition.get("MaxTime", "")),
        default_time_limit=duration(partition.get("DefaultTime", "")),
        active_nodes=active,
        idle_nodes=idle,
        total_nodes=total,
        allow_accounts=_allowed(partition.get("AllowAccounts")),
        deny_accounts=comma_separated(partition.get("DenyAccounts")),
        allow_qos=_allowed(partition.get("AllowQos")),
        deny_qos=comma_separated(partition.get("DenyQos")),
        tres=parse_tres(partition.get("TRES", "")),
    )


def _allowed(text: str | None) -> list[str] | None:
    """Return the allowed names; None if all are allowed."""
    return None if text in (None, "ALL") else comma_separated(text)


def comma_separated(text: str | None) -> list[str]:
    """Return the names in ``a,b``; an empty list for None, N/A and the like."""
    return [name for name in (word(text or "") or "").split(",") if name]


def parse_tres(text: str) -> dict[str, str]:
    """Return the trackable resources in ``cpu=8,mem=8000M``, by name."""
    pairs = [pair.partition("=") for pair in (word(text) or "").split(",")]
    return {name: value for name, _, value in pairs if name}
