"""Tests of the memory that large request bodies cost a PUN, by the kernel's count (VmHWM)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.portal import Client, Portal, User, refusal, unique

MEGABYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}
SUBMIT = b'{"cluster": "box", "script": {"content": "#!/bin/sh\\n%s"}, "options": {"hold": true%s}}'


@pytest.fixture
def pun(portal: Portal) -> Iterator[tuple[Client, int]]:
    """A user's client, and the pid of the user's running PUN."""
    user = User(unique("pwmem"))
    try:
        client = portal.client(user)
        assert client("GET", "/api/v1/clusters").status_code == 200
        yield client, portal.pid_of(user)
    finally:
        user.remove()


def peak(pid: int) -> int:
    """Return the greatest memory in MB since the last call."""
    status = Path(f"/proc/{pid}/status").read_text()
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def post(client: Client, path: str, body: bytes) -> tuple[int, str, str]:
    return refusal(client("POST", path, data=body, headers=JSON))


def test_a_body_of_empty_arrays(pun: tuple[Client, int]) -> None:
    """A body of 36 MB where 1 MB is allowed is not read. One of 1 MB is rejected and costs little memory."""
    client, pid = pun
    before = peak(pid)
    assert post(client, "/api/v1/jobs/status", b'{"jobs": [' + b"[]," * 12_000_000 + b"[]]}")[0] == 413
    assert post(client, "/api/v1/jobs/status", b'{"jobs": [' + b"[]," * 340_000 + b"[]]}")[0] == 400
    assert post(client, "/api/v1/jobs", b'{"x": [' + b"[]," * 16_000_000 + b"[]]}")[0] == 413
    assert peak(pid) < before + 160


def test_a_large_body_under_another_name(pun: tuple[Client, int]) -> None:
    """The PUN limits bodies by its own reading of address and method, whatever location nginx has chosen."""
    client, pid = pun
    before = peak(pid)
    for method, path in (
        ("GET", "/api/v1/jobs?cluster=box"),
        ("DELETE", "/api/v1/jobs"),
        ("POST", "/api/v1/job%73/status"),
    ):
        answer = client(method, path, data=b"[" * (3 * MEGABYTE), headers=JSON)
        assert answer.status_code in (413, 503), answer.text
        assert set(answer.json()) == {"error", "message"}
    assert peak(pid) < before + 10


def test_eight_large_submits_at_once(pun: tuple[Client, int]) -> None:
    """All of them are accepted, and memory stays bounded because the PUN reads two at a time."""
    client, pid = pun
    before = peak(pid)
    body = SUBMIT % (b"x" * (49 * MEGABYTE), b"")

    def submit(_: int) -> int:
        return client("POST", "/api/v1/jobs", data=body, headers=JSON).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(submit, range(8))) == [201] * 8
    assert peak(pid) < before + 400
