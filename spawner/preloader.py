"""The one process that forks PUNs: it receives one listener at a time, forks, nothing more.

Runs as root with one thread, as ``python -I -m spawner.preloader WAY APP CHANNEL``. With the way
``fork`` it imports APP (MODULE:FUNCTION) once, so that a PUN is a fork away; with ``exec`` it imports nothing,
and each PUN is a fresh interpreter that imports it. CHANNEL, its socketpair to the spawner, is all that it holds,
beside the PUNs' log (standard output) and the spawner's (standard error); it reads no configuration and asks no name
service, so there is nothing for a PUN to inherit.

It is told ``{"start": UID, "name": …, "birth": {…}}``, with the listener and a pipe for the child's report, and
``{"signal": PID, "number": N}``; it tells ``{"started": UID, "pid": PID}`` and ``{"ended": PID, "status": S}``.
What a child does is in child.py.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from spawner import wire
from spawner.child import Live, child_main, load

STOP_TIME = 15.0  # Seconds that PUNs have for what is in flight when the spawner ends.
LEAVE_TIME = 140.0  # The same after a reload: a little more than a PUN takes for itself (pun_app/server.py).


def main() -> None:
    way, app, descriptor = sys.argv[1:]
    live = load(app) if way == "fork" else None
    channel = socket.socket(fileno=int(descriptor))
    children: set[int] = set()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Objects of the imports are never collected, so that forks share their pages.
    gc.collect()
    gc.freeze()
    with suppress(ConnectionError):  # The spawner may end while it is told something.
        _serve(channel, woken, children, app, live)
    _end(channel, children)


def _serve(channel: socket.socket, woken: int, children: set[int], app: str, live: Live | None) -> None:
    """Do what the spawner says, until it has ended or lets go."""
    while True:
        ready, _, _ = select.select([channel.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(channel, children)
        if channel.fileno() in ready:
            received = wire.receive(channel, descriptors=2)
            if received is None:
                return
            message, descriptors = received
            if "start" in message:
                _fork(channel, children, message, descriptors, app, live)
            elif message["signal"] in children:
                # A child that has not been waited for: its pid cannot have become another process's.
                os.kill(message["signal"], message["number"])


def _fork(
    channel: socket.socket,
    children: set[int],
    message: wire.Message,
    descriptors: list[int],
    app: str,
    live: Live | None,
) -> None:
    if len(os.listdir("/proc/self/task")) != 1:
        raise SystemExit("the preloader has more than one thread; it must not fork")
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        child_main(message, parent, descriptors[0], descriptors[1], app, live)
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


def _end(channel: socket.socket, children: set[int]) -> None:
    """Let the children finish what is in flight; none is left behind.

    After a reload the spawner has shut its half of the channel down alone, and they have LEAVE_TIME; from its end on,
    which closes the other half too, they have STOP_TIME.
    """
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    spawner = select.poll()
    spawner.register(channel, 0)  # POLLHUP comes all the same.
    start = time.monotonic()
    while children and time.monotonic() < start + (STOP_TIME if spawner.poll(0) else LEAVE_TIME):
        pid, _ = os.waitpid(-1, os.WNOHANG)
        children.discard(pid)
        time.sleep(0 if pid else 0.02)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 1.0
    while children and time.monotonic() < deadline:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        children.discard(pid)
        time.sleep(0 if pid else 0.02)


if __name__ == "__main__":
    main()
