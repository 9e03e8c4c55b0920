"""Where the output of Slurm's jobs is: argv for squeue and sacct, and what they print. Pure functions.

Seen with 22.05. Accounting has no field for it before 24.05, but the line that a job was submitted with, on which
``submit_command`` puts what a script's own directives say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pun_app.adapters.model import OutputFiles

OUTPUT_FIELDS = (
    "JobArrayID", "UserID", "JobID", "ArrayJobID", "WorkDir", "StdOut", "StdErr", "UserName", "BatchHost", "Name",
)  # fmt: skip
PAST_OUTPUT_FIELDS = ("JobID", "UID", "JobIDRaw", "WorkDir", "SubmitLine", "User", "NodeList", "JobName")

_PATTERN = re.compile(r"%(?:(\d*)([AajJNux])|(%))")
_NO_TASK = "4294967294"
"""What Slurm writes for %a in a job that is no task (NO_VAL)."""


def output_command(delimiter: str, job_id: str) -> list[str]:
    """argv of where a job that squeue still has writes to: a row for each task."""
    fields = ",".join(f"{name}:{delimiter}" for name in OUTPUT_FIELDS)
    return ["squeue", "--all", "--states=all", "--array", "--noheader", f"--Format={fields}", f"--jobs={job_id}"]


def output_files(
    job_id: str, _uid: str, raw: str, array: str, workdir: str, stdout: str, stderr: str, user: str, host: str,
    name: str,
) -> OutputFiles:  # fmt: skip
    """squeue puts the directory before a pattern and fills in nothing; of a task's default it tells a wrong one."""
    known = _known(job_id, raw, array, user, host, name)
    default = _resolved(_default(job_id), workdir, known)
    wrong = os.path.join(workdir, f"slurm-{raw}.out")
    out, error = (
        default if not path or (path == wrong and "_" in job_id) else _resolved(path, workdir, known)
        for path in (stdout, stderr)
    )
    return OutputFiles(out, error)


def past_output_command(delimiter: str, job_id: str) -> list[str]:
    """argv of the same for a job that accounting alone still has."""
    return [
        "sacct", "--allocations", "--noheader", "--parsable", f"--delimiter={delimiter}",
        f"--jobs={job_id}", f"--format={','.join(PAST_OUTPUT_FIELDS)}",
    ]  # fmt: skip


def past_output_files(
    job_id: str, _uid: str, raw: str, workdir: str, line: str, user: str, nodes: str, name: str
) -> OutputFiles:
    """By the line that it was submitted with."""
    host = nodes if re.fullmatch(r"[\w.-]+", nodes) else ""
    known = _known(job_id, raw, job_id.partition("_")[0], user, host, name)
    out = _resolved(_option(line, "--output", "-o") or _default(job_id), workdir, known)
    error = _option(line, "--error", "-e")
    return OutputFiles(out, _resolved(error, workdir, known) if error else out)


def _resolved(pattern: str, workdir: str, known: Mapping[str, str]) -> str | None:
    """The path that a pattern stands for; None where it is not known. sbatch(1), filename pattern."""
    unknown = False

    def fill(found: re.Match[str]) -> str:
        nonlocal unknown
        if found[3]:
            return "%"
        value = known[found[2]]
        unknown = unknown or not value
        return value.zfill(min(int(found[1] or 0), 10)) if value.isdigit() else value

    # What is left of these has a value for each step, node or task.
    if re.search(r"%\d*[nst]", pattern.replace("%%", "")):
        return None
    path = os.path.normpath(os.path.join(workdir, _PATTERN.sub(fill, pattern)))
    return None if unknown else path


def _known(job_id: str, raw: str, array: str, user: str, host: str, name: str) -> dict[str, str]:
    task = job_id.partition("_")[2] or _NO_TASK
    return {"j": raw, "J": raw, "A": array, "a": task, "u": user, "N": host.partition(".")[0], "x": name}


def _default(job_id: str) -> str:
    return "slurm-%A_%a.out" if "_" in job_id else "slurm-%j.out"


def _option(line: str, long: str, short: str) -> str | None:
    """The last value of an option on the line, whose words are joined by blanks, as Slurm keeps it."""
    found = re.findall(rf" (?:{long}[= ]|{short} ?)(.*?)(?= -|$)", line)
    return found[-1] if found else None
