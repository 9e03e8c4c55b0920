"""The schedds and slots of an HTCondor pool, and the site's file of accounts. Pure functions."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from pun_app.adapters.htcondor.condor_q import as_int, decode
from pun_app.adapters.model import Account, ClusterInfo, Queue

SCHEDDS_COMMAND = ("condor_status", "-schedd", "-json", "-attributes", "Name")
SLOTS_COMMAND = ("condor_status", "-json", "-attributes", "Machine,State,Cpus,Gpus")


class Slot(Struct):
    """The attributes of one slot. HTCondor manual, Machine ClassAd Attributes."""

    machine: str = field(name="Machine", default="")
    state: str = field(name="State", default="")
    cpus: int = field(name="Cpus", default=0)
    gpus: Any = field(name="Gpus", default=0)


class Schedd(Struct):
    """The attributes of one schedd."""

    name: str = field(name="Name", default="")


def parse_queues(text: str, default: str | None) -> list[Queue]:
    """Return the schedds of the pool as queues. ``default`` is the name of the configured one."""
    return [Queue(name=schedd.name, state="up", default=schedd.name == default) for schedd in decode(text, Schedd)]


def cluster_info(text: str) -> ClusterInfo:
    """Return the sums over all slots; those that are claimed are in use. Raises SchedulerUnavailable."""
    slots = decode(text, Slot)
    used = [slot for slot in slots if slot.state == "Claimed"]
    return ClusterInfo(
        active_nodes=len({slot.machine for slot in used}),
        total_nodes=len({slot.machine for slot in slots}),
        active_processors=sum(slot.cpus for slot in used),
        total_processors=sum(slot.cpus for slot in slots),
        active_gpus=sum(as_int(slot.gpus) or 0 for slot in used),
        total_gpus=sum(as_int(slot.gpus) or 0 for slot in slots),
    )


def parse_accounts(text: str, user: str) -> list[Account]:
    """Return a user's accounts from a user map, with lines such as ``* USER GROUP,GROUP``. The first is the default."""
    names: dict[str, None] = {}
    for line in text.splitlines():
        _, name, groups = (*line.split(None, 2), "", "", "")[:3]
        if name == user and not line.startswith("#"):
            names |= dict.fromkeys(group.strip() for group in groups.split(",") if group.strip())
    return [Account(name, default=index == 0) for index, name in enumerate(names)]
