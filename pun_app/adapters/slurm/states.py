"""Slurm's job states, and their meaning for squeue and sacct alike."""

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
"""Job state codes of squeue(1) → the status of the contract, and the outcome of an ended job."""


HELD_REASONS = ("JobHeldUser", "JobHeldAdmin")
"""Reasons of a PENDING job that mean that it is held."""


def has_started(status: str | None, nodes: str) -> bool:
    """Return True if Slurm's start time is when the job started.

    For a queued job Slurm prints the expected start, and for a job that was cancelled before its start the time of the
    cancellation.
    """
    return status not in (QUEUED, QUEUED_HELD) and nodes.strip() not in ("", "None assigned")


def own_exit_code(outcome: str | None, code: int | None) -> int | None:
    """Return the exit code of the job itself. A job that Slurm ended has none, but squeue and sacct print a number."""
    return code if outcome in ("succeeded", "failed") else None
