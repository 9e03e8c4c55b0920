"""pun_app/adapters/slurm/reasons.py: which of Slurm's reasons mean that a job never starts."""

from __future__ import annotations

import pytest

from pun_app.adapters.slurm.reasons import never_starts


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("DependencyNeverSatisfied", "dependency"),
        ("PartitionTimeLimit", "wall time"),
        ("PartitionNodeLimit", "nodes"),
        ("BadConstraints", "nodes"),
        ("AccountNotAllowed", "account"),
        ("AssocMaxCpuPerJobLimit", "more processors than its account"),
        ("AssocMaxWallDurationPerJobLimit", "more wall time than its account"),
        ("AssocMaxMemPerNode", "more memory than its account"),
        ("QOSMaxCpuMinutesPerJobLimit", "more minutes of processors than its QOS"),
        ("QOSMaxWallDurationPerJobLimit", "more wall time than its QOS"),
        ("QOSMaxGRESMinutesPerJob", "minutes of GPUs"),
        ("QOSMinCpuNotSatisfied", "less processors"),
        ("QOSMinGRES", "less GPUs"),
    ],
)
def test_a_reason_that_means_never(reason: str, words: str) -> None:
    """In words, and with Slurm's own."""
    said = never_starts(reason, "batch")
    assert said and words in said and f"({reason})" in said


@pytest.mark.parametrize(
    "reason",
    [None, "", "None", "Priority", "Resources", "Dependency", "JobHeldUser", "JobHeldAdmin", "BeginTime", "PartitionDown",
     "PartitionInactive", "ReqNodeNotAvail,_UnavailableNodes:n1", "ReqNodeNotAvail", "AssocGrpCpuLimit", "QOSGrpNodeLimit", "AssocMaxJobsLimit",
     "QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit", "MaxCpuPerAccount", "Licenses", "Reservation", "JobArrayTaskLimit", "Cleaning",
     "QOSMaxNodePerUserLimit", "launch_failed_requeued_held", "BrandNew"],
)  # fmt: skip
def test_a_reason_that_may_pass(reason: str | None) -> None:
    assert never_starts(reason, "batch") is None


def test_of_several_queues_another_may_start_it() -> None:
    assert never_starts("PartitionTimeLimit", "short,batch") is None
    assert never_starts("QOSMaxCpuPerJobLimit", "short,batch") is None
    assert never_starts("DependencyNeverSatisfied", "short,batch") is not None
