"""What a busy morning does: the first requests of many users, all at once, each by a process of that user.

    sudo python -m bench.burst [--users 500] [--way fork] [--idle-timeout 600] [--pause-spawner SECONDS] [--reload]

Needs root. Brings up a portal of its own, with users made for it and the embedded scheduler, and removes them. It
prints how many answers there were of each status, and percentiles of their times: for the burst from cold, with the
spawner stopped at its beginning if asked to; with --reload for requests of all users while all PUNs are reloaded, and
after it; and for one more round at the end, which shows who has been locked out. Nothing is asserted.

A PUN takes some 9 MB: where the PUNs of all users do not fit into memory together, --idle-timeout has them leave early.
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

LONGEST = 330.0
"""Seconds that a client waits."""

Answer = tuple[str, float]


@dataclass
class Caller:
    """One user with a token, and a client of theirs."""

    name: str
    uid: int
    home: Path
    secret: str
    sha256: str

    async def ask(self, port: int) -> Answer:
        """One request on a connection of its own: its status, and the seconds that it took."""
        start = time.perf_counter()
        try:
            status = await asyncio.wait_for(self._status(port), LONGEST)
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
        """Tell the front of the token, as the user: the kernel says whose it is."""
        child = os.fork()
        if child == 0:
            os.setresuid(self.uid, self.uid, self.uid)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(json.dumps({"do": "add", "hashes": [self.sha256]}).encode() + b"\n")
                os._exit(b'"ok": true' not in connection.recv(65_536))
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"the token of {self.name} could not be registered")


@contextmanager
def users(number: int, folder: Path) -> Iterator[list[Caller]]:
    """So many users with homes and tokens, made and removed in one go: useradd takes minutes for thousands."""
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
            kept = [line for line in passwd.read_text().splitlines(keepends=True) if line not in set(lines)]
            new = Path(f"/etc/passwd.{prefix}")
            new.write_text("".join(kept))
            new.chmod(0o644)
            new.rename(passwd)


@contextmanager
def account_lock() -> Iterator[None]:
    """The lock that useradd and its like take (lckpwdf(3))."""
    with Path("/etc/.pwd.lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def show(what: str, answers: list[Answer]) -> None:
    times = sorted(seconds for _, seconds in answers)
    counts = ", ".join(f"{count} of {status}" for status, count in collections.Counter(s for s, _ in answers).items())
    at = {f"p{part}": times[min(len(times) - 1, len(times) * part // 100)] for part in (50, 90, 99)}
    print(
        f"{what}: {counts}; " + ", ".join(f"{k} {v:.2f} s" for k, v in at.items()) + f", last {times[-1]:.2f} s",
        flush=True,
    )


async def burst(callers: list[Caller], port: int) -> list[Answer]:
    return list(await asyncio.gather(*(caller.ask(port) for caller in callers)))


async def paused_burst(callers: list[Caller], portal: Portal, seconds: float) -> list[Answer]:
    spawner = portal.part("spawner")
    os.kill(spawner, signal.SIGSTOP)
    asked = asyncio.create_task(burst(callers, portal.port))
    await asyncio.sleep(seconds)
    os.kill(spawner, signal.SIGCONT)
    return await asked


async def reloaded(callers: list[Caller], portal: Portal) -> list[Answer]:
    """Requests of all users until the reload is done, and one more of each."""
    answers: list[Answer] = []
    done = asyncio.Event()

    async def ask_on(caller: Caller) -> None:
        while not done.is_set():
            answers.append(await caller.ask(portal.port))
        answers.append(await caller.ask(portal.port))

    asked = asyncio.gather(*(ask_on(caller) for caller in callers))
    argv = [*PUNWAY, "admin", "reload", "-c", str(portal.config)]
    command = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL)
    if await command.wait():
        raise SystemExit("the reload failed")
    done.set()
    await asked
    return answers


async def rounds(callers: list[Caller], portal: Portal, given: argparse.Namespace) -> None:
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
