"""A benchmark of long polls: their effect on other requests, and the threads and memory of their PUN.

    ulimit -n 65536; sudo python -m bench.waiting [--users 10] [--waiting 200] [--seconds 10]

Needs root, and Debian's Slurm and nginx. Starts its own Slurm cluster and portal, with temporary users. Each user
opens ``--waiting`` long polls on ten held jobs. One more user requests whoami and the list of jobs in turn, every 20
ms for ``--seconds``, first alone and then during the long polls. Each request is timed from the moment when it was
due, so that a pause counts for all requests that it delays. Then the jobs are cancelled, and every long poll is read
to its end. It prints the threads and the own memory of one PUN (Private_Dirty and Private_Clean of smaps_rollup)
before, during and after the long polls. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.memory import memory
from tests.system.portal import Client, Portal, User, unique
from tests.system.slurm import SlurmCluster, wait_for

JOBS_PER_USER = 10
REQUEST_INTERVAL_S = 0.02
PATHS = ("/api/v1/whoami", "/api/v1/jobs?cluster=owens&limit=10")


def send_requests(client: Client, port: int, seconds: float) -> dict[str, list[float]]:
    """Send requests for some seconds, and return the milliseconds of each by its path."""
    times: dict[str, list[float]] = {path: [] for path in PATHS}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {client.token}", "Cache-Control": "no-cache"}
    due, end = time.perf_counter(), time.perf_counter() + seconds
    while due < end:
        for path in PATHS:
            due += REQUEST_INTERVAL_S
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            times[path].append((time.perf_counter() - due) * 1000)
            if answer.status != 200:
                raise SystemExit(f"{path}: {answer.status}")
    connection.close()
    return times


def show(name: str, times: dict[str, list[float]]) -> None:
    """Print a line with percentiles for each path."""
    for path, values in times.items():
        tiles = statistics.quantiles(values, n=100)
        print(f"{name:18} {path:36} {len(values):5} requests  p50 {tiles[49]:6.1f} ms  p99 {tiles[98]:6.1f} ms")


def open_long_poll(client: Client, port: int, job: str) -> socket.socket:
    """Open a long poll on a job, and return its connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=330)
    connection.sendall(
        f"GET /api/v1/jobs/{job}?cluster=owens&wait=300 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {client.token}\r\nConnection: close\r\n\r\n".encode()
    )
    return connection


def status_of(connection: socket.socket) -> str:
    """Read a response to its end, and return its status."""
    answer = b""
    while part := connection.recv(65_536):
        answer += part
    connection.close()
    return answer[9:12].decode()


def state_of(pid: int) -> str:
    """Return the threads and the own memory of a process as text."""
    threads = len(os.listdir(f"/proc/{pid}/task"))
    return f"{threads} threads, {memory(pid)[1]:.1f} MiB own"


def measure(portal: Portal, users: list[User], fast: User, waiting: int, seconds: float) -> None:
    """Run the benchmark. ``users`` open the long polls, and ``fast`` sends the timed requests."""
    clients = [portal.client(user) for user in users]
    quick = portal.client(fast)
    held = {"cluster": "owens", "script": {"content": "#!/bin/sh\nsleep 1\n"}, "options": {"hold": True}}
    jobs = [
        [client.data("POST", "/api/v1/jobs", held, 201)["job_id"] for _ in range(JOBS_PER_USER)] for client in clients
    ]
    pids = [portal.pid_of(user) for user in users]
    send_requests(quick, portal.port, 1)
    show("alone", send_requests(quick, portal.port, seconds))
    print(f"a PUN before: {state_of(pids[0])}")
    connections = [
        open_long_poll(client, portal.port, jobs[number][request % JOBS_PER_USER])
        for number, client in enumerate(clients)
        for request in range(waiting)
    ]
    wait_for(
        "all long polls to be open", lambda: all(len(os.listdir(f"/proc/{pid}/fd")) >= waiting for pid in pids), 120
    )
    send_requests(quick, portal.port, 5)
    show(f"with {len(connections)} polls", send_requests(quick, portal.port, seconds))
    print(f"a PUN with {waiting} long polls: {state_of(pids[0])}")
    for number, client in enumerate(clients):
        for job in jobs[number]:
            client.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")
    statuses = [status_of(connection) for connection in connections]
    print("answers: " + ", ".join(f"{statuses.count(status)} of {status}" for status in sorted(set(statuses))))
    print(f"a PUN after the last answer: {state_of(pids[0])}")
    time.sleep(10)
    print(f"a PUN ten seconds later: {state_of(pids[0])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--waiting", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    hook = unique("pwbhook")
    subprocess.run(["useradd", "--system", "--no-create-home", hook], check=True)
    users = [User(unique("pwbench")) for _ in range(given.users + 1)]
    try:
        with tempfile.TemporaryDirectory(prefix="pwb-", dir="/tmp") as name:
            folder = Path(name)
            folder.chmod(0o755)
            (folder / "slurm").mkdir()
            cluster = SlurmCluster(folder / "slurm", [user.name for user in users])
            job = f"{{adapter: slurm, bin: /usr/bin, conf: {cluster.conf}}}"
            portal = Portal(folder / "p", hook, {"owens": f"v2:\n  job: {job}\n"})
            try:
                cluster.start()
                portal.start()
                measure(portal, users[1:], users[0], given.waiting, given.seconds)
            finally:
                portal.stop()
                cluster.stop()
    finally:
        for user in users:
            user.remove()
        subprocess.run(["userdel", hook], check=False)


if __name__ == "__main__":
    main()
