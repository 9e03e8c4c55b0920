"""What LSF's bqueues, bparams and bhosts print, and what it means. Pure functions."""

from __future__ import annotations

import re

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.adapters.parse import number


def default_queues(text: str) -> list[str]:
    """Of ``bparams``: ``Default Queues:  normal``."""
    found = re.search(r"^Default Queues:[ \t]*(.*)$", text, re.M)
    return found[1].split() if found else []


def queues_of(text: str, default: list[str]) -> list[Queue]:
    """The queues of ``bqueues -l``."""
    return [_queue(part, default) for part in re.split(r"(?m)^QUEUE:", text)[1:]]


def _queue(text: str, default: list[str]) -> Queue:
    name = text.split(None, 1)[0]
    row = re.search(r"^PRIO .*\n\s*\S+\s+\S+\s+(\S+)", text, re.M)
    state = row[1] if row else ""
    takes, starts = state.startswith("Open"), state.endswith("Active")
    words = {(True, True): "up", (True, False): "down", (False, True): "draining"}
    # With both, the defaults stand under a heading of their own, before the largest.
    maximum = text.partition("MAXIMUM LIMITS:")[2] or (text if "DEFAULT LIMITS:" not in text else "")
    usual = text.partition("DEFAULT LIMITS:")[2].partition("MAXIMUM LIMITS:")[0]
    return Queue(
        name=name,
        state=words.get((takes, starts), "inactive") if row else None,
        native_state=state or None,
        default=name in default,
        time_limit=_run_limit(maximum),
        default_time_limit=_run_limit(usual),
    )


def _run_limit(text: str) -> int | None:
    found = re.search(r"RUNLIMIT[^\n]*\n\s*([\d.]+) min", text)
    return int(float(found[1]) * 60) if found else None


def cluster_info(text: str) -> ClusterInfo:
    """The sums of ``bhosts -w``: a host's slots, and how many of them jobs have."""
    lines = [line.split() for line in text.splitlines()]
    head = lines[0] if lines else []
    try:
        most, jobs = head.index("MAX"), head.index("NJOBS")
    except ValueError as error:
        raise SchedulerUnavailable("LSF's answer cannot be read: bhosts has no columns MAX and NJOBS") from error
    hosts = [line for line in lines[1:] if len(line) > max(most, jobs)]
    used = [number(host[jobs]) or 0 for host in hosts]
    slots = [number(host[most]) for host in hosts]
    return ClusterInfo(
        active_nodes=sum(count > 0 for count in used),
        total_nodes=len(hosts),
        active_processors=sum(used),
        # A host without a limit of slots has "-".
        total_processors=sum(count for count in slots if count is not None) if None not in slots else None,
    )
