"""The preloader, the only process that forks PUNs: it receives a listener and forks a child for it. Runs as root.

It has one thread and runs as ``python -I -m spawner.preloader START_METHOD APP CHANNEL``. With the start method
``fork`` it imports APP (MODULE:FUNCTION) once, so that a fork is enough to start a PUN. With ``exec`` it does not
import the app, and each PUN is a fresh interpreter that does. CHANNEL is its socketpair to the spawner. Its standard
output is the PUNs' log, and its standard error is the spawner's log. It reads no configuration and makes no name
service look-ups, so a PUN inherits nothing else.

It receives ``{"start": UID, "name": …, "spawn_settings": {…}}``, with the listener and a pipe for the child's report,
and ``{"signal": PID, "number": N}``. It sends ``{"started": UID, "pid": PID}`` and ``{"ended": PID, "status": S}``.
The child's code is in child.py.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from spawner import wire
from spawner.child import Serve, child_main, load

STOP_TIMEOUT_S = 15.0  # The time for PUNs to finish the requests in flight when the spawner ends.
RELOAD_TIMEOUT_S = 140.0  # The same after a reload. It is a little longer than a PUN takes to stop (pun_app/server.py).
KILL_TIMEOUT_S = 1.0  # The time for the kernel to end a child after SIGKILL.


def main() -> None:
    """Run the preloader until the spawner ends, or ends it with ``let_go`` (launch.py)."""
    start_method, app, descriptor = sys.argv[1:]
    serve = load(app) if start_method == "fork" else None
    channel = socket.socket(fileno=int(descriptor))
    children: set[int] = set()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Exclude all objects of the imports from garbage collection, so that the children share their memory pages.
    gc.collect()
    gc.freeze()
    with suppress(ConnectionError):  # The spawner may end before it has read a message.
        _run(channel, woken, children, app, serve)
    end(channel, children)


def _run(channel: socket.socket, woken: int, children: set[int], app: str, serve: Serve | None) -> None:
    """Follow the spawner's messages until it closes the channel or shuts it down."""
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
                _fork(channel, children, message, descriptors, app, serve)
            elif message["signal"] in children:
                # This child has not been reaped, so its pid cannot belong to another process.
                os.kill(message["signal"], message["number"])


def _fork(
    channel: socket.socket,
    children: set[int],
    message: wire.Message,
    descriptors: list[int],
    app: str,
    serve: Serve | None,
) -> None:
    """Fork a child for one start message, and report its pid."""
    # After a fork only the thread that called it exists. Locks of any other thread would stay locked forever.
    if len(os.listdir("/proc/self/task")) != 1:
        raise SystemExit("the preloader has more than one thread, so it must not fork")
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        child_main(message, parent, descriptors[0], descriptors[1], app, serve)
    for descriptor in descriptors:
        os.close(descriptor)
    children.add(pid)
    wire.send(channel, {"started": message["start"], "pid": pid})


def _reap(channel: socket.socket, children: set[int]) -> None:
    """Report every child that has ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        wire.send(channel, {"ended": pid, "status": status})


def end(channel: socket.socket, children: set[int], clock: Callable[[], float] = time.monotonic) -> None:
    """Let the children finish the requests in flight, then kill the remaining ones.

    After a reload, the spawner has shut down only its half of the channel, and the children get RELOAD_TIMEOUT_S. If
    the spawner ends, the other half is closed too, and they get STOP_TIMEOUT_S.
    """
    start = clock()
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    spawner = select.poll()
    spawner.register(channel, 0)  # POLLHUP is reported without being asked for.
    while children and clock() < start + (STOP_TIMEOUT_S if spawner.poll(0) else RELOAD_TIMEOUT_S):
        _wait(children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    deadline = clock() + KILL_TIMEOUT_S
    while children and clock() < deadline:
        _wait(children)


def _wait(children: set[int]) -> None:
    """Reap one child if one has ended. Otherwise sleep for a moment."""
    pid, _ = os.waitpid(-1, os.WNOHANG)
    children.discard(pid)
    time.sleep(0 if pid else 0.02)


if __name__ == "__main__":
    main()
