"""The table of adapters, by the ``job.adapter`` of a cluster file.

An adapter is imported when the first cluster asks for it: a PUN is one process per user, and most sites have one
scheduler.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pun_app.adapters.base import Adapter

ADAPTERS = {
    "slurm": ("slurm.adapter", "SlurmAdapter"),
    "pbspro": ("pbs.pbspro", "PbsProAdapter"),
    "torque": ("pbs.torque", "TorqueAdapter"),
    "lsf": ("lsf.adapter", "LsfAdapter"),
    "sge": ("sge.adapter", "SgeAdapter"),
    "htcondor": ("htcondor.adapter", "HTCondorAdapter"),
    "local": ("local.adapter", "LocalAdapter"),
}
"""A table of adapters: the name in cluster files → the module in this folder, and its class."""


def adapter_class(name: str) -> type[Adapter]:
    """Return the class for a name. For an unknown name it is Adapter, whose operations all raise Unsupported."""
    if name not in ADAPTERS:
        return Adapter
    module, class_name = ADAPTERS[name]
    found: type[Adapter] = getattr(import_module(f"pun_app.adapters.{module}"), class_name)
    return found


def adapter_for(cluster_id: str, name: str, job: dict[str, Any]) -> Adapter:
    """Return the adapter of a cluster, whose file has the mapping ``job``."""
    return adapter_class(name)(cluster_id, job)
