"""pun_app/adapters/pbs/torque_site.py against recorded output of Torque (its last development version)."""

from __future__ import annotations

from pun_app.adapters.markup import document
from pun_app.adapters.pbs.torque_site import cluster_info, parse_queues
from tests.pun_app.adapters.pbs.common import TORQUE


def test_queues_with_states_and_limits() -> None:
    """The server names the default queue."""
    queues = {
        queue.name: queue for queue in parse_queues(TORQUE.output("qstat-Q-f").out, TORQUE.output("qstat-B-f").out)
    }
    assert {name: (queue.state, queue.default) for name, queue in queues.items()} == {
        "batch": ("up", True), "short": ("up", False),
    }  # fmt: skip
    assert (queues["short"].time_limit, queues["short"].default_time_limit) == (600, 300)


def test_cluster_info_sums_all_nodes() -> None:
    """A node's jobs name the processors that they use."""
    info = cluster_info(document(TORQUE.output("pbsnodes-x").out, "Torque"))
    assert (info.active_nodes, info.total_nodes, info.total_processors) == (1, 1, 4)
    shared = "<Data><Node><np>8</np><jobs>0-3,6/12.vm,4/13.vm</jobs></Node><Node><np>8</np></Node></Data>"
    info = cluster_info(document(shared, "Torque"))
    assert (info.active_nodes, info.active_processors, info.total_processors) == (1, 6, 16)
