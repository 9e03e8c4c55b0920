"""The queues and hosts of an LSF cluster: the output of bqueues, bparams and bhosts. Pure functions."""

from __future__ import annotations

import re

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.adapters.parse import number


def default_queues(text: str) -> list[str]:
    """Return the names in the line ``Default Queues:  normal`` of bparams."""
    found = re.search(r"^Default Queues:[ \t]*(.*)$", text, re.M)
    return found[1].split() if found else []


def parse_queues(text: str, default: list[str]) -> list[Queue]:
    """Return the queues in the output of ``bqueues -l``. ``default`` names the default queues."""
    return [_queue(part, default) for part in re.split(r"(?m)^QUEUE:", text)[1:]]


def _queue(text: str, default: list[str]) -> Queue:
    name = text.split(None, 1)[0]
    row = re.search(r"^PRIO .*\n\s*\S+\s+\S+\s+(\S+)", text, re.M)
    state = row[1] if row else ""
    accepts_jobs, starts_jobs = state.startswith("Open"), state.endswith("Active")
    states = {(True, True): "up", (True, False): "down", (False, True): "draining"}
    # A queue with default limits lists them under their own heading, before the maximum limits.
    maximum_limits = text.partition("MAXIMUM LIMITS:")[2] or (text if "DEFAULT LIMITS:" not in text else "")
    default_limits = text.partition("DEFAULT LIMITS:")[2].partition("MAXIMUM LIMITS:")[0]
    return Queue(
        name=name,
        state=states.get((accepts_jobs, starts_jobs), "inactive") if row else None,
        native_state=state or None,
        default=name in default,
        time_limit=_run_limit(maximum_limits),
        default_time_limit=_run_limit(default_limits),
    )


def _run_limit(text: str) -> int | None:
    """Return the seconds of a RUNLIMIT, which LSF prints in minutes."""
    found = re.search(r"RUNLIMIT[^\n]*\n\s*([\d.]+) min", text)
    return int(float(found[1]) * 60) if found else None


def cluster_info(text: str) -> ClusterInfo:
    """Return the sums of ``bhosts -w`` over all hosts: their job slots, and the slots that jobs use.

    Raises SchedulerUnavailable for output without the columns MAX and NJOBS.
    """
    lines = [line.split() for line in text.splitlines()]
    heading = lines[0] if lines else []
    try:
        max_column, njobs_column = heading.index("MAX"), heading.index("NJOBS")
    except ValueError as error:
        raise SchedulerUnavailable("LSF's output cannot be read: bhosts printed no columns MAX and NJOBS") from error
    hosts = [line for line in lines[1:] if len(line) > max(max_column, njobs_column)]
    used = [number(host[njobs_column]) or 0 for host in hosts]
    # A host without a limit of slots has "-".
    slots = [number(host[max_column]) for host in hosts]
    return ClusterInfo(
        active_nodes=sum(count > 0 for count in used),
        total_nodes=len(hosts),
        active_processors=sum(used),
        total_processors=sum(count for count in slots if count is not None) if None not in slots else None,
    )
