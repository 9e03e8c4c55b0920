"""Submitting to Slurm: the command line of sbatch, and its output. Pure functions.

Tested with Slurm 22.05.
"""

from __future__ import annotations

import re

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import DEPENDENCIES, JobRequest, ValidationResult
from pun_app.adapters.script import last_option

OPTIONS = {
    "workdir": "--chdir",
    "job_name": "--job-name",
    "queue_name": "--partition",
    "accounting_id": "--account",
    "output_path": "--output",
    "error_path": "--error",
    "array": "--array",
    "nodes": "--nodes",
    "cores": "--ntasks",
    "gpus": "--gpus-per-node",
    "qos": "--qos",
    "reservation": "--reservation",
}
"""Fields of a JobRequest → options of sbatch, always as ``--option=value``, so that no value becomes an option."""

_SUBMITTED = re.compile(r"(\d+)(?:;(\S+))?")
_ACCEPTED = re.compile(r"Job \S+ to start at (\d{1,12}) ([^\n]*)")


def submit_command(request: JobRequest) -> list[str]:
    """Return the argv of a submit. The script goes to its standard input.

    ``--get-user-env`` gives the job the user's login environment. ``--export=NONE`` would do so too, but would also set
    SLURM_EXPORT_ENV=NONE, which breaks every srun inside the job.
    """
    argv = ["sbatch", "--parsable", "--get-user-env"]
    for field, option in OPTIONS.items():
        value = getattr(request, field)
        if value is not None:
            argv.append(f"{option}={value}")
    if request.wall_time is not None:
        minutes, seconds = divmod(request.wall_time, 60)
        argv.append(f"--time={minutes}:{seconds:02}")
    if request.memory is not None:
        argv.append(f"--mem={request.memory}M")
    if request.hold:
        argv.append("--hold")
    if request.email is not None:
        argv += [f"--mail-user={request.email}", "--mail-type=END,FAIL"]
    dependencies = [":".join((kind, *jobs)) for kind in DEPENDENCIES if (jobs := getattr(request, kind))]
    if dependencies:
        argv.append(f"--dependency={','.join(dependencies)}")
    for field, option, short in (("output_path", "--output", "-o"), ("error_path", "--error", "-e")):
        # Accounting keeps the command line but not the script, so a path in the script goes here too (output.py).
        path = last_option(request, "#SBATCH", option) or last_option(request, "#SBATCH", short)
        if path and getattr(request, field) is None:
            argv.append(f"{option}={path}")
    return argv + _comment_and_native_options(request)


def _comment_and_native_options(request: JobRequest) -> list[str]:
    """Return the options that put the submit tag into the job's comment, behind a comment of the user's own.

    sbatch uses the last comment, so the tag goes behind each comment in the native options too.
    """
    native, comment = list(request.native), last_option(request, "#SBATCH", "--comment")
    for index, word in enumerate(native):
        if word.startswith("--comment=") or (index and native[index - 1] == "--comment"):
            native[index] = f"{word} {request.submit_tag}"
    return [f"--comment={comment + ' ' if comment else ''}{request.submit_tag}", *native]


def parse_job_id(text: str, cluster: str | None = None) -> str | None:
    """Return the job id that ``sbatch --parsable`` printed (``12``, or ``12;CLUSTER`` with ``-M``); None without one.

    Raises Rejected if the job went to a cluster other than ``cluster``.
    """
    match = _SUBMITTED.fullmatch(text.strip())
    if match and match[2] and match[2] != cluster:
        raise Rejected(
            f"The native options sent this job to the cluster {match[2]}, where it is job {match[1]}; "
            "choose a cluster by the request's cluster"
        )
    return match[1] if match else None


def validate_command(request: JobRequest) -> list[str]:
    """Return the argv that lets sbatch check a job without submitting it. It reports on standard error."""
    argv = submit_command(request)
    return [argv[0], "--test-only", *argv[1:]]


def parse_validation(text: str) -> ValidationResult:
    """Return what ``sbatch --test-only`` printed about an acceptable job. The job id in it belongs to no job."""
    accepted = _ACCEPTED.search(text)
    if accepted is None:
        return ValidationResult(message=text.strip()[:500] or None)
    return ValidationResult(int(accepted[1]), accepted[2].strip())
