"""Bind and hold the listeners; hand one to the preloader, or fork and exec. Runs as root, one thread.

A listener belongs to the spawner and outlives the PUNs that accept on it: while none lives, connections
wait in the kernel's queue and the spawner watches the socket.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy_hook.spawner import wire
from proxy_hook.spawner.birth import Ticket, be_born
from proxy_hook.spawner.eligible import Rules

BACKLOG = 1024
"""Connections that wait in the kernel while a user's PUN starts."""
LISTENER = 3
"""The descriptor on which a PUN started by exec finds its listener."""


@dataclass(frozen=True)
class Settings:
    """What ``punway spawner`` hands over, checked there. ``hook_uid`` may ask; ``nginx_gid`` may connect.

    ``app`` names the app by a string, as MODULE:FUNCTION for a fork and as a module to run for an exec.
    """

    run_dir: str
    hook_uid: int
    nginx_gid: int
    spawn: str
    rules: Rules
    no_new_privs: bool
    environment: dict[str, str]
    single_user: bool
    python: str
    app: str
    app_module: str
    app_settings: str

    @property
    def puns(self) -> Path:
        return Path(self.run_dir) / "puns"

    def ticket(self, name: str, uid: int) -> Ticket:
        return Ticket(
            name,
            uid,
            self.rules,
            not self.single_user,
            self.no_new_privs,
            self.environment,
            self.app_settings,
        )


def prepare_folder(settings: Settings) -> None:
    """Make RUN/puns, or take over the one of an earlier spawner with its sockets removed.

    Raises OSError where the folder is not ours: someone else's is never used, nor emptied.
    """
    _own_folder(settings.puns, settings)
    for folder in settings.puns.iterdir():
        remove_socket(folder / "pun.sock")


def bind(settings: Settings, name: str) -> socket.socket:
    """The listener of one user, in a folder that only nginx's group may enter. Raises OSError."""
    folder = settings.puns / name
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


def remove_socket(path: Path) -> None:
    """Take a user's socket and its folder away."""
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def _own_folder(folder: Path, settings: Settings) -> None:
    folder.mkdir(mode=0o750, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NotADirectoryError(f"{folder} is not the spawner's own directory")
    if not settings.single_user:
        os.chown(folder, 0, settings.nginx_gid, follow_symlinks=False)
    folder.chmod(0o750)


def signal_pun(pid: int, number: int) -> None:
    """Send a signal to a child of the spawner's own that has not been waited for."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def fork_and_exec(settings: Settings, ticket: Ticket, listener: socket.socket, log: int, report: int) -> int:
    """Start a PUN as a fresh interpreter; its pid. The same birth as a fork's, then exec."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:

        def live(descriptor: int) -> None:
            if descriptor != LISTENER:
                os.dup2(descriptor, LISTENER)
            os.set_inheritable(LISTENER, True)
            arguments = [settings.python, "-I", "-m", settings.app_module, str(LISTENER), ticket.app_settings]
            os.execv(settings.python, arguments)

        be_born(ticket, parent, listener.fileno(), log, report, live)
    return pid


class Preloader:
    """The spawner's end of one preloader process. ``pids`` are the PUNs that it has forked and that live."""

    def __init__(self, settings: Settings) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.channel = ours
        self.pids: set[int] = set()
        with theirs:
            self.process = subprocess.Popen(
                [settings.python, "-I", "-m", "proxy_hook.spawner.preloader", settings.app, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={},
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def start(self, number: int, ticket: Ticket, listener: socket.socket, log: int, report: int) -> None:
        """Ask for a PUN. Raises OSError when the preloader is gone or does not read."""
        message: wire.Message = {"start": number, "ticket": asdict(ticket)}
        wire.send(self.channel, message, (listener.fileno(), log, report))

    def signal(self, pid: int, number: int) -> None:
        try:
            wire.send(self.channel, {"signal": pid, "number": number})
        except OSError:
            return  # It is gone, and the kernel ends its children.

    def close(self) -> None:
        """Let it go; it ends when it reads the end of the channel."""
        self.channel.close()

    def end(self) -> None:
        """End it and its PUNs, at the spawner's own end."""
        for pid in self.pids:
            self.signal(pid, signal.SIGTERM)
        self.close()
        self.process.wait(timeout=10)
