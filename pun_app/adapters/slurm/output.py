"""The output files of Slurm's jobs: command lines of squeue and sacct, and their rows. Pure functions.

Tested with Slurm 22.05. Before 24.05 accounting has no column for the paths. It has the command line of the submit,
where sbatch.py repeats the paths of the script's directives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from pun_app.adapters.model import OutputFiles


class QueueRow(NamedTuple):
    """A row of squeue, with the columns of QUEUE_COLUMNS as printed."""

    job_id: str
    uid: str
    raw_id: str
    array_id: str
    workdir: str
    stdout: str
    stderr: str
    user: str
    host: str
    name: str


class AccountingRow(NamedTuple):
    """A row of sacct, with the columns of ACCOUNTING_COLUMNS as printed."""

    job_id: str
    uid: str
    raw_id: str
    workdir: str
    submit_line: str
    user: str
    nodes: str
    name: str


QUEUE_COLUMNS = QueueRow(
    job_id="JobArrayID",
    uid="UserID",
    raw_id="JobID",
    array_id="ArrayJobID",
    workdir="WorkDir",
    stdout="StdOut",
    stderr="StdErr",
    user="UserName",
    host="BatchHost",
    name="Name",
)
ACCOUNTING_COLUMNS = AccountingRow(
    job_id="JobID",
    uid="UID",
    raw_id="JobIDRaw",
    workdir="WorkDir",
    submit_line="SubmitLine",
    user="User",
    nodes="NodeList",
    name="JobName",
)

_PATTERN = re.compile(r"%(?:(\d*)([AajJNux])|(%))")
_NO_TASK = "4294967294"
"""The number that Slurm writes for %a in a job that is not a task (NO_VAL)."""


def queue_command(delimiter: str, job_id: str) -> list[str]:
    """Return the argv for the paths of a job in the queue. An array has a row for each task."""
    columns = ",".join(f"{name}:{delimiter}" for name in QUEUE_COLUMNS)
    return ["squeue", "--all", "--states=all", "--array", "--noheader", f"--Format={columns}", f"--jobs={job_id}"]


def files_in_queue(row: QueueRow) -> OutputFiles:
    """Return the paths of a job in squeue.

    squeue prints a pattern behind the working directory, without filling it in. For a task it prints a wrong default.
    """
    values = _values(row.job_id, row.raw_id, row.array_id, row.user, row.host, row.name)
    default = _resolve(_default(row.job_id), row.workdir, values)
    wrong = os.path.join(row.workdir, f"slurm-{row.raw_id}.out")
    stdout, stderr = (
        default if not path or (path == wrong and "_" in row.job_id) else _resolve(path, row.workdir, values)
        for path in (row.stdout, row.stderr)
    )
    return OutputFiles(stdout, stderr)


def accounting_command(delimiter: str, job_id: str) -> list[str]:
    """Return the argv for the paths of a job that only accounting still has."""
    return [
        "sacct", "--allocations", "--noheader", "--parsable", f"--delimiter={delimiter}",
        f"--jobs={job_id}", f"--format={','.join(ACCOUNTING_COLUMNS)}",
    ]  # fmt: skip


def files_in_accounting(row: AccountingRow) -> OutputFiles:
    """Return the paths of a job in accounting, from the command line of its submit."""
    host = row.nodes if re.fullmatch(r"[\w.-]+", row.nodes) else ""
    values = _values(row.job_id, row.raw_id, row.job_id.partition("_")[0], row.user, host, row.name)
    stdout = _resolve(_option(row.submit_line, "--output", "-o") or _default(row.job_id), row.workdir, values)
    stderr = _option(row.submit_line, "--error", "-e")
    return OutputFiles(stdout, _resolve(stderr, row.workdir, values) if stderr else stdout)


def _resolve(pattern: str, workdir: str, values: Mapping[str, str]) -> str | None:
    """Return the path for a pattern (sbatch(1), filename pattern); None if a value in it is unknown."""
    is_unknown = False

    def fill(found: re.Match[str]) -> str:
        nonlocal is_unknown
        if found[3]:
            return "%"
        value = values[found[2]]
        is_unknown = is_unknown or not value
        return value.zfill(min(int(found[1] or 0), 10)) if value.isdigit() else value

    # These letters have a different value for each step, node or task.
    if re.search(r"%\d*[nst]", pattern.replace("%%", "")):
        return None
    path = os.path.normpath(os.path.join(workdir, _PATTERN.sub(fill, pattern)))
    return None if is_unknown else path


def _values(job_id: str, raw_id: str, array_id: str, user: str, host: str, name: str) -> dict[str, str]:
    """Return the values of the letters in a pattern, such as ``j`` for ``%j``."""
    task = job_id.partition("_")[2] or _NO_TASK
    return {"j": raw_id, "J": raw_id, "A": array_id, "a": task, "u": user, "N": host.partition(".")[0], "x": name}


def _default(job_id: str) -> str:
    return "slurm-%A_%a.out" if "_" in job_id else "slurm-%j.out"


def _option(line: str, long: str, short: str) -> str | None:
    """Return the last value of an option on a command line, which Slurm stores with its words joined by blanks."""
    found = re.findall(rf" (?:{long}[= ]|{short} ?)(.*?)(?= -|$)", line)
    return found[-1] if found else None
