"""A benchmark of PUNs: the time to start one and its memory, for each way of spawning.

    sudo python bench/spawn.py [--rounds 10]

Needs root. Starts two portals of its own with the embedded scheduler and a temporary user. For each it times the first
response, for which the PUN must be started, and a second one, and reads the PUN's own memory (Private_Dirty of
smaps_rollup, in KiB) after the first response. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.system.portal import Portal, User, unique


def measure(way: str, folder: Path, user: User, rounds: int) -> tuple[float, float, float]:
    """Return median milliseconds of first and second responses, and median KiB of own memory."""
    portal = Portal(folder / way, "nobody", {"box": "v2:\n  job: {adapter: local}\n"}, {"spawn": way})
    cold, warm, memory = [], [], []
    try:
        client = portal.start().client(user)
        for _ in range(rounds):
            start = time.perf_counter()
            client("GET", "/api/v1/clusters")
            cold.append(time.perf_counter() - start)
            rollup = Path(f"/proc/{portal.pid_of(user)}/smaps_rollup").read_text()
            memory.append(
                next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_Dirty"))
            )
            start = time.perf_counter()
            client("GET", "/api/v1/clusters")
            warm.append(time.perf_counter() - start)
            portal.punway("admin", "stop", user.name)
            while portal.pid_of(user):
                time.sleep(0.05)
    finally:
        portal.stop()
    return statistics.median(cold) * 1000, statistics.median(warm) * 1000, statistics.median(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    user = User(unique("pwbench"))
    try:
        with tempfile.TemporaryDirectory(prefix="pwb-", dir="/tmp") as folder:
            Path(folder).chmod(0o755)
            for way in ("fork", "exec"):
                cold, warm, memory = measure(way, Path(folder), user, given.rounds)
                print(f"{way}: first answer {cold:.0f} ms, warm {warm:.1f} ms, own memory {memory / 1024:.1f} MiB")
    finally:
        user.remove()


if __name__ == "__main__":
    main()
