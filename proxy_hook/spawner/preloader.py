"""The one process that imports the app as root: it receives one listener at a time, forks, nothing more.

Runs as root with one thread, started as ``python -I -m proxy_hook.spawner.preloader MODULE:FUNCTION FD`` with
an empty environment, and the descriptor of a socketpair to the spawner as last argument. It reads no configuration and asks no
name service, so that a PUN inherits nothing that it should not have: there was nothing.

Spawner to preloader: ``{"start": NUMBER, "ticket": {…}}`` with the listener, the log's and the report's
pipe; ``{"signal": PID, "number": N}``. Preloader to spawner: ``{"started": NUMBER, "pid": PID}`` and
``{"ended": PID, "status": WAIT_STATUS}``.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

from proxy_hook.spawner import wire
from proxy_hook.spawner.birth import Ticket, be_born


def main() -> None:
    module, _, function = sys.argv[1].partition(":")
    live = getattr(importlib.import_module(module), function)
    channel = socket.socket(fileno=int(sys.argv[2]))
    children: set[int] = set()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # An interrupt at the terminal goes to the whole group; the spawner decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Objects of the imports are never collected, so that forks share their pages.
    gc.collect()
    gc.freeze()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == woken:
                os.read(woken, 4096)
                _reap(channel, children)
                continue
            received = wire.receive(channel)
            if received is None:
                return  # The spawner has ended; the children are told so by the kernel.
            _serve(channel, children, *received, live)


def _serve(
    channel: socket.socket,
    children: set[int],
    message: wire.Message,
    descriptors: list[int],
    live: Callable[[int, str], None],
) -> None:
    if "signal" in message:
        # Only a child that has not been waited for: its pid cannot have become another process's.
        if message["signal"] in children:
            os.kill(message["signal"], message["number"])
        return
    if len(os.listdir("/proc/self/task")) != 1:
        raise SystemExit("the preloader has more than one thread; it must not fork")
    listener, log, report = descriptors
    ticket = Ticket.from_json(message["ticket"])
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        be_born(ticket, parent, listener, log, report, lambda fd: live(fd, ticket.app_settings))
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


if __name__ == "__main__":
    main()
