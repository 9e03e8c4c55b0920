"""The arguments, the environment and the connection that the benchmarks against a running portal share."""

from __future__ import annotations

import argparse
import http.client
import os
import pwd
from pathlib import Path
from urllib.parse import urlsplit


def arguments(description: str | None, rounds: int) -> argparse.Namespace:
    """Parse the command line. ``rounds`` is the default number of rounds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file", required=True, type=Path)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--bin", default="/usr/bin")
    parser.add_argument("--conf", help="SLURM_CONF")
    return parser.parse_args()


def slurm_environment(given: argparse.Namespace) -> dict[str, str]:
    """Return the environment in which a PUN runs Slurm's reading commands."""
    home = pwd.getpwuid(os.geteuid()).pw_dir
    environment = {"HOME": home, "PATH": "/usr/bin:/bin", "SLURM_TIME_FORMAT": "%s"}
    return environment | ({"SLURM_CONF": given.conf} if given.conf else {})


def connection_to(given: argparse.Namespace) -> tuple[http.client.HTTPConnection, dict[str, str]]:
    """Return a connection, and headers that bypass the PUN's cache."""
    address = urlsplit(given.url)
    token = given.token_file.read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Cache-Control": "no-cache", "Content-Type": "application/json"}
    return http.client.HTTPConnection(str(address.hostname), address.port or 80), headers
