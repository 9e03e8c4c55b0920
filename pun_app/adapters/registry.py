"""Which adapter speaks for which ``job.adapter`` of a cluster file: a table, made when it is asked."""

from __future__ import annotations

from typing import Any

from pun_app.adapters.base import Adapter
from pun_app.adapters.local import LocalAdapter
from pun_app.adapters.slurm import SlurmAdapter

ADAPTERS: dict[str, type[Adapter]] = {"slurm": SlurmAdapter, "local": LocalAdapter}


def adapter_for(cluster_id: str, name: str, job: dict[str, Any]) -> Adapter:
    """The adapter of a cluster; one that Punway does not have answers NotSupported to everything."""
    return ADAPTERS.get(name, Adapter)(cluster_id, job)
