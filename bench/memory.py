"""A benchmark of memory: a table of the processes of a portal that has answered some requests.

    sudo python bench/memory.py

Needs root. Starts its own portal with the embedded scheduler and with temporary users. ``resident`` is the memory that
ps shows. ``own`` is the memory that no other process shares (Private_Dirty and Private_Clean of smaps_rollup), which
is the cost of one more such process. Nothing is asserted.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from tests.system.portal import Portal, User, children_of, unique


def memory(pid: int) -> tuple[float, float]:
    """Return the resident and the own memory of a process, in MiB."""
    kib = dict(re.findall(r"^(\w+): +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    return int(kib["Rss"]) / 1024, (int(kib["Private_Dirty"]) + int(kib["Private_Clean"])) / 1024


def main() -> None:
    mcp_user = unique("pwbmcp")
    users = [User(unique("pwbench")) for _ in range(2)]
    subprocess.run(["useradd", "--system", "--no-create-home", mcp_user], check=True)
    try:
        with tempfile.TemporaryDirectory(prefix="pwb-", dir="/tmp") as folder:
            Path(folder).chmod(0o755)
            clusters = {"box": "v2:\n  job: {adapter: local}\n"}
            portal = Portal(Path(folder) / "m", "nobody", clusters, mcp_user=mcp_user)
            try:
                portal.start()
                for user in users:
                    client = portal.client(user)
                    call = {"name": "list_jobs", "arguments": {"cluster": "box"}}
                    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
                    for _ in range(50):
                        client("POST", "/mcp", message, headers={"Accept": "application/json, text/event-stream"})
                spawner, nginx = portal.part("spawner"), portal.part("nginx")
                processes = {
                    "nginx, master": nginx,
                    "nginx, a worker": children_of(nginx)[0],
                    "hook": portal.part("hook"),
                    "relay": portal.part("relay"),
                    "spawner": spawner,
                    "preloader": next(pid for pid in children_of(spawner) if pid != portal.pid_of(users[0])),
                    "MCP server": portal.part("mcp"),
                    "a PUN": portal.pid_of(users[0]),
                    "another PUN": portal.pid_of(users[1]),
                }
                for name, pid in processes.items():
                    resident, own = memory(pid)
                    print(f"{name:16} {resident:6.1f} MiB resident {own:6.1f} MiB own")
            finally:
                portal.stop()
    finally:
        for user in users:
            user.remove()
        subprocess.run(["userdel", mcp_user], check=False)


if __name__ == "__main__":
    main()
