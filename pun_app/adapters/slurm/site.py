"""What a Slurm cluster has: argv for scontrol, sinfo, sacctmgr and sshare, and what they print. Pure functions.

Seen with 22.05, checked against its manual pages.
"""

from __future__ import annotations

import re

import msgspec

from pun_app.adapters.model import Account, ClusterInfo, Queue
from pun_app.adapters.parse import duration, number, records, word

QUEUE_STATES = {"UP": "up", "DOWN": "down", "DRAIN": "draining", "INACTIVE": "inactive"}
"""scontrol(1): UP takes and starts jobs, DOWN takes them, DRAIN starts what it has, INACTIVE does neither."""

_PAIR = re.compile(r"(?:^|(?<=\s))(\w+)=(\S*)")
_GPUS = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)")
_IN_USE = re.compile(r"^(allocated|mixed|completing)")


def queues_command() -> list[str]:
    """argv of the partitions that the caller may see: without ``--all``, neither hidden ones nor other groups'."""
    return ["scontrol", "--oneliner", "show", "partition"]


def queue_nodes_command(delimiter: str) -> list[str]:
    """argv of each partition's counts of nodes: allocated, idle, other, total."""
    return ["sinfo", "--all", "--noheader", f"--Format=PartitionName:{delimiter},NodeAIOT:{delimiter}"]


def parse_queue_nodes(text: str, delimiter: str) -> dict[str, tuple[int, int, int]]:
    """Each partition's nodes: active, idle, total."""
    counts: dict[str, tuple[int, int, int]] = {}
    for name, printed in records(text, delimiter, 2):
        active, idle, _, total = (*[number(part) or 0 for part in printed.split("/")], 0, 0, 0, 0)[:4]
        before = counts.get(name, (0, 0, 0))
        counts[name] = (before[0] + active, before[1] + idle, before[2] + total)
    return counts


def parse_queues(text: str, nodes: dict[str, tuple[int, int, int]]) -> list[Queue]:
    """The partitions, one a line of ``Key=value`` words."""
    return [_queue(dict(_PAIR.findall(line)), nodes) for line in text.splitlines() if line.startswith("PartitionName=")]


def _queue(said: dict[str, str], nodes: dict[str, tuple[int, int, int]]) -> Queue:
    name, state = said["PartitionName"], said.get("State", "")
    active, idle, total = nodes.get(name, (None, None, number(said.get("TotalNodes", ""))))
    return Queue(
        name=name,
        state=QUEUE_STATES.get(state),
        native_state=word(state),
        default=said.get("Default") == "YES",
        time_limit=duration(said.get("MaxTime", "")),
        default_time_limit=duration(said.get("DefaultTime", "")),
        active_nodes=active,
        idle_nodes=idle,
        total_nodes=total,
        allow_accounts=_allowed(said.get("AllowAccounts")),
        deny_accounts=_names(said.get("DenyAccounts")),
        allow_qos=_allowed(said.get("AllowQos")),
        deny_qos=_names(said.get("DenyQos")),
        tres=_tres(said.get("TRES", "")),
    )


def _allowed(listed: str | None) -> list[str] | None:
    """None is everybody."""
    return None if listed in (None, "ALL") else _names(listed)


def _names(listed: str | None) -> list[str]:
    return [name for name in (word(listed or "") or "").split(",") if name]


def _tres(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in (word(text) or "").split(",")]
    return {name: value for name, _, value in pairs if name}


def accounts_command(user: str, cluster: str) -> list[str]:
    """argv of a user's associations, which sacctmgr lists for all clusters of its database otherwise."""
    return [
        "sacctmgr", "--noheader", "--parsable2", "show", "user", "withassoc", "where", f"name={user}",
        f"cluster={cluster}", "format=DefaultAccount,Account,QOS,DefaultQOS",
    ]  # fmt: skip


def parse_accounts(text: str) -> list[Account]:
    """The accounts, each once: a user may have an association for each partition."""
    accounts: dict[str, Account] = {}
    for line in text.splitlines():
        default, name, qos, default_qos = (*line.split("|"), "", "", "", "")[:4]
        if not name:
            continue
        before = accounts.get(name)
        held = [*(before.qos if before else []), *_names(qos)]
        accounts[name] = Account(
            name=name,
            default=name == default,
            qos=list(dict.fromkeys(held)),
            default_qos=word(default_qos) or (before.default_qos if before else None),
        )
    return list(accounts.values())


def shares_command(accounts: list[str]) -> list[str]:
    """argv of what accounts may use and have used, in minutes of each kind of resource."""
    return [
        "sshare", "--noheader", "--parsable2", f"--accounts={','.join(accounts)}",
        "--format=Account,User,GrpTRESMins,GrpTRESRaw",
    ]  # fmt: skip


def parse_shares(text: str, accounts: list[Account]) -> list[Account]:
    """The accounts with their processor minutes: of all of the account, which is the row without a user."""
    minutes: dict[str, tuple[int | None, int | None]] = {}
    for line in text.splitlines():
        name, user, limit, used = (*line.split("|"), "", "", "", "")[:4]
        if not user:
            minutes[name.strip()] = (number(_tres(limit).get("cpu", "")), number(_tres(used).get("cpu", "")))
    told = []
    for account in accounts:
        limit_minutes, used_minutes = minutes.get(account.name, (None, None))
        left = None if limit_minutes is None else max(0, limit_minutes - (used_minutes or 0))
        told.append(
            msgspec.structs.replace(
                account, cpu_minutes_limit=limit_minutes, cpu_minutes_used=used_minutes, cpu_minutes_left=left
            )
        )
    return told


def info_command(delimiter: str) -> list[str]:
    """argv of every node, once for each partition that it is in."""
    fields = ("NodeHost", "StateLong", "CPUsState", "Gres", "GresUsed")
    listed = ",".join(f"{name}:{delimiter}" for name in fields)
    return ["sinfo", "--all", "--Node", "--noheader", f"--Format={listed}"]


def parse_info(text: str, delimiter: str) -> ClusterInfo:
    """The sums over the nodes, each counted once."""
    nodes = {host: rest for host, *rest in records(text, delimiter, 5)}
    processors = [[number(part) or 0 for part in counts.split("/")] for _, counts, *_ in nodes.values()]
    return ClusterInfo(
        active_nodes=sum(bool(_IN_USE.match(state)) for state, *_ in nodes.values()),
        total_nodes=len(nodes),
        active_processors=sum(counts[0] for counts in processors),
        total_processors=sum(counts[-1] for counts in processors),
        active_gpus=sum(_gpus(used) for *_, used in nodes.values()),
        total_gpus=sum(_gpus(gres) for *_, gres, _ in nodes.values()),
    )


def _gpus(gres: str) -> int:
    """``gpu:a100:2(S:0-1),gpu:1`` → 3."""
    return sum(int(count) for count in _GPUS.findall(gres))
