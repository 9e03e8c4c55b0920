"""Slurm's reasons that mean never: a queued job with one of them starts only if somebody changes it or its limits.

By Slurm's list of job reason codes. A limit of all jobs together (AssocGrp…, …PerUser, …PerAccount) is none of them: it
has room again when other jobs end.
"""

from __future__ import annotations

import re

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


def never_starts(reason: str | None, queue: str | None) -> str | None:
    """Return why a queued job with this reason can never start, in words; None for any other reason.

    Of a job for several queues Slurm tells the reason of the queue that it looked at last: another may start it.
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
