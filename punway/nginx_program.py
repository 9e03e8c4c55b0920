"""The nginx program of this host: its path and its version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from punway.errors import CannotServe

_VERSION = re.compile(r"/([0-9]+(?:\.[0-9]+)+)")


def find_nginx() -> str:
    """Return the path of nginx. Raises CannotServe if it is not installed."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise CannotServe("nginx is not installed; run: apt-get install nginx (Debian) or dnf install nginx (RHEL)")
    return found


def nginx_version() -> tuple[int, ...]:
    """Return nginx's version, such as (1, 22, 1); empty if nginx is missing or prints no version."""
    try:
        done = subprocess.run([find_nginx(), "-v"], capture_output=True, text=True, check=False, timeout=10)
    except (CannotServe, OSError, subprocess.TimeoutExpired):
        return ()
    match = _VERSION.search(done.stderr)
    return tuple(int(number) for number in match[1].split(".")) if match else ()
