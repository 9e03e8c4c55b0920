"""What HTCondor is given with a job: its script as a file, and its submit description. See condor_submit(1)."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.errors import Rejected
from pun_app.adapters.htcondor.ads import OVER_TIME
from pun_app.adapters.model import JobRequest

TASK = "PUNWAY_ARRAY_INDEX"
"""The variable in which each job of an array finds its index."""


def description(request: JobRequest, script: str, site: Mapping[str, str]) -> str:
    """The submit description; ``site`` is what the site adds to every one. Raises Rejected."""
    lines = {
        "executable": script,
        # The file is gone when condor_submit is.
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
        # By itself HTCondor would hold such a job, for good.
        lines["periodic_remove"] = f"JobStatus == 5 && HoldReasonCode =?= {OVER_TIME}"
    if request.hold:
        lines["hold"] = "true"
    variables = dict(request.environment)
    queue = "queue 1"
    if request.array is not None:
        array = parse_array(request.array)
        variables[TASK] = "$(index)"
        queue = f"queue 1 index in ({' '.join(map(str, array.indices()))})"
        if array.at_once:
            lines["max_materialize"] = str(array.at_once)
    if variables:
        lines["environment"] = _environment(variables)
    return "".join(f"{key} = {value}\n" for key, value in {**lines, **site}.items()) + queue + "\n"


@contextmanager
def script_file(content: str) -> Iterator[str]:
    """The script as a file, for as long as condor_submit copies it. In the home, which a submit host has too."""
    folder = Path(os.environ["HOME"], ".cache", "punway")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(prefix="htcondor-", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o700)
    except OSError as error:
        raise Rejected(f"The script cannot be written to {folder}: {error.strerror}") from error
    try:
        yield path
    finally:
        os.unlink(path)


def _literal(what: str, value: str) -> str:
    """A value in a submit description, where ``$(…)`` is a macro, and a last backslash takes in the next line.

    ``$$(…)`` is filled in once more where the job runs. The way to write it down, ``$$(DOLLARDOLLAR)``, would stand in
    what HTCondor tells of the job.
    """
    if value.endswith("\\") or "$$" in value:
        raise Rejected(f"{what}: HTCondor takes neither $$ nor a backslash at the end")
    return value.replace("$", "$(DOLLAR)")


def _environment(variables: dict[str, str]) -> str:
    """``"A='x' B='it''s'"``: condor_submit(1), environment."""
    words = []
    for name, value in variables.items():
        if re.search(r"[\n\r]|\$\$", value):
            raise Rejected(
                f"options.environment: HTCondor takes neither newlines nor $$ in {name}; set it in the script"
            )
        if name != TASK:
            value = value.replace("$", "$(DOLLAR)")
        words.append(f"{name}='{value.replace(chr(39), chr(39) * 2)}'")
    return '"' + " ".join(words).replace('"', '""') + '"'
