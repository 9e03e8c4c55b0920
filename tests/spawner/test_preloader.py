"""spawner/preloader.py: how long PUNs have for what is in flight."""

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
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"told\\n"))
os.write(1, b"up\\n")
while True:
    time.sleep(600)
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A PUN with something in flight: it is told to leave, and does not yet."""
    process = subprocess.Popen([sys.executable, "-I", "-c", BUSY], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.stdout.close()
    process.wait()


def test_a_reload_lets_puns_finish_and_the_spawners_end_cuts_them_off(
    busy: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reload a PUN has longer than anything that it may do takes; when the spawner ends, it has STOP_TIME."""
    monkeypatch.setattr(preloader, "STOP_TIME", 0.0)
    spawner, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with spawner, channel:
        spawner.shutdown(socket.SHUT_WR)
        assert channel.recv(1) == b""
        children = {busy.pid}
        ending = threading.Thread(target=preloader._end, args=(channel, children))
        ending.start()
        assert busy.stdout
        assert busy.stdout.readline() == b"told\n"
        assert ending.is_alive()
        spawner.close()
        ending.join(60)
        assert not ending.is_alive()
        assert not children
    busy.returncode = -signal.SIGKILL  # Waited for by the preloader's part.
