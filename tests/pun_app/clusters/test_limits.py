"""pun_app/clusters/limits.py: what a job asks for against what its queue allows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pun_app.adapters.base import Adapter
from pun_app.adapters.directives import SLURM
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import OPTIONS, JobRequest, Queue, ValidationResult
from pun_app.clusters.cached_scheduler import CachedScheduler

PLAIN = JobRequest("#!/bin/sh\n", "/")
BATCH = Queue("batch", default=True, time_limit=7200, total_nodes=10)
SHORT = Queue("short", time_limit=1800, total_nodes=2)
OPEN = Queue("open")


class Taking(Adapter):
    """Takes every job, as a scheduler does that does not enforce its queues' limits."""

    options = frozenset(OPTIONS)
    directives = SLURM
    wall_time_unit = 60

    def __init__(self, *queues: Queue) -> None:
        super().__init__("c", {"adapter": "taking"})
        self._queues = list(queues)

    def validate(self, request: JobRequest) -> ValidationResult:
        return ValidationResult(message="fine")

    def queues(self) -> list[Queue]:
        return self._queues


def validated(request: JobRequest, *queues: Queue) -> ValidationResult:
    return CachedScheduler(Taking(*queues)).validate(request)


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        (
            {"wall_time": 7200, "queue_name": "short"},
            "options.wall_time: the job asks for 7200 s, and queue short allows 1800 s",
        ),
        ({"wall_time": 7201}, "and queue batch allows 7200 s"),
        ({"content": "#!/bin/sh\n#SBATCH -p short -t 31\n"}, "asks for 1860 s, and queue short"),
        ({"content": "#!/bin/sh\n#SBATCH -p short\n", "wall_time": 1801}, "asks for 1860 s"),
        ({"native": ("-p", "short"), "wall_time": 3600}, "queue short"),
        ({"nodes": 3, "queue_name": "short"}, "options.nodes: the job asks for 3 nodes, and queue short has 2"),
        ({"wall_time": 9000, "queue_name": "short,batch"}, "queue batch, short allows 7200 s"),
    ],
)
def test_more_than_its_queue_allows_is_refused(more: dict[str, object], wrong: str) -> None:
    """By the option, what was asked for, the queue, and its limit."""
    with pytest.raises(Rejected, match=wrong):
        validated(replace(PLAIN, **more), BATCH, SHORT, OPEN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "more",
    [
        {}, {"wall_time": 1800, "queue_name": "short"}, {"wall_time": 7200}, {"wall_time": 10**6, "queue_name": "open", "nodes": 50},
        {"wall_time": 3600, "queue_name": "short,batch"}, {"wall_time": 10**6, "queue_name": "nosuch"},
        {"wall_time": 3600, "queue_name": "short", "qos": "long"}, {"wall_time": 3600, "queue_name": "short", "native": ("--qos=long",)},
        {"content": "#!/bin/sh\n#SBATCH -p short -t 60 --qos=long\n"}, {"nodes": 2, "queue_name": "short"},
    ],
    ids=range(10),
)  # fmt: skip
def test_what_its_queue_allows_and_what_is_not_known_passes(more: dict[str, object]) -> None:
    assert validated(replace(PLAIN, **more), BATCH, SHORT, OPEN).message == "fine"  # type: ignore[arg-type]


def test_without_a_default_any_queue_may_take_it() -> None:
    """Grid Engine picks any queue, so a job is rejected only if no queue allows it."""
    request = replace(PLAIN, wall_time=3600)
    long = Queue("long", time_limit=7200)
    assert validated(request, SHORT, long).message == "fine"
    with pytest.raises(Rejected, match="allows 1800 s"):
        validated(request, SHORT)
    assert validated(request).message == "fine"
