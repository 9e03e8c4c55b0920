"""Slurm's job states, as squeue and sacct both print them."""

from __future__ import annotations

from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED

STATUS: dict[str, tuple[str, str | None]] = {
    "PENDING": (QUEUED, None),
    "CONFIGURING": (QUEUED, None),
    "EXPEDITING": (QUEUED, None),
    "REQUEUED": (QUEUED, None),
    "REQUEUE_FED": (QUEUED, None),
    "REQUEUE_HOLD": (QUEUED_HELD, None),
    "RESV_DEL_HOLD": (QUEUED_HELD, None),
    "SPECIAL_EXIT": (QUEUED_HELD, None),
    "RUNNING": (RUNNING, None),
    "COMPLETING": (RUNNING, None),
    "RESIZING": (RUNNING, None),
    "SIGNALING": (RUNNING, None),
    "STAGE_OUT": (RUNNING, None),
    "SUSPENDED": (SUSPENDED, None),
    "STOPPED": (SUSPENDED, None),
    "COMPLETED": (COMPLETED, "succeeded"),
    "FAILED": (COMPLETED, "failed"),
    "CANCELLED": (COMPLETED, "cancelled"),
    "REVOKED": (COMPLETED, "cancelled"),
    "TIMEOUT": (COMPLETED, "timed_out"),
    "DEADLINE": (COMPLETED, "timed_out"),
    "OUT_OF_MEMORY": (COMPLETED, "out_of_memory"),
    "NODE_FAIL": (COMPLETED, "node_failed"),
    "BOOT_FAIL": (COMPLETED, "node_failed"),
    "PREEMPTED": (COMPLETED, "preempted"),
}
"""A table of the job state codes in squeue(1): the status of the contract, and the outcome of an ended job."""

HELD_REASONS = ("JobHeldUser", "JobHeldAdmin")
"""Reasons of a PENDING job that is held."""

OUTCOMES_WITH_EXIT_CODE = ("succeeded", "failed")
"""Outcomes of jobs that Slurm did not end. For a job that Slurm ended, squeue and sacct print a number that is not
the exit code of the script."""


def has_started(status: str | None, nodes: str) -> bool:
    """Return True if the start time that Slurm prints is the time at which the job started.

    For a queued job Slurm prints the expected start. For a job that was cancelled while it was queued, it prints the
    time of the cancellation. ``nodes`` is the node list as printed: a job without nodes has not started.
    """
    return status not in (QUEUED, QUEUED_HELD) and nodes.strip() not in ("", "None assigned")
