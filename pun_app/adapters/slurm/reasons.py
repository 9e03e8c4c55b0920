"""Slurm's reasons for which a queued job never starts, unless somebody changes the job or its limits.

Source: Slurm's list of job reason codes. Limits of all jobs together (AssocGrp…, …PerUser, …PerAccount) are not among
these reasons, since they have room again when other jobs end.
"""

from __future__ import annotations

import re
from functools import lru_cache

_NEVER = {
    "DependencyNeverSatisfied": "It waits for a job that did not end as its dependency asks",
    "PartitionTimeLimit": "Its wall time is longer than its queue allows",
    "PartitionNodeLimit": "It asks for more or fewer nodes than its queue allows",
    "BadConstraints": "No nodes of the cluster are as it asks for",
    "InvalidAccount": "Its account is not valid",
    "InvalidQOS": "Its QOS is not valid",
    "AccountNotAllowed": "Its queue does not take its account",
    "QOSNotAllowed": "Its queue or account does not take its QOS",
}
_MAX = re.compile(r"(Assoc|QOS)Max(\w+)Per(Job|Node)(?:Limit)?")
_MIN = re.compile(r"QOSMin(\w+?)(?:NotSatisfied)?")
_RESOURCES = {
    "Cpu": "processors",
    "CPU": "processors",
    "Node": "nodes",
    "WallDuration": "wall time",
    "Mem": "memory",
    "Memory": "memory",
    "GRES": "GPUs or other generic resources",
    "BB": "burst buffer",
    "License": "licenses",
    "Lic": "licenses",
    "Energy": "energy",
    "Unknown": "of a resource",
}


@lru_cache(1024)  # In a list of jobs most reasons are the same few.
def never_starts(reason: str | None, queue: str | None) -> str | None:
    """Return a sentence on why a queued job with this reason can never start; None for any other reason.

    For a job in several queues Slurm prints the reason of the queue that it tried last. Another queue may start the
    job, so such a reason counts only if it does not depend on the queue.
    """
    name = (reason or "").partition(",")[0]
    if name != "DependencyNeverSatisfied" and "," in (queue or ""):
        return None
    if name in _NEVER:
        return f"{_NEVER[name]} ({name})"
    if limit := _MAX.fullmatch(name):
        whose = {"Assoc": "its account", "QOS": "its QOS"}[limit[1]]
        return f"It asks for more {_resource(limit[2])} than {whose} allows one job ({name})"
    if least := _MIN.fullmatch(name):
        return f"It asks for less {_resource(least[1])} than its QOS requires ({name})"
    return None


def _resource(name: str) -> str:
    minutes = name.removesuffix("Minutes").removesuffix("Mins")
    words = _RESOURCES.get(minutes, minutes)
    return words if minutes == name else f"minutes of {words}"
