"""``punway admin``: the PUNs, and ending one. Asks the spawner over RUN/spawner.sock, as root.

The protocol is in spawner/wire.py: one JSON object a datagram of a SOCK_SEQPACKET socket.
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

_MESSAGE_SIZE = 64 * 1024
_PATIENCE = 12.0


def ps(config: Config, _arguments: argparse.Namespace) -> int:
    """The PUNs that there are."""
    answer = _ask(config.run_dir / "spawner.sock", {"ask": "ps"})
    print(f"{'USER':<24} {'UID':>8} {'PID':>8}  {'STATE':<10} {'SECONDS':>8}")
    for row in answer["puns"]:
        print(f"{row['name']:<24} {row['uid']:>8} {row['pid']:>8}  {row['state']:<10} {row['seconds']:>8}")
    if answer["count"] > len(answer["puns"]):
        print(f"… and {answer['count'] - len(answer['puns'])} more")
    return 0


def stop(config: Config, arguments: argparse.Namespace) -> int:
    """End a user's PUN after what is in flight; the next request starts another."""
    answer = _ask(config.run_dir / "spawner.sock", {"ask": "stop", "name": arguments.user})
    if not answer["stopped"]:
        print(f"{arguments.user} has no PUN", file=sys.stderr)
        return 1
    print(f"The PUN of {arguments.user} leaves after what is in flight.")
    return 0


def reload(config: Config, _arguments: argparse.Namespace) -> int:
    """Take new code after an upgrade: each PUN leaves after what is in flight, and no request is lost."""
    _ask(config.run_dir / "spawner.sock", {"ask": "reload"})
    print("PUNs start with new code from now on; those that run leave after what is in flight.")
    return 0


def add_commands(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """``punway admin …``."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run in (("ps", ps), ("stop", stop), ("reload", reload)):
        said = str(run.__doc__)
        command = commands.add_parser(name, parents=[common], help=said[0].lower() + said[1:-1], description=said)
        command.set_defaults(run=run)
        if name == "stop":
            command.add_argument("user", metavar="USER")


def _ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """One question to the spawner, and its answer. Raises SpawnerError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(str(path))
            connection.sendall(json.dumps({"id": 1, **request}).encode())
            data = connection.recv(_MESSAGE_SIZE)
    except PermissionError as error:
        raise SpawnerError(f"only root may ask the spawner ({path})") from error
    except OSError as error:
        raise SpawnerError(
            f"the spawner does not answer at {path} ({error.strerror}); is the portal running?"
        ) from error
    if not data:
        raise SpawnerError("the spawner ended the conversation; only root may ask this")
    answer: dict[str, Any] = json.loads(data)
    return answer
