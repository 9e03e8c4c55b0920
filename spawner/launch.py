"""Bind the listeners, and start the preloader, to which one at a time is handed. Runs as root, in the spawner.

A listener belongs to the spawner and outlives the PUNs that accept on it: while none lives, connections
wait in the kernel. The spawner itself never forks a user's process; the preloader does, which holds nothing.
"""

import os
import socket
import stat
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spawner import wire
from spawner.eligible import Rules

BACKLOG = 1024  # Connections that wait in the kernel while a user's PUN starts.


@dataclass(frozen=True)
class Birth:
    """How every PUN starts; ``app_settings`` is JSON for the app alone, opaque here."""

    rules: Rules
    change_ids: bool
    no_new_privs: bool
    environment: dict[str, str]
    app_settings: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Birth":
        return cls(**{**data, "rules": Rules(**data["rules"])})


@dataclass(frozen=True)
class Settings:
    """What ``punway spawner`` hands over, checked there. ``hook_uid`` may ask, ``nginx_gid`` may connect.

    ``app`` names the app's function by a string, MODULE:FUNCTION (child.py, Live). ``birth`` is the JSON of a Birth,
    which the preloader is given with each name.
    """

    run_dir: str
    hook_uid: int
    nginx_gid: int
    spawn: str
    app: str
    birth: dict[str, Any]

    def folder(self, name: str = "") -> Path:
        """RUN/puns, or a user's folder in it."""
        return Path(self.run_dir) / "puns" / name


def prepare_folder(settings: Settings) -> None:
    """Make RUN/puns, or take over an earlier spawner's with its sockets removed. Raises OSError."""
    _own_folder(settings.folder(), settings)
    for folder in settings.folder().iterdir():
        remove(folder)


def bind(settings: Settings, name: str) -> tuple[str, socket.socket]:
    """The listener of one user and its path, in a folder that only nginx's group may enter. Raises OSError."""
    _own_folder(settings.folder(name), settings)
    path = settings.folder(name) / "pun.sock"
    return str(path), listen(path, socket.SOCK_STREAM, 0o660, os.geteuid(), settings.nginx_gid)


def listen(path: Path, kind: int, mode: int, uid: int, gid: int) -> socket.socket:
    """A listener of this mode and owner from its first moment on."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    umask = os.umask(0o777)
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    os.chown(path, uid, gid, follow_symlinks=False)
    path.chmod(mode)
    listener.listen(BACKLOG)
    return listener


def remove(folder: Path) -> None:
    """Take a user's socket and its folder away. Raises OSError where something else is in it."""
    (folder / "pun.sock").unlink(missing_ok=True)
    folder.rmdir()


def _own_folder(folder: Path, settings: Settings) -> None:
    """Make a folder, or check that the one there is the spawner's: nobody else's is ever used."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NotADirectoryError(f"{folder} is not the spawner's own directory")
    os.chown(folder, -1, settings.nginx_gid, follow_symlinks=False)
    folder.chmod(0o750)


class Preloader:
    """The spawner's end of one preloader process; it ends with its PUNs when ``channel`` is closed, or let go."""

    def __init__(self, settings: Settings) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self._signals: deque[wire.Message] = deque()
        module = "spawner.preloader"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", module, settings.spawn, settings.app, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def signal(self, pid: int, number: int) -> None:
        """Have it send a signal to a child."""
        self._signals.append({"signal": pid, "number": number})
        self.flush()

    def flush(self) -> None:
        """Send what waits; where the channel is full, the rest waits on."""
        with suppress(OSError):
            while self._signals:
                wire.send(self.channel, self._signals[0])
                self._signals.popleft()

    def let_go(self) -> None:
        """Have it end when its PUNs have finished what is in flight, however long that takes (preloader.py, _end)."""
        self.channel.shutdown(socket.SHUT_WR)
