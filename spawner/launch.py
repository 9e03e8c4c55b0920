"""The listeners of PUNs and the spawner's end of a preloader process. Runs as root, in the spawner.

A user's listener belongs to the spawner and outlives the PUNs that accept connections on it. While the user has no PUN,
connections wait in the kernel. The spawner never forks a user's process: the preloader does, and it holds no secrets.
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

BACKLOG = 1024  # The maximum number of connections that wait in the kernel while a user's PUN starts.


@dataclass(frozen=True)
class SpawnSettings:
    """The settings with which every PUN starts. ``app_settings`` is JSON that only the app reads."""

    rules: Rules
    change_ids: bool
    no_new_privs: bool
    environment: dict[str, str]
    app_settings: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SpawnSettings":
        """Return the settings in ``data``, a parsed JSON object."""
        return cls(**{**data, "rules": Rules(**data["rules"])})


@dataclass(frozen=True)
class Settings:
    """The spawner's settings. ``punway spawner`` checks them and passes them on.

    ``hook_uid`` may send requests to the spawner. Processes of the group ``nginx_gid`` may connect to PUNs.
    ``start_method`` is fork or exec (child.py). ``app`` names the app's function as MODULE:FUNCTION (child.py, Serve).
    ``spawn_settings`` is the JSON object of a SpawnSettings; the preloader gets it with each start.
    """

    run_dir: str
    hook_uid: int
    nginx_gid: int
    start_method: str
    app: str
    spawn_settings: dict[str, Any]

    def folder(self, name: str = "") -> Path:
        """Return RUN/puns, or the folder of the user ``name`` in it."""
        return Path(self.run_dir) / "puns" / name


def prepare_folder(settings: Settings) -> None:
    """Create RUN/puns, or reuse that of an earlier spawner and remove its sockets. Raises OSError."""
    _own_folder(settings.folder(), settings)
    for folder in settings.folder().iterdir():
        remove(folder)


def bind(settings: Settings, name: str) -> tuple[str, socket.socket]:
    """Create a user's listener in a folder that only nginx's group may enter. Return its path and socket.

    Raises OSError.
    """
    _own_folder(settings.folder(name), settings)
    path = settings.folder(name) / "pun.sock"
    return str(path), listen(path, socket.SOCK_STREAM, 0o660, os.geteuid(), settings.nginx_gid)


def listen(path: Path, kind: int, mode: int, uid: int, gid: int) -> socket.socket:
    """Return a listener at ``path``. Until it has its mode and owner, only root can connect. Raises OSError."""
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
    """Remove a user's socket and folder. Raises OSError if the folder holds anything else."""
    (folder / "pun.sock").unlink(missing_ok=True)
    folder.rmdir()


def _own_folder(folder: Path, settings: Settings) -> None:
    """Create a folder, or check that an existing one belongs to the spawner and is not a link. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NotADirectoryError(f"{folder} is not a directory of the spawner's own user")
    os.chown(folder, -1, settings.nginx_gid, follow_symlinks=False)
    folder.chmod(0o750)


class Preloader:
    """The spawner's end of a preloader process, which ends when ``channel`` is closed or ``let_go`` is called."""

    def __init__(self, settings: Settings) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self._signals: deque[wire.Message] = deque()
        arguments = [settings.start_method, settings.app, str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "spawner.preloader", *arguments],
                stdin=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def signal(self, pid: int, number: int) -> None:
        """Ask the preloader to send a signal to one of its children."""
        self._signals.append({"signal": pid, "number": number})
        self.flush()

    def flush(self) -> None:
        """Send pending signals. Those that do not fit into the channel stay pending."""
        with suppress(OSError):
            while self._signals:
                wire.send(self.channel, self._signals[0])
                self._signals.popleft()

    def let_go(self) -> None:
        """Tell the preloader to end, together with its PUNs, after their requests in flight (preloader.py)."""
        self.channel.shutdown(socket.SHUT_WR)
