"""``punway admin``: commands that list, stop and reload PUNs. They ask the spawner, as root, over RUN/spawner.sock.

spawner/wire.py describes the protocol: one JSON object per datagram of a SOCK_SEQPACKET socket.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from pathlib import Path
from typing import Any

from proxy_hook.config import Config
from punway.errors import SpawnerError

_MAX_MESSAGE_BYTES = 64 * 1024
_TIMEOUT_S = 12.0
_HELP = {
    "ps": "list the per-user processes",
    "stop": "stop a user's process",
    "reload": "restart all per-user processes with new code, after an upgrade",
}


def ps(config: Config, _arguments: argparse.Namespace) -> int:
    """List the per-user processes: user, uid, pid, state, and the seconds for which they have been in that state."""
    answer = _ask(config.run_dir / "spawner.sock", {"ask": "ps"})
    print(f"{'USER':<24} {'UID':>8} {'PID':>8}  {'STATE':<10} {'SECONDS':>8}")
    for row in answer["puns"]:
        print(f"{row['name']:<24} {row['uid']:>8} {row['pid']:>8}  {row['state']:<10} {row['seconds']:>8}")
    if answer["count"] > len(answer["puns"]):
        print(f"… and {answer['count'] - len(answer['puns'])} more")
    return 0


def stop(config: Config, arguments: argparse.Namespace) -> int:
    """Stop a user's process once its requests in flight are finished. The user's next request starts another one."""
    answer = _ask(config.run_dir / "spawner.sock", {"ask": "stop", "name": arguments.user})
    if not answer["stopped"]:
        print(f"punway: {arguments.user} has no PUN; punway admin ps lists the PUNs", file=sys.stderr)
        return 1
    print(f"The PUN of {arguments.user} stops once its requests in flight are finished.")
    return 0


def reload(config: Config, _arguments: argparse.Namespace) -> int:
    """Restart all per-user processes with new code, after an upgrade. Requests in flight are finished first."""
    _ask(config.run_dir / "spawner.sock", {"ask": "reload"})
    print("New PUNs run the new code. Running PUNs stop once their requests in flight are finished.")
    return 0


def add_commands(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Add the commands of ``punway admin`` to its parser. ``common`` has the options that every command takes."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run in (("ps", ps), ("stop", stop), ("reload", reload)):
        command = commands.add_parser(name, parents=[common], help=_HELP[name], description=run.__doc__)
        command.set_defaults(run=run)
        if name == "stop":
            command.add_argument("user", metavar="USER", help="the user whose process stops")


def _ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Send a request to the spawner and return its answer. Raises SpawnerError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(json.dumps({"id": 1, **request}).encode())
            data = connection.recv(_MAX_MESSAGE_BYTES)
    except PermissionError as error:
        raise SpawnerError(f"only root may use punway admin: {path} is root's; run it with sudo") from error
    except OSError as error:
        raise SpawnerError(
            f"the spawner does not answer at {path} ({error.strerror or error}); check that the portal is running"
        ) from error
    if not data:
        raise SpawnerError("the spawner closed the connection: only root may use punway admin; run it with sudo")
    answer: dict[str, Any] = json.loads(data)
    return answer
