"""proxy_hook/registrar.py and its client, over a real socket."""

from __future__ import annotations

import json
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_hook import registrar as module
from proxy_hook.registrar import EACH, Registrar
from proxy_hook.routes import RouteTable
from tokens.register import Registrar as Client
from tokens.register import RegistrarRefused, RegistrarUnavailable


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The registrar's socket. To root's tests it is nobody who asks; who really asks, tests/system/ sees."""
    if os.geteuid() == 0:
        monkeypatch.setattr(module, "_peer_uid", lambda _: pwd.getpwnam("nobody").pw_uid)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "r.sock"))
    listener.listen()
    routes = RouteTable.in_folder(tmp_path)
    Registrar(listener, routes).start()
    yield tmp_path / "r.sock"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    routes.close()


def test_add_list_drop(path: Path) -> None:
    client = Client(path)
    assert client.add(["a" * 64, "b" * 64]) == []
    assert set(client.registered()) == {"a" * 64, "b" * 64}
    client.drop(["a" * 64])
    assert client.registered() == ["b" * 64]
    assert "revoked" in client.add(["a" * 64])[0]


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{\n", b"[]\n", b"{}\n", b'{"do": "open", "hashes": []}\n', b'{"do": ["add"], "hashes": []}\n',
     b'{"do": "add"}\n', b'{"do": "add", "hashes": "a"}\n', b'{"do": "add", "hashes": [1]}\n',
     b'{"do": "add", "hashes": ["' + b"A" * 64 + b'"]}\n', b"[" * 60_000 + b"\n", b"x" * 100_000],
    ids=range(12),
)  # fmt: skip
def test_a_request_of_another_form_is_told_so(path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(line)
        answer = json.loads(connection.makefile().readline())
    assert answer["ok"] is False
    assert answer["message"]
    assert Client(path).registered() == []


def test_a_uid_has_so_many_connections_at_once(path: Path) -> None:
    """Those that hang hold up neither others nor, for long, their own user."""
    hanging = []
    for _ in range(EACH):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        hanging.append(connection)
    with pytest.raises(RegistrarRefused, match="too many"):
        Client(path).registered()
    for connection in hanging:
        connection.close()


def test_root_has_no_tokens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_peer_uid", lambda _: 0)
    with pytest.raises(RegistrarRefused, match="root has no tokens"):
        Client(path).add(["a" * 64])


def test_no_portal(tmp_path: Path) -> None:
    with pytest.raises(RegistrarUnavailable, match="running"):
        Client(tmp_path / "none").registered()
