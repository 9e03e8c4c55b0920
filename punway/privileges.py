"""The unix sockets that root makes, and the drop of root's privileges before a server starts to serve."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

BACKLOG = 65_535
"""Connections that the kernel queues, at most net.core.somaxconn. nginx answers 503 when the queue is full."""


def bind(path: Path, mode: int) -> socket.socket:
    """Return a listening unix socket of this mode, in place of one that an earlier process has left."""
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


def drop_privileges(user: pwd.struct_passwd) -> None:
    """Make this process an unprivileged user's for good, with a new environment. Raises SystemExit for root."""
    if user.pw_uid == 0:
        raise SystemExit(f"punway: {user.pw_name} must not be root; name another user in punway.toml")
    os.chdir("/")
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": "/", "USER": user.pw_name, "LANG": "C.UTF-8"})
