"""Fixtures for tests of the hook: a fake spawner and a fake identity provider."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy_hook.fake_provider import FakeProvider
from tests.proxy_hook.local_hook import FakeSpawner


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[FakeSpawner]:
    """A fake spawner that listens in the test's folder."""
    spawner = FakeSpawner(tmp_path / "spawner.sock")
    spawner.start()
    yield spawner
    spawner.listener.shutdown(socket.SHUT_RDWR)
    spawner.listener.close()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A fake identity provider that serves real HTTP on loopback."""
    provider = FakeProvider()
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()
