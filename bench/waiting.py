"""What requests that wait cost the others, and what they cost the process that they wait in.

    ulimit -n 65536; sudo python -m bench.waiting [--users 10] [--waiting 200] [--seconds 10]

Needs root, and Debian's Slurm and nginx. Brings up a Slurm cluster and a portal of its own, with users made for it.
Each user has ``--waiting`` requests that wait for ten held jobs. One more user asks for whoami and for the list of
jobs in turn, a request every 20 ms for ``--seconds``, first alone and then while the others wait; each is timed from
the moment when it was due, so that a pause counts for all requests that it delays. Then the jobs are cancelled, and
every waiting request is read to its end. For one of the PUNs it prints threads and own memory (Private_Dirty and
Private_Clean of smaps_rollup) before, during and after. Nothing is asserted.
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

JOBS = 10
PACE_S = 0.02
FAST = ("/api/v1/whoami", "/api/v1/jobs?cluster=owens&limit=10")


def ask(client: Client, port: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each of one client's requests, by address."""
    times: dict[str, list[float]] = {path: [] for path in FAST}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {client.token}", "Cache-Control": "no-cache"}
    due, end = time.perf_counter(), time.perf_counter() + seconds
    while due < end:
        for path in FAST:
            due += PACE_S
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
    for path, values in times.items():
        tiles = statistics.quantiles(values, n=100)
        print(f"{name:18} {path:36} {len(values):5} requests  p50 {tiles[49]:6.1f} ms  p99 {tiles[98]:6.1f} ms")


def wait_on(client: Client, port: int, job: str) -> socket.socket:
    """The connection of a request that waits for a job."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=330)
    connection.sendall(
        f"GET /api/v1/jobs/{job}?cluster=owens&wait=300 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {client.token}\r\nConnection: close\r\n\r\n".encode()
    )
    return connection


def status_of(connection: socket.socket) -> str:
    """The status of the answer, which is read to its end."""
    answer = b""
    while part := connection.recv(65_536):
        answer += part
    connection.close()
    return answer[9:12].decode()


def state_of(pid: int) -> str:
    threads = len(os.listdir(f"/proc/{pid}/task"))
    return f"{threads} threads, {memory(pid)[1]:.1f} MiB own"


def measure(portal: Portal, users: list[User], fast: User, waiting: int, seconds: float) -> None:
    clients = [portal.client(user) for user in users]
    quick = portal.client(fast)
    held = {"cluster": "owens", "script": {"content": "#!/bin/sh\nsleep 1\n"}, "options": {"hold": True}}
    jobs = [[client.data("POST", "/api/v1/jobs", held, 201)["job_id"] for _ in range(JOBS)] for client in clients]
    pids = [portal.pid_of(user) for user in users]
    ask(quick, portal.port, 1)
    show("alone", ask(quick, portal.port, seconds))
    print(f"a PUN before: {state_of(pids[0])}")
    connections = [
        wait_on(client, portal.port, jobs[number][request % JOBS])
        for number, client in enumerate(clients)
        for request in range(waiting)
    ]
    wait_for("all to wait", lambda: all(len(os.listdir(f"/proc/{pid}/fd")) >= waiting for pid in pids), 120)
    ask(quick, portal.port, 5)
    show(f"beside {len(connections)}", ask(quick, portal.port, seconds))
    print(f"a PUN with {waiting} that wait: {state_of(pids[0])}")
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
