"""A benchmark of requests against the scheduler's own commands: two ratios from one run.

    python -m bench.ratios --url URL --token-file FILE --cluster ID [--rounds 100] [--bin DIR] [--conf FILE]

Run it as the token's owner, on a host with a portal and a Slurm cluster. It times squeue as the PUN runs it, GET
/api/v1/jobs without the cache (Cache-Control: no-cache), sbatch, and POST /api/v1/jobs, in turn, so that other load on
the machine affects all four. It prints medians and the two ratios. Nothing is asserted. Its jobs are held, so that none
starts during the measurement, and are cancelled at the end.
"""

from __future__ import annotations

import json
import os
import pwd
import statistics
import subprocess
import time
from collections.abc import Callable

from bench.common import arguments, connection_to, slurm_environment
from pun_app.adapters.model import JobRequest
from pun_app.adapters.slurm.sbatch import submit_command
from pun_app.adapters.slurm.squeue import jobs_command

NAME = "punway-bench"
SCRIPT = "#!/bin/sh\ntrue\n"


def main() -> None:
    given = arguments(__doc__, 100)
    account = pwd.getpwuid(os.geteuid())
    environment = slurm_environment(given)
    connection, headers = connection_to(given)

    def command(argv: list[str], stdin: str = "") -> Callable[[], None]:
        argv = [f"{given.bin}/{argv[0]}", *argv[1:]]

        def run() -> None:
            # Read the output, as a PUN does.
            subprocess.run(argv, input=stdin.encode(), env=environment, stdout=subprocess.PIPE, check=True)

        return run

    def request(method: str, path: str, body: object = None) -> Callable[[], None]:
        def run() -> None:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            content = response.read()
            if response.status >= 300:
                raise SystemExit(f"{method} {path}: {response.status} {content.decode()}")

        return run

    submit = {
        "cluster": given.cluster,
        "script": {"content": SCRIPT, "workdir": "/tmp"},
        "options": {"output_path": "/dev/null", "job_name": NAME, "native": ["--hold"]},
    }
    batch = JobRequest(SCRIPT, "/tmp", output_path="/dev/null", job_name=NAME, native=("--hold",))
    timed = {
        "squeue": command(jobs_command("|bench|", user=account.pw_name)),
        "GET /api/v1/jobs": request("GET", f"/api/v1/jobs?cluster={given.cluster}"),
        "sbatch": command(submit_command(batch), SCRIPT),
        "POST /api/v1/jobs": request("POST", "/api/v1/jobs", submit),
    }
    times: dict[str, list[float]] = {name: [] for name in timed}
    for name in ("GET /api/v1/jobs", "squeue"):
        timed[name]()  # warm
    for _ in range(given.rounds):
        for name, run in timed.items():
            if name.startswith(("sbatch", "POST")) and len(times[name]) >= given.rounds // 5:
                continue
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    command(["scancel", f"--name={NAME}"])()
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<18} {median:7.2f} ms (median of {len(times[name])})")
    print(f"GET / squeue       {medians['GET /api/v1/jobs'] / medians['squeue']:.2f}")
    print(f"POST / sbatch      {medians['POST /api/v1/jobs'] / medians['sbatch']:.2f}")


if __name__ == "__main__":
    main()
