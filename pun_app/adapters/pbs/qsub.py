"""qsub: the options that PBS and Torque have in common, and the environment that qsub passes on to a job."""

from __future__ import annotations

import re

from pun_app.adapters.command_line import job_environment
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import DEPENDENCIES, JobRequest
from pun_app.adapters.script import is_one_path

_OPTIONS = {"job_name": "-N", "queue_name": "-q", "accounting_id": "-A"}
_STREAM_DIRECTIVE = re.compile(r"^#PBS\s(?:.*\s)?-[ej]", re.MULTILINE)
_QUOTES = re.compile(r"[\\\"']")
"""Characters that qsub of OpenPBS 23.06 changes in the value of a variable: quotes are lost, backslashes doubled."""


def common_options(request: JobRequest) -> list[str]:
    """Return the options that PBS and Torque share, without the native options. qsub(1B)."""
    argv = []
    for field, option in _OPTIONS.items():
        value = getattr(request, field)
        if value is not None:
            argv += [option, value]
    # At the end of the job, PBS would replace the output by the errors if both had the same path.
    is_joined = is_one_path(request)
    for option, path in (("-o", request.output_path), ("-e", None if is_joined else request.error_path)):
        if path is not None:
            # PBS reads the text before a colon as a host.
            argv += [option, f"localhost:{path}" if ":" in path else path]
    if is_joined or (request.error_path is None and not _has_stream_options(request)):
        argv += ["-j", "oe"]
    if request.wall_time is not None:
        argv += ["-l", f"walltime={request.wall_time}"]
    if request.hold:
        argv.append("-h")
    if request.email is not None:
        argv += ["-M", request.email, "-m", "ae"]
    if request.environment:
        # Only the names: qsub takes the values from its own environment, where nobody else can read them.
        argv += ["-v", ",".join(request.environment)]
    return argv


def dependencies(request: JobRequest) -> list[str]:
    """Return the jobs to wait for, as ``-W depend=afterok:1.server:2.server,afterany:…``."""
    conditions = [":".join((kind, *jobs)) for kind in DEPENDENCIES if (jobs := getattr(request, kind))]
    return ["-W", f"depend={','.join(conditions)}"] if conditions else []


def environment(request: JobRequest) -> dict[str, str]:
    """Return the environment for qsub. Raises Rejected for a variable that qsub would use itself or change.

    The submit tag travels in MAIL, which qsub passes on to the job as PBS_O_MAIL, the submitter's mailbox. Jobs hardly
    ever read that variable, and it takes no option from the user: a -v for the tag would replace a -v in the script.
    qsub(1B).
    """
    for name, value in request.environment.items():
        if name in ("MAIL", "PWD"):
            raise Rejected(f"options.environment: {name} is a variable that qsub uses itself. Set it in the script.")
        if _QUOTES.search(value):
            raise Rejected(
                f"options.environment: qsub changes quotes and backslashes in the value of {name}. Set the variable in "
                "the script."
            )
    return {**job_environment(request, "qsub"), "MAIL": request.submit_tag, "PWD": request.workdir}


def _has_stream_options(request: JobRequest) -> bool:
    """Return whether the script or the native options have a path for errors, which joined streams would not use."""
    return bool(_STREAM_DIRECTIVE.search(request.content)) or any(word[:2] in ("-e", "-j") for word in request.native)
