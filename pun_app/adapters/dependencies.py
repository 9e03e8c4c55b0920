"""The jobs that a new job is to wait for, looked up before it is submitted.

A scheduler soon forgets jobs that have ended. Slurm then takes a condition for met whatever became of the job, and
others refuse the submit, so each condition on a job that has ended is settled here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import COMPLETED, DEPENDENCIES, Job, JobRequest

Met = dict[str, list[str]]
"""The conditions that were met already, as a submit gives them: the ids of jobs by the option's name."""


def settle(
    request: JobRequest, look_up: Callable[[Sequence[str]], dict[str, Job]], cluster_id: str
) -> tuple[JobRequest, Met]:
    """Return the request with those conditions alone that the scheduler is to wait for, and those that are met.

    ``look_up`` returns the user's jobs by their ids. Raises Rejected for an id that is none of them, and for a
    condition that can never be met. A job whose end is not known in full yet is left to the scheduler, like an
    unfinished job.
    """
    named = list(dict.fromkeys(job_id for name in DEPENDENCIES for job_id in getattr(request, name)))
    if not named:
        return request, {}
    jobs = look_up(named)
    left: dict[str, tuple[str, ...]] = {}
    met: Met = {}
    for name in DEPENDENCIES:
        for job_id in getattr(request, name):
            if job_id not in jobs:
                raise Rejected(
                    f"options.{name}: there is no job {job_id} of yours on cluster {cluster_id}; correct the id, or "
                    "name another user's job in options.native"
                )
            is_met = _is_met(name, jobs[job_id])
            if is_met is False:
                raise Rejected(
                    f"options.{name}: job {job_id} has ended already ({jobs[job_id].outcome}), so a job that waits for "
                    f"it with {name} would never start; leave it out, or choose another condition"
                )
            if is_met:
                met.setdefault(name, []).append(job_id)
            else:
                left[name] = (*left.get(name, ()), job_id)
    after, afterok, afternotok, afterany = (left.get(name, ()) for name in DEPENDENCIES)
    return replace(request, after=after, afterok=afterok, afternotok=afternotok, afterany=afterany), met


def _is_met(name: str, job: Job) -> bool | None:
    """Whether a condition is met for good, or can never be; None where that is open."""
    if job.status != COMPLETED:
        return None
    if name in ("after", "afterany"):
        return True
    if job.outcome is None:
        return None
    return (job.outcome == "succeeded") == (name == "afterok")
