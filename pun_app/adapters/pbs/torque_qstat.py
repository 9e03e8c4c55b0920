"""qstat of Torque: jobs as XML, whose times are Unix seconds. Pure functions.

They follow the manual pages and the source of Torque 6.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from pun_app.adapters.markup import Element, document, text_of
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job
from pun_app.adapters.parse import clock, number

STATUS = {
    "Q": QUEUED, "W": QUEUED, "T": QUEUED, "H": QUEUED_HELD, "R": RUNNING, "E": RUNNING, "S": SUSPENDED, "C": COMPLETED,
}  # fmt: skip
"""Job states of qstat(1B) → the contract's status."""

LIMIT_OUTCOMES = {-10: "out_of_memory", -11: "timed_out", -12: "timed_out"}
"""exit_status of a job that Torque ended for its mem, walltime or cput (pbs_job.h, JOB_EXEC_OVERLIMIT) → outcome."""

SIGNAL_EXIT_STATUS = 256
"""exit_status from here on is 256 plus the signal by which Torque itself ended the job."""
MAX_IDS_PER_COMMAND = 2000


def jobs_command(ids: Sequence[str], *, tasks: bool) -> list[str]:
    """Return argv that prints jobs as XML. With ``tasks`` (-t), an array is printed as its tasks."""
    return ["qstat", "-x", *(["-t"] if tasks else []), *ids]


def parse_jobs(text: str, product: str) -> list[Element]:
    """Return the Job elements of ``qstat -x``, which prints one XML document for each job.

    Raises SchedulerUnavailable for output that was cut off.
    """
    together = re.sub(r"<\?xml[^>]*\?>", "", text)
    return list(document(f"<Jobs>{together}</Jobs>", product).iter("Job"))


def job_of(job: Element) -> Job:
    """Return the job of a Job element."""
    state = text_of(job, "job_state")
    status = STATUS.get(state)
    if status == QUEUED_HELD and "u" not in text_of(job, "Hold_Types") and text_of(job, "depend"):
        status = QUEUED  # Torque holds the job until its dependencies are met.
    started = number(text_of(job, "start_time"))
    # A job that never ran has no comp_time.
    ended = (number(text_of(job, "comp_time")) or number(text_of(job, "mtime"))) if status == COMPLETED else None
    used = clock(text_of(job, "resources_used/walltime"))
    if status == RUNNING and started is not None:
        used = max(used or 0, int(time.time()) - started)
    code = text_of(job, "exit_status")
    outcome = _outcome(int(code) if re.fullmatch(r"-?\d{1,9}", code) else None) if status == COMPLETED else None
    return Job(
        id=text_of(job, "Job_Id"),
        name=text_of(job, "Job_Name") or None,
        owner=text_of(job, "Job_Owner").rpartition("@")[0] or None,
        status=status,
        native_state=state or None,
        native_reason=text_of(job, "comment") or None,
        outcome=outcome,
        exit_code=number(code) if outcome in ("succeeded", "failed") else None,
        queue=text_of(job, "queue") or None,
        account=text_of(job, "Account_Name") or None,
        submitted_at=number(text_of(job, "ctime")),
        started_at=started,
        ended_at=ended,
        wallclock_time=used or 0,
        wallclock_limit=clock(text_of(job, "Resource_List/walltime")),
    )


def _outcome(status: int | None) -> str:
    # A job that never ran, or that Torque itself ended by a signal, was deleted.
    if status is None or status >= SIGNAL_EXIT_STATUS:
        return "cancelled"
    return LIMIT_OUTCOMES.get(status, "failed" if status else "succeeded")
