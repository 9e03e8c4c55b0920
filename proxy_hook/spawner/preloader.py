"""The one process that forks PUNs: it receives one listener at a time, forks, nothing more.

Runs as root with one thread, as ``python -I -m proxy_hook.spawner.preloader WAY APP CHANNEL``. With the way
``fork`` it imports APP (MODULE:FUNCTION) once, so that a PUN is a fork away; with ``exec`` it imports nothing,
and each PUN is a fresh interpreter that runs the module APP. CHANNEL, its socketpair to the spawner, is all
that it holds; it reads no configuration and asks no name service, so there is nothing for a PUN to inherit.

It is told ``{"start": UID, "name": …, "birth": {…}}``, with the listener and a pipe for the child's report, and
``{"signal": PID, "number": N}``; it tells ``{"started": UID, "pid": PID}`` and ``{"ended": PID, "status": S}``.
A child reports LOOK_UP, USER and READY, a byte each as it gets on, or REFUSED and the rule.
"""

import gc
import importlib
import os
import select
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from proxy_hook.spawner import wire
from proxy_hook.spawner.become import become, close_descriptors, new_session
from proxy_hook.spawner.eligible import Refused, find_account
from proxy_hook.spawner.launch import Birth

STOP_TIME = 15.0  # Seconds that PUNs have for what is in flight when the spawner ends.
LOOK_UP, USER, READY, REFUSED = b"L", b"U", b"R", b"!"

Live = Callable[[int, str], None]


def main() -> None:
    way, app, descriptor = sys.argv[1:]
    live = _life(way, app)
    channel = socket.socket(fileno=int(descriptor))
    children: set[int] = set()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Objects of the imports are never collected, so that forks share their pages.
    gc.collect()
    gc.freeze()
    while True:
        ready, _, _ = select.select([channel.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(channel, children)
        if channel.fileno() in ready:
            received = wire.receive(channel, descriptors=2)
            if received is None:
                return _end(children)  # The spawner has let go, or has ended.
            message, descriptors = received
            if "start" in message:
                _fork(channel, children, message, descriptors, live)
            elif message["signal"] in children:
                # A child that has not been waited for: its pid cannot have become another process's.
                os.kill(message["signal"], message["number"])


def _life(way: str, app: str) -> Live:
    """What a child does once it is the user: the app's function, or a fresh interpreter with the app's module."""
    if way == "fork":
        module, _, function = app.partition(":")
        live: Live = getattr(importlib.import_module(module), function)
        return live

    def live_anew(listener: int, settings: str) -> None:
        os.set_inheritable(listener, True)
        os.execv(sys.executable, [sys.executable, "-I", "-m", app, str(listener), settings])

    return live_anew


def _fork(
    channel: socket.socket, children: set[int], message: wire.Message, descriptors: list[int], live: Live
) -> None:
    if len(os.listdir("/proc/self/task")) != 1:
        raise SystemExit("the preloader has more than one thread; it must not fork")
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_born(message, parent, descriptors[0], descriptors[1], live)
    for descriptor in descriptors:
        os.close(descriptor)
    children.add(pid)
    wire.send(channel, {"started": message["start"], "pid": pid})


def _reap(channel: socket.socket, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        wire.send(channel, {"ended": pid, "status": status})


def _end(children: set[int]) -> None:
    """Let the children finish what is in flight, for STOP_TIME; none is left behind."""
    for number, patience in ((signal.SIGTERM, STOP_TIME), (signal.SIGKILL, 1.0)):
        for pid in children:
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while children and time.monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            children.discard(pid)
            time.sleep(0 if pid else 0.02)


def _be_born(message: wire.Message, parent: int, listener: int, report: int, live: Live) -> NoReturn:
    """In the child: become the user and ``live`` on the listener. Never returns."""
    code = 1
    keep = (0, 1, 2, listener, report)
    try:
        new_session()
        null = os.open("/dev/null", os.O_RDWR)
        # The log is a pipe or the journal's socket; a file of root's, a user could empty.
        os.dup2(null if stat.S_ISREG(os.fstat(2).st_mode) else 2, 1)
        os.dup2(1, 2)
        os.dup2(null, 0)
        close_descriptors(keep)
        os.write(report, LOOK_UP)
        birth = Birth.from_json(message["birth"])
        account = find_account(message["name"], message["start"], birth.rules)
        become(account, parent, birth, keep)
        os.write(report, USER)
        # As the user, since root may not be able to (root_squash); it may hang, and only this child does.
        try:
            os.chdir(account.home)
        except OSError:
            os.chdir("/")
        os.write(report, READY)
        os.close(report)
        live(listener, birth.app_settings)
        code = 0
    except Refused as refusal:
        os.write(report, REFUSED + str(refusal).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        # Not sys.exit(): what the parent registered for its own end must not run here.
        os._exit(code)


if __name__ == "__main__":
    main()
