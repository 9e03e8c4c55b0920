"""pun_app/adapters/lsf/site.py against recorded output of volclava 2.2."""

from __future__ import annotations

import pytest

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.lsf.site import cluster_info, parse_queues
from tests.pun_app.adapters.lsf.common import RECORDED


def test_queues_with_states_and_limits() -> None:
    """A queue has its state, its limits, and whether it is the default."""
    queues = {queue.name: queue for queue in parse_queues(RECORDED.output("bqueues-l").out, ["normal"])}
    assert {name: queue.state for name, queue in queues.items()} == {
        "short": "up", "normal": "up", "onlyb": "up", "closedq": "draining", "frozen": "down",
    }  # fmt: skip
    assert (queues["short"].time_limit, queues["normal"].time_limit) == (3600, None)
    assert [queue.name for queue in queues.values() if queue.default] == ["normal"]
    ibm = "QUEUE: night\n  -- x\n\nPRIO NICE STATUS\n 40 0 Open:Active\n\nDEFAULT LIMITS:\n RUNLIMIT\n 10.0 min of hosta\n\nMAXIMUM LIMITS:\n RUNLIMIT\n 480.0 min of hosta\n"
    (night,) = parse_queues(ibm, [])
    assert (night.default_time_limit, night.time_limit) == (600, 28_800)


def test_cluster_info_sums_all_hosts() -> None:
    """Output without the expected columns is an error."""
    info = cluster_info(RECORDED.output("bhosts-w").out)
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 1, 2, 2)
    with pytest.raises(SchedulerUnavailable):
        cluster_info("nothing of the kind")
