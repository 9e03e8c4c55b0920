"""Bind and hold the listeners, and hand one to the preloader. Runs as root, in the spawner.

A listener belongs to the spawner and outlives the PUNs that accept on it: while none lives, connections
wait in the kernel's queue and the spawner watches the socket. The spawner itself never forks a user's
process; the preloader does, which holds nothing.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proxy_hook.spawner import wire
from proxy_hook.spawner.eligible import Rules

BACKLOG = 1024
"""Connections that wait in the kernel while a user's PUN starts."""
LISTENER = 3
"""The descriptor on which a fresh interpreter finds its listener."""
STOP_TIME = 10.0
"""Seconds that a PUN has for what is in flight when it is told to leave."""
LAST_STAGE = "home"
"""What a child reports last (preloader.py)."""


@dataclass(frozen=True)
class Ticket:
    """All that is needed to start one PUN; ``app_settings`` is JSON for the app alone, opaque here."""

    name: str
    uid: int
    rules: Rules
    change_ids: bool
    no_new_privs: bool
    environment: dict[str, str]
    app_settings: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ticket:
        return cls(**{**data, "rules": Rules(**data["rules"])})


@dataclass(frozen=True)
class Settings:
    """What ``punway spawner`` hands over, checked there. ``hook_uid`` may ask, ``nginx_gid`` may connect.

    ``app`` names the app by a string: MODULE:FUNCTION where ``spawn`` is fork, a module to run for exec.
    """

    run_dir: str
    hook_uid: int
    nginx_gid: int
    spawn: str
    app: str
    single_user: bool
    rules: Rules
    no_new_privs: bool
    environment: dict[str, str]
    app_settings: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Settings:
        return cls(**{**data, "rules": Rules(**data["rules"])})

    def folder(self, name: str = "") -> Path:
        """RUN/puns, or a user's folder in it."""
        return Path(self.run_dir) / "puns" / name

    def ticket(self, name: str, uid: int) -> Ticket:
        return Ticket(
            name, uid, self.rules, not self.single_user, self.no_new_privs, self.environment, self.app_settings
        )


def prepare_folder(settings: Settings) -> None:
    """Make RUN/puns, or take over an earlier spawner's with its sockets removed. Raises OSError."""
    _own_folder(settings.folder(), settings)
    for folder in settings.folder().iterdir():
        remove(folder)


def bind(settings: Settings, name: str) -> socket.socket:
    """The listener of one user, in a folder that only nginx's group may enter. Raises OSError."""
    folder = settings.folder(name)
    _own_folder(folder, settings)
    path = folder / "pun.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(str(path))
    if not settings.single_user:
        os.chown(path, 0, settings.nginx_gid, follow_symlinks=False)
    path.chmod(0o660)
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
    if not settings.single_user:
        os.chown(folder, 0, settings.nginx_gid, follow_symlinks=False)
    folder.chmod(0o750)


class Preloader:
    """The spawner's end of one preloader process. ``pids`` are its PUNs that live."""

    def __init__(self, settings: Settings) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.pids: set[int] = set()
        module = "proxy_hook.spawner.preloader"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", module, settings.spawn, settings.app, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def start(self, number: int, ticket: Ticket, descriptors: tuple[int, int, int]) -> None:
        """Ask for a PUN, with its listener, log and report. Raises OSError when nobody reads."""
        wire.send(self.channel, {"start": number, "ticket": asdict(ticket)}, descriptors)

    def signal(self, pid: int, number: int) -> None:
        """Raises OSError when nobody reads; the kernel then ends the PUNs (PR_SET_PDEATHSIG)."""
        wire.send(self.channel, {"signal": pid, "number": number})

    def close(self) -> None:
        """Let it go: it ends its PUNs, and itself, when it reads the end of the channel."""
        self.channel.close()
        self.process.wait()
