"""pun_app/adapters/pbs/pbspro_site.py against recorded output of OpenPBS 23.06."""

from __future__ import annotations

import pytest

from pun_app.adapters.pbs.pbspro import PbsProAdapter
from tests.pun_app.adapters.pbs.common import OPENPBS
from tests.pun_app.adapters.recordings import answers


@pytest.fixture
def adapter() -> PbsProAdapter:
    """An adapter for a user of the recordings."""
    adapter = PbsProAdapter("c", {"adapter": "pbspro"})
    adapter.user = "pbsa"
    return adapter


def test_queues_with_states_and_limits(adapter: PbsProAdapter) -> None:
    """A queue whose list of users does not admit the user is left out."""
    answers(adapter, OPENPBS.output("one/qstat-B-f-json"), OPENPBS.output("qstat-Q-json"))
    queues = {queue.name: queue for queue in adapter.queues()}
    assert {name: queue.state for name, queue in queues.items()} == {
        "workq": "up", "debug": "up", "closed": "draining", "frozen": "down",
    }  # fmt: skip
    assert [name for name, queue in queues.items() if queue.default] == ["workq"]
    assert (queues["debug"].time_limit, queues["debug"].default_time_limit) == (3600, 600)


def test_cluster_info_sums_all_nodes(adapter: PbsProAdapter) -> None:
    """Nodes and processors, used and in total."""
    answers(adapter, OPENPBS.output("pbsnodes-json"))
    info = adapter.info()
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 1, 4, 4)
