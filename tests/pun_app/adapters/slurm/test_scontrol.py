"""Tests of pun_app/adapters/slurm/scontrol.py with the output of Slurm 22.05. tests/system/ uses a real Slurm."""

from __future__ import annotations

import pytest

from pun_app.adapters.slurm.scontrol import parse_queues

PARTITIONS = (
    "PartitionName=batch AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=NONE Hidden=NO MaxTime=UNLIMITED Nodes=vm State=UP TotalCPUs=8 TotalNodes=1 "
    "JobDefaults=(null) TRES=cpu=8,mem=8000M,node=1,billing=8\n"
    "PartitionName=short AllowGroups=ALL AllowAccounts=chem,bio DenyQos=low Default=NO DefaultTime=00:30:00 "
    "MaxTime=1-00:01:00 State=DRAIN TotalNodes=7 TRES=(null)\n"
)


def test_partitions_become_queues() -> None:
    """ALL is null, an empty list stays empty, and an unlimited limit is null."""
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
