"""condor_submit: the submit description of one job, and the file with its script. condor_submit(1) of HTCondor 25.x."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.errors import Rejected, SchedulerUnavailable
from pun_app.adapters.htcondor.condor_q import OVER_TIME
from pun_app.adapters.model import JobRequest

INDEX_VARIABLE = "PUNWAY_ARRAY_INDEX"
"""The environment variable that holds the index of a task of an array."""


def site_lines(job: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines that the site adds to every description, from the cluster file's ``job``.

    Raises SchedulerUnavailable for additional_attributes that are not a mapping.
    """
    more = job.get("additional_attributes") or {}
    if not isinstance(more, dict):
        raise SchedulerUnavailable("The cluster's configuration is wrong: job.additional_attributes must be a mapping")
    lines = {"universe": str(job.get("default_universe") or "vanilla")}
    if lines["universe"] == "docker":
        lines["docker_image"] = str(job.get("default_docker_image") or "ubuntu:latest")
    return {**lines, **{str(name): str(value) for name, value in more.items()}}


def description(request: JobRequest, script: str, site: Mapping[str, str]) -> str:
    """Return the submit description of a job.

    ``script`` is the path of the script's file, and ``site`` holds the lines that the site adds to every description.
    Raises Rejected for a value that a description cannot hold.
    """
    lines = {
        "executable": script,
        # The file is deleted when condor_submit has ended.
        "copy_to_spool": "true",
        "initialdir": _literal("script.workdir", request.workdir),
        "My.PunwaySubmitTag": f'"{request.submit_tag}"',
    }
    for name, key in (("job_name", "batch_name"), ("accounting_id", "accounting_group"), ("email", "notify_user")):
        value = getattr(request, name)
        if value is not None:
            lines[key] = _literal(f"options.{name}", value)
    if request.email is not None:
        lines["notification"] = "Complete"
    default = "htcondor-$(Cluster).$(Process)" if request.array is not None else "htcondor-$(Cluster)"
    lines["output"] = (
        f"{default}.out" if request.output_path is None else _literal("options.output_path", request.output_path)
    )
    lines["error"] = (
        lines["output"] if request.error_path is None else _literal("options.error_path", request.error_path)
    )
    for name, key in (("cores", "request_cpus"), ("memory", "request_memory"), ("gpus", "request_gpus")):
        value = getattr(request, name)
        if value is not None:
            lines[key] = str(value)
    if request.wall_time is not None:
        lines["allowed_execute_duration"] = str(request.wall_time)
        # By default, HTCondor holds a job beyond its allowed time, and leaves it in the queue.
        lines["periodic_remove"] = f"JobStatus == 5 && HoldReasonCode =?= {OVER_TIME}"
    if request.hold:
        lines["hold"] = "true"
    variables = dict(request.environment)
    queue = "queue 1"
    if request.array is not None:
        array = parse_array(request.array)
        variables[INDEX_VARIABLE] = "$(index)"
        queue = f"queue 1 index in ({' '.join(map(str, array.indices()))})"
        if array.at_once:
            lines["max_materialize"] = str(array.at_once)
    if variables:
        lines["environment"] = _environment(variables)
    return "".join(f"{key} = {value}\n" for key, value in {**lines, **site}.items()) + queue + "\n"


@contextmanager
def script_file(content: str) -> Iterator[str]:
    """Write the script to a file in the home, which a submit host shares; yield its path, and delete it afterwards.

    Raises Rejected where the file cannot be written.
    """
    folder = Path(os.environ["HOME"], ".cache", "punway")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(prefix="htcondor-", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o700)
    except OSError as error:
        raise Rejected(
            f"script.content: The script cannot be written to {folder} for condor_submit: {error.strerror}."
        ) from error
    try:
        yield path
    finally:
        os.unlink(path)


def _literal(field: str, value: str) -> str:
    """Return a value for the submit description, in which HTCondor replaces nothing. Raises Rejected.

    In a description, ``$(…)`` is a macro, and a backslash at the end of a line continues it. HTCondor replaces
    ``$$(…)`` once more on the job's host. Its escape, ``$$(DOLLARDOLLAR)``, would show up in condor_q's output.
    """
    if value.endswith("\\") or "$$" in value:
        raise Rejected(f"{field}: HTCondor takes neither $$ nor a backslash at the end. Use another value.")
    return value.replace("$", "$(DOLLAR)")


def _environment(variables: dict[str, str]) -> str:
    """Return ``"A='x' B='it''s'"``, the new syntax of environment in condor_submit(1). Raises Rejected."""
    words = []
    for name, value in variables.items():
        if re.search(r"[\n\r]|\$\$", value):
            raise Rejected(
                f"options.environment: HTCondor takes neither a newline nor $$ in the value of {name}. Set it in the "
                "script."
            )
        if name != INDEX_VARIABLE:
            value = value.replace("$", "$(DOLLAR)")
        words.append(f"{name}='{value.replace(chr(39), chr(39) * 2)}'")
    return '"' + " ".join(words).replace('"', '""') + '"'
