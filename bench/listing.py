"""A benchmark of long job lists: all jobs of one user, and a page of them, compared with squeue alone.

    python -m bench.listing --url URL --token-file FILE --cluster ID [--rounds 10] [--bin DIR] [--conf FILE]

Run it as the token's owner, on a host with a portal and a Slurm cluster where that user has many queued jobs (sbatch
--hold --array=1-9000, and single ones). It times squeue as the PUN runs it, GET /api/v1/jobs, and a page of 100 jobs,
in turn. It also reads the PUN's peak memory (VmHWM) after the pages, and again after the whole lists. Nothing is
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
from pun_app.adapters.slurm.squeue import jobs_command


def main() -> None:
    given = arguments(__doc__, 10)
    account = pwd.getpwuid(os.geteuid())
    environment = slurm_environment(given)
    connection, headers = connection_to(given)

    argv = jobs_command("|bench|", user=account.pw_name)

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
    print(f"peak memory of the PUN: {before} kB at first, {after_pages} after pages, {_peak(pun)} after whole lists")


def _pun(uid: int) -> int:
    """Return the pid of the user's PUN. Exits where there is none."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid and "punway" in (entry / "cmdline").read_text():
                return int(entry.name)
        except OSError:
            continue
    raise SystemExit("no PUN of this user was found; send a request with the token first")


def _peak(pid: int) -> int:
    """Return the peak memory of a process, in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main()
