"""Which adapter speaks for which ``job.adapter`` of a cluster file: a table.

An adapter is imported when the first cluster asks for it: a PUN is one process per user, and most sites have one
scheduler.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pun_app.adapters.base import Adapter

ADAPTERS = {
    "slurm": "SlurmAdapter",
    "pbspro": "PbsProAdapter",
    "torque": "TorqueAdapter",
    "lsf": "LsfAdapter",
    "sge": "SgeAdapter",
    "htcondor": "HTCondorAdapter",
    "local": "LocalAdapter",
}
"""The name in cluster files, which is that of the module too, and the class."""


def adapter_class(name: str) -> type[Adapter]:
    """The class for a name; one that Punway does not have answers NotSupported to everything."""
    if name not in ADAPTERS:
        return Adapter
    found: type[Adapter] = getattr(import_module(f"pun_app.adapters.{name}"), ADAPTERS[name])
    return found


def adapter_for(cluster_id: str, name: str, job: dict[str, Any]) -> Adapter:
    """The adapter of a cluster."""
    return adapter_class(name)(cluster_id, job)
