"""Tests of pun_app/adapters/slurm/sinfo.py with the output of Slurm 22.05. tests/system/ uses a real Slurm."""

from __future__ import annotations

from pun_app.adapters.model import ClusterInfo
from pun_app.adapters.slurm.sinfo import nodes_command, parse_nodes, parse_queue_nodes

D = "\x1fabc\x1f"


def test_nodes_of_partitions_are_summed() -> None:
    text = f"batch{D}1/2/3/6{D}\nshort{D}0/0/0/0{D}\nbatch{D}1/0/0/1{D}\nodd{D}?{D}\n"
    assert parse_queue_nodes(text, D) == {"batch": (2, 2, 7), "short": (0, 0, 0), "odd": (0, 0, 0)}


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
    assert parse_nodes(text, D) == ClusterInfo(
        active_nodes=2, total_nodes=4, active_processors=10, total_processors=32, active_gpus=2, total_gpus=7
    )
    assert parse_nodes("", D) == ClusterInfo(0, 0, 0, 0, 0, 0)
    assert nodes_command(D)[-1].count(D) == 5
