"""What a long list costs: every job of a user with many, and a page of them, beside squeue's own time.

    python -m bench.listing --url URL --token-file FILE --cluster ID [--rounds 10] [--bin DIR] [--conf FILE]

Run it as the token's owner, on a host with a portal and a Slurm cluster where that user has the jobs queued
(sbatch --hold --array=1-9000, and single ones). It times squeue as the PUN runs it, GET /api/v1/jobs, and a page of
100, in turn; and reads the most memory that the PUN had (VmHWM) after pages alone, and after whole lists. Nothing is
asserted.
"""

from __future__ import annotations

import os
import pwd
import statistics
import subprocess
import time
from pathlib import Path

from bench.common import arguments, connection_to, slurm_environment
from pun_app.adapters.slurm.squeue import queue_command


def main() -> None:
    given = arguments(__doc__, 10)
    account = pwd.getpwuid(os.geteuid())
    environment = slurm_environment(given)
    connection, headers = connection_to(given)

    argv = queue_command("|bench|", user=account.pw_name)

    def squeue() -> int:
        out = subprocess.run(
            [f"{given.bin}/{argv[0]}", *argv[1:]], env=environment, stdout=subprocess.PIPE, check=True
        ).stdout
        return out.count(b"\n")

    def get(query: str) -> int:
        connection.request("GET", f"/api/v1/jobs?cluster={given.cluster}{query}", headers=headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise SystemExit(f"{response.status} {content[:500].decode()}")
        return content.count(b'"job_id":')

    get("&limit=1")
    pun = _pun(account.pw_uid)
    before = _peak(pun)
    times: dict[str, list[float]] = {"squeue": [], "page of 100": [], "whole list": []}
    for _ in range(given.rounds):
        start = time.perf_counter()
        get("&limit=100")
        times["page of 100"].append(time.perf_counter() - start)
    after_pages = _peak(pun)
    jobs = squeue()
    for _ in range(given.rounds):
        for name, run in (("squeue", squeue), ("whole list", lambda: get(""))):
            start = time.perf_counter()
            found = run()
            times[name].append(time.perf_counter() - start)
    print(f"{jobs} jobs; {found} in the whole list")
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<12} {median:7.1f} ms (median of {len(times[name])})  {median / medians['squeue']:.2f} of squeue")
    print(f"the PUN's largest memory: {before} kB at first, {after_pages} after pages, {_peak(pun)} after whole lists")


def _pun(uid: int) -> int:
    """The pid of the user's PUN."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid and "punway" in (entry / "cmdline").read_text():
                return int(entry.name)
        except OSError:
            continue
    raise SystemExit("no PUN of this user is found")


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main()
