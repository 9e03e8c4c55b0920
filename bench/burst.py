"""A benchmark of a busy morning: the first requests of many users at once, each served by a process of its user.

    sudo python -m bench.burst [--users 500] [--way fork] [--idle-timeout 600] [--pause-spawner SECONDS] [--reload]

Needs root. Starts its own portal with the embedded scheduler and temporary users, and removes them afterwards. It
prints the number of responses by status and percentiles of their times, for up to three rounds: first requests without
any PUN (with --pause-spawner, the spawner is stopped at their beginning); with --reload, requests of all users during a
reload of all PUNs; and one more request of each user, which shows who is locked out. Nothing is asserted.

A PUN takes some 9 MB. Where the PUNs of all users do not fit into memory together, a short --idle-timeout ends those
that are idle.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import fcntl
import json
import os
import pwd
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.portal import PUNWAY, Portal, processes_of, unique
from tokens.token import issue

CLIENT_TIMEOUT_S = 330.0

Answer = tuple[str, float]


@dataclass
class Caller:
    """A user with a token, and an HTTP client."""

    name: str
    uid: int
    home: Path
    secret: str
    sha256: str

    async def send(self, port: int) -> Answer:
        """Send one request on a new connection, and return its status or error with the seconds that it took."""
        start = time.perf_counter()
        try:
            status = await asyncio.wait_for(self._status(port), CLIENT_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError, IndexError) as error:
            status = type(error).__name__
        return status, time.perf_counter() - start

    async def _status(self, port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET /api/v1/clusters HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        writer.write(f"{request}Authorization: Bearer {self.secret}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.split()[1].decode()

    def register(self, path: Path) -> None:
        """Register the token with the hook as the user, whom the hook learns from the kernel (SO_PEERCRED)."""
        child = os.fork()
        if child == 0:
            os.setresuid(self.uid, self.uid, self.uid)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(json.dumps({"action": "add", "hashes": [self.sha256]}).encode() + b"\n")
                os._exit(b'"ok": true' not in connection.recv(65_536))
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"the token of {self.name} could not be registered")


@contextmanager
def users(number: int, folder: Path) -> Iterator[list[Caller]]:
    """Create users with homes and tokens, and remove them afterwards.

    All are added to /etc/passwd at once, as useradd takes minutes for thousands of users.
    """
    prefix, first = unique("pwb"), max(200_000, *(entry.pw_uid + 1 for entry in pwd.getpwall() if entry.pw_uid < 2**30))
    callers, lines = [], []
    for index in range(number):
        token, secret = issue("bench")
        home = folder / f"{prefix}{index}"
        callers.append(Caller(home.name, first + index, home, secret, token.sha256))
        lines.append(f"{home.name}:x:{first + index}:{first + index}::{home}:/bin/sh\n")
        file = home / ".config" / "ondemand" / "tokens.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps([token.entry()]))
        for place, mode in ((home, 0o700), (home / ".config", 0o700), (file.parent, 0o700), (file, 0o600)):
            place.chmod(mode)
            os.chown(place, first + index, first + index)
    passwd = Path("/etc/passwd")
    with account_lock(), passwd.open("a") as file_of_all:
        file_of_all.writelines(lines)
    try:
        yield callers
    finally:
        with account_lock():
            remaining = [line for line in passwd.read_text().splitlines(keepends=True) if line not in set(lines)]
            new = Path(f"/etc/passwd.{prefix}")
            new.write_text("".join(remaining))
            new.chmod(0o644)
            new.rename(passwd)


@contextmanager
def account_lock() -> Iterator[None]:
    """Hold the lock that useradd and similar programs take (lckpwdf(3))."""
    with Path("/etc/.pwd.lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def show(what: str, answers: list[Answer]) -> None:
    """Print a line with the responses by status and the percentiles of their times."""
    times = sorted(seconds for _, seconds in answers)
    counts = ", ".join(f"{count} of {status}" for status, count in collections.Counter(s for s, _ in answers).items())
    at = {f"p{part}": times[min(len(times) - 1, len(times) * part // 100)] for part in (50, 90, 99)}
    print(
        f"{what}: {counts}; " + ", ".join(f"{k} {v:.2f} s" for k, v in at.items()) + f", last {times[-1]:.2f} s",
        flush=True,
    )


async def burst(callers: list[Caller], port: int) -> list[Answer]:
    """Send one request of each user at once."""
    return list(await asyncio.gather(*(caller.send(port) for caller in callers)))


async def paused_burst(callers: list[Caller], portal: Portal, seconds: float) -> list[Answer]:
    """Send one request of each user at once, while the spawner is stopped for some seconds."""
    spawner = portal.part("spawner")
    os.kill(spawner, signal.SIGSTOP)
    asked = asyncio.create_task(burst(callers, portal.port))
    await asyncio.sleep(seconds)
    os.kill(spawner, signal.SIGCONT)
    return await asked


async def reloaded(callers: list[Caller], portal: Portal) -> list[Answer]:
    """Send requests of all users until a reload is done, and then one more of each."""
    answers: list[Answer] = []
    done = asyncio.Event()

    async def send_until_done(caller: Caller) -> None:
        while not done.is_set():
            answers.append(await caller.send(portal.port))
        answers.append(await caller.send(portal.port))

    asked = asyncio.gather(*(send_until_done(caller) for caller in callers))
    argv = [*PUNWAY, "admin", "reload", "-c", str(portal.config)]
    command = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL)
    if await command.wait():
        raise SystemExit("the reload failed")
    done.set()
    await asked
    return answers


async def rounds(callers: list[Caller], portal: Portal, given: argparse.Namespace) -> None:
    """Run and print the rounds that the arguments ask for."""
    if given.pause_spawner:
        show(
            f"from cold, the spawner stopped for {given.pause_spawner} s",
            await paused_burst(callers, portal, given.pause_spawner),
        )
    else:
        show("from cold", await burst(callers, portal.port))
    if given.reload:
        show("during a reload", await reloaded(callers, portal))
    show("once more", await burst(callers, portal.port))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--way", choices=("fork", "exec"), default="fork")
    parser.add_argument("--idle-timeout", type=int, default=600, help="pun.idle_timeout, in seconds")
    parser.add_argument("--pause-spawner", type=float, metavar="SECONDS")
    parser.add_argument("--reload", action="store_true")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="pwb-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        clusters = {"box": "v2:\n  job: {adapter: local}\n"}
        rules = {"spawn": given.way, "idle_timeout": given.idle_timeout}
        portal = Portal(Path(folder) / "p", "nobody", clusters, rules, tables={"limits": {"flood": 0}})
        with users(given.users, Path(folder)) as callers:
            try:
                portal.start()
                for caller in callers:
                    caller.register(portal.run_dir / "register.sock")
                asyncio.run(rounds(callers, portal, given))
            finally:
                portal.stop()
                for caller in callers:
                    for pid in processes_of(caller.uid):
                        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
