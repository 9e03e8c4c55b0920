"""pun_app/adapters/slurm/site.py: what Slurm 22.05 printed, read. What it prints today is in tests/system/."""

from __future__ import annotations

import pytest

from pun_app.adapters.model import Account, ClusterInfo
from pun_app.adapters.slurm.site import (
    accounts_command,
    info_command,
    parse_accounts,
    parse_info,
    parse_queue_nodes,
    parse_queues,
    parse_shares,
    shares_command,
)

D = "\x1fabc\x1f"
PARTITIONS = (
    "PartitionName=batch AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=NONE Hidden=NO MaxTime=UNLIMITED Nodes=vm State=UP TotalCPUs=8 TotalNodes=1 "
    "JobDefaults=(null) TRES=cpu=8,mem=8000M,node=1,billing=8\n"
    "PartitionName=short AllowGroups=ALL AllowAccounts=chem,bio DenyQos=low Default=NO DefaultTime=00:30:00 "
    "MaxTime=1-00:01:00 State=DRAIN TotalNodes=7 TRES=(null)\n"
)


def test_partitions_become_queues() -> None:
    """What is everything is null, what is nothing is empty, and a limit that is none is null."""
    batch, short = parse_queues(PARTITIONS, {"batch": (2, 3, 6)})
    assert (batch.name, batch.state, batch.native_state, batch.default) == ("batch", "up", "UP", True)
    assert (batch.time_limit, batch.default_time_limit) == (None, None)
    assert (batch.active_nodes, batch.idle_nodes, batch.total_nodes) == (2, 3, 6)
    assert (batch.allow_accounts, batch.deny_accounts, batch.allow_qos, batch.deny_qos) == (None, [], None, [])
    assert batch.tres == {"cpu": "8", "mem": "8000M", "node": "1", "billing": "8"}
    assert (short.state, short.default, short.time_limit, short.default_time_limit) == ("draining", False, 86_460, 1800)
    assert (short.active_nodes, short.total_nodes) == (None, 7)
    assert (short.allow_accounts, short.deny_qos, short.tres) == (["chem", "bio"], ["low"], {})


@pytest.mark.parametrize(
    ("native", "state"),
    [("UP", "up"), ("DOWN", "down"), ("DRAIN", "draining"), ("INACTIVE", "inactive"), ("NEW", None)],
)
def test_every_state_and_one_that_is_not_known(native: str, state: str | None) -> None:
    (queue,) = parse_queues(f"PartitionName=x State={native}\n", {})
    assert (queue.state, queue.native_state) == (state, native)


def test_what_is_no_partition_is_none() -> None:
    assert parse_queues("No partitions in the system\n", {}) == []
    assert parse_queues("", {}) == []


def test_nodes_of_partitions_are_summed() -> None:
    text = f"batch{D}1/2/3/6{D}\nshort{D}0/0/0/0{D}\nbatch{D}1/0/0/1{D}\nodd{D}?{D}\n"
    assert parse_queue_nodes(text, D) == {"batch": (2, 2, 7), "short": (0, 0, 0), "odd": (0, 0, 0)}


def test_associations_become_accounts() -> None:
    """Each account once, with the QOS of all its associations, in order."""
    text = "physics|chem|normal||\nphysics|physics|normal,long|long|\nphysics|physics|gpu||\n"
    assert parse_accounts(text) == [
        Account("chem", default=False, qos=["normal"]),
        Account("physics", default=True, qos=["normal", "long", "gpu"], default_qos="long"),
    ]
    assert parse_accounts("") == []
    assert "cluster=owens" in accounts_command("alice", "owens")


def test_what_is_left_is_the_accounts_and_not_a_users() -> None:
    text = (
        "root|||cpu=0\n chem||cpu=1000,gres/gpu=5|cpu=400,mem=7\n  chem|alice|cpu=10|cpu=9\n"
        " over||cpu=10|cpu=15\n open|||cpu=3\n"
    )
    accounts = [Account("chem"), Account("over"), Account("open"), Account("none")]
    assert [
        (a.cpu_minutes_limit, a.cpu_minutes_used, a.cpu_minutes_left) for a in parse_shares(text, accounts)
    ] == [(1000, 400, 600), (10, 15, 0), (None, 3, None), (None, None, None)]  # fmt: skip
    assert shares_command(["chem", "over"])[3] == "--accounts=chem,over"


def test_each_node_counts_once_whatever_it_is_part_of() -> None:
    """In two partitions, down, drained while it works, with GPUs of two kinds."""
    rows = [
        ("n1", "allocated", "8/0/0/8", "gpu:a100:2(S:0-1),gpu:1,license:9", "gpu:a100:1(IDX:0),gpu:1(IDX:2)"),
        ("n1", "allocated", "8/0/0/8", "gpu:a100:2(S:0-1),gpu:1,license:9", "gpu:a100:1(IDX:0),gpu:1(IDX:2)"),
        ("n2", "mixed-", "2/6/0/8", "(null)", "(null)"),
        ("n3", "down*", "0/0/8/8", "gpu:4", "gpu:0"),
        ("n4", "idle", "0/8/0/8", "(null)", "gpu:0"),
    ]
    text = "".join(D.join((*row, "\n")) for row in rows)
    assert parse_info(text, D) == ClusterInfo(
        active_nodes=2, total_nodes=4, active_processors=10, total_processors=32, active_gpus=2, total_gpus=7
    )
    assert parse_info("", D) == ClusterInfo(0, 0, 0, 0, 0, 0)
    assert info_command(D)[-1].count(D) == 5
