"""Tests of pun_app/adapters/slurm/output.py, with what squeue and sacct 22.05 printed and the files that jobs wrote."""

from __future__ import annotations

import pytest

from pun_app.adapters.model import JobRequest
from pun_app.adapters.slurm.output import AccountingRow, QueueRow, files_in_accounting, files_in_queue
from pun_app.adapters.slurm.sbatch import submit_command

H = "/home/h"

CASES = {
    "a job": ("1", "1", "1", f"{H}/slurm-1.out", "", "slurm-1.out"),
    "patterns": ("2", "2", "2", f"{H}/o %x-%j.txt", "-o o %x-%j.txt", "o my name-2.txt"),
    "a task": ("4_3", "9", "4", f"{H}/slurm-9.out", "", "slurm-4_3.out"),
    "the last task": ("4_4", "4", "4", f"{H}/slurm-4.out", "", "slurm-4_4.out"),
    "a task's own": ("3_1", "8", "3", f"{H}/%A+%a.txt", "--output=%A+%a.txt", "3+1.txt"),
    "node and width": ("6", "6", "6", f"{H}/%N-%5j.txt", "-o%N-%5j.txt", "n1-00006.txt"),
    "percent": ("7", "7", "7", f"{H}/a%%b%j", "--output a%%b%j", "a%b7"),
    "no task": ("8", "8", "8", f"{H}/%a", "-o %a", "4294967294"),
    "each step its own": ("8", "8", "8", f"{H}/x%s", "-o x%s", None),
    "percent and s": ("8", "8", "8", f"{H}/x%%s", "-o x%%s", "x%s"),
    "above": ("8", "8", "8", f"{H}/../o", "-o ../o", "../o"),
    "elsewhere": ("8", "8", "8", "/scratch/o", "-o /scratch/o --mem=1", "/scratch/o"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_file_that_sbatch_makes(case: tuple[str, ...]) -> None:
    job_id, raw, array, shown, given, made = case
    expected = None if made is None else {"../o": "/home/o", "/scratch/o": "/scratch/o"}.get(made, f"{H}/{made}")
    now = files_in_queue(QueueRow(job_id, "1", raw, array, H, shown, shown, "h", "n1.example.org", "my name"))
    later = files_in_accounting(
        AccountingRow(job_id, "1", raw, H, f"sbatch --chdir={H} {given}".strip(), "h", "n1", "my name")
    )
    assert (now.stdout, now.stderr) == (expected, expected)
    assert (later.stdout, later.stderr) == (expected, expected)


def test_errors_of_their_own() -> None:
    now = files_in_queue(QueueRow("2", "1", "2", "2", H, f"{H}/o", "/tmp/%u.%A.e", "h", "n1", "x"))
    later = files_in_accounting(AccountingRow("2", "1", "2", H, "sbatch -o o -e /tmp/%u.%A.e -J x", "h", "n1", "x"))
    assert (now.stdout, now.stderr) == (later.stdout, later.stderr) == (f"{H}/o", "/tmp/h.2.e")


def test_a_node_that_is_not_known_yet() -> None:
    assert files_in_queue(QueueRow("2", "1", "2", "2", H, f"{H}/%N", "", "h", "", "x")).stdout is None
    assert files_in_accounting(AccountingRow("2", "1", "2", H, "sbatch -o %N", "h", "n[1-2]", "x")).stdout is None


def test_what_the_script_says_stands_on_the_line_of_the_submit() -> None:
    """Accounting keeps the line, and of the script nothing. An option of the request's own goes before it."""
    script = "#!/bin/sh\n#SBATCH -o 'a b.txt' --error=e\ntrue\n"
    argv = submit_command(JobRequest(content=script, workdir=H))
    assert {"--output=a b.txt", "--error=e"} <= set(argv)
    assert files_in_accounting(AccountingRow("2", "1", "2", H, " ".join(argv), "h", "n1", "x")).stdout == f"{H}/a b.txt"
    assert "--output=a b.txt" not in submit_command(JobRequest(content=script, workdir=H, output_path="o"))
    assert submit_command(JobRequest(content=script, workdir=H, native=("--output=n",)))[-1] == "--output=n"
