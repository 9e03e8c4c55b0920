"""Tests of spawner/preloader.py: the time that PUNs have to finish. tests/spawner/test_main.py tests the rest of it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from spawner import preloader

BUSY = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # A handler could run just before a sleep, and wait for it.
os.write(1, b"up\\n")
while True:
    signal.sigwait({signal.SIGTERM})
    os.write(1, b"SIGTERM\\n")
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A PUN with a request in flight, which reports SIGTERM and does not end."""
    process = subprocess.Popen([sys.executable, "-I", "-c", BUSY], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.stdout.close()
    process.wait()


def test_a_reload_lets_puns_finish_and_the_spawners_end_cuts_them_off(
    busy: subprocess.Popen[bytes],
) -> None:
    """After a reload a PUN has time for its longest request. When the spawner ends, it has only STOP_TIMEOUT_S."""
    spawner, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with spawner, channel:
        spawner.shutdown(socket.SHUT_WR)
        assert channel.recv(1) == b""
        children = {busy.pid}
        now = [0.0]
        ending = threading.Thread(target=preloader.end, args=(channel, children, lambda: now[0]))
        ending.start()
        assert busy.stdout
        assert busy.stdout.readline() == b"SIGTERM\n"
        now[0] = preloader.STOP_TIMEOUT_S + 1
        ending.join(0.2)
        assert ending.is_alive()
        spawner.close()
        ending.join(60)
        assert not ending.is_alive()
        assert not children
    busy.returncode = -signal.SIGKILL  # The preloader's code has reaped it.
