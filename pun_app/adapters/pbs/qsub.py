"""The options of qsub that PBS, OpenPBS and Torque have in common, and what goes with a job besides."""

from __future__ import annotations

import os
import re

from pun_app.adapters.command_line import job_environment
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import DEPENDENCIES, JobRequest, OutputFiles
from pun_app.adapters.script import is_one_path

_LETTERS = {"job_name": "-N", "queue_name": "-q", "accounting_id": "-A"}
_OWN_STREAMS = re.compile(r"^#PBS\s(?:.*\s)?-[ej]", re.MULTILINE)
_MANGLED = re.compile(r"[\\\"']")


def common_options(request: JobRequest) -> list[str]:
    """What is said in the same words to each of them, the native options not among it. Raises Rejected."""
    argv = []
    for field, option in _LETTERS.items():
        value = getattr(request, field)
        if value is not None:
            argv += [option, value]
    # Two streams in one path are not one file: the errors would replace the output when the job has ended.
    in_one = is_one_path(request)
    for option, path in (("-o", request.output_path), ("-e", None if in_one else request.error_path)):
        if path is not None:
            # What stands before a colon is a host.
            argv += [option, f"localhost:{path}" if ":" in path else path]
    if in_one or (request.error_path is None and not _streams_are_given(request)):
        argv += ["-j", "oe"]
    if request.wall_time is not None:
        argv += ["-l", f"walltime={request.wall_time}"]
    if request.hold:
        argv.append("-h")
    if request.email is not None:
        argv += ["-M", request.email, "-m", "ae"]
    if request.environment:
        # The names alone: qsub takes the values from its own environment, where nobody else reads them.
        argv += ["-v", ",".join(request.environment)]
    return argv


def dependencies(request: JobRequest) -> list[str]:
    """The jobs that are to be waited for, as ``afterok:1.server:2.server,afterany:…``."""
    waits = [":".join((kind, *jobs)) for kind in DEPENDENCIES if (jobs := getattr(request, kind))]
    return ["-W", f"depend={','.join(waits)}"] if waits else []


def environment(request: JobRequest) -> dict[str, str]:
    """What qsub takes from its own environment. Raises Rejected for what it would not hand on as it is.

    The submit tag goes with the job as PBS_O_MAIL, the submitter's mailbox: the one variable of qsub's own that a job
    hardly reads, and that takes no option of the user's (a ``-v`` of ours would undo those of the script). qsub(1B).
    """
    for name, value in request.environment.items():
        if name in ("MAIL", "PWD"):
            raise Rejected(f"options.environment: {name} is qsub's own here; set it in the script")
        if _MANGLED.search(value):
            raise Rejected(f"options.environment: qsub would change the quotes in {name}; set it in the script")
    return {**job_environment(request, "qsub"), "MAIL": request.submit_tag, "PWD": request.workdir}


def output_files(job_id: str, output: str, error: str, joined: str, kept: str) -> OutputFiles:
    """Of a job's Output_Path and its like, as qstat tells them: with a host before the path. pbs_job_attributes(7B).

    Until the job has ended they lie in a spool of the server's, unless they are kept where the job runs.
    """
    index = (re.findall(r"\[(\d+)\]", job_id) or [""])[0]
    paths = []
    for path, letters in ((output, "OU"), (error, "ER")):
        path = path.partition(":")[2] if ":" in path else path
        path = path.replace("^array_index^", index)
        # A directory, in which the file has the job's name.
        paths.append(os.path.join(path, f"{job_id}.{letters}") if path.endswith("/") else path or None)
    one = {"oe": paths[0], "eo": paths[1]}.get(joined)
    out, err = (one, one) if one else paths
    return OutputFiles(out, err, at_end=kept == "n")


def _streams_are_given(request: JobRequest) -> bool:
    """Whether the script or the native options say where its errors go: joined to its output they would be nowhere."""
    return bool(_OWN_STREAMS.search(request.content)) or any(word[:2] in ("-e", "-j") for word in request.native)
