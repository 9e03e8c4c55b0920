"""Sockets that root makes, and the unprivileged users that parts of the front become before they serve."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

BACKLOG = 65_535
"""Connections that wait in the kernel; it takes as many as net.core.somaxconn says. nginx answers 503 beyond that."""


def bind(path: Path, mode: int) -> socket.socket:
    """A listening unix socket with that mode, in place of one that is left over."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    path.chmod(mode)
    listener.listen(BACKLOG)
    return listener


def become(entry: pwd.struct_passwd) -> None:
    """Be that user for good, with an environment of its own. Raises SystemExit for root."""
    if entry.pw_uid == 0:
        raise SystemExit(f"punway: {entry.pw_name} must not be root")
    os.chdir("/")
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": "/", "USER": entry.pw_name, "LANG": "C.UTF-8"})
