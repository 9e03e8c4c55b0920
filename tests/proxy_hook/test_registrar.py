"""proxy_hook/registrar.py and its client, over a real socket."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_hook import registrar as module
from proxy_hook.registrar import EACH
from proxy_hook.routes import RouteTable
from proxy_hook.sessions import Links
from tests.proxy_hook.real_registrar import USER, as_nobody, real_registrar
from tokens import register as client_module
from tokens.register import Registrar as Client
from tokens.register import RegistrarRefused, RegistrarUnavailable

LINKS = Links()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The registrar's socket."""
    as_nobody(monkeypatch)
    with real_registrar(tmp_path / "r.sock", RouteTable.in_folder(tmp_path), LINKS):
        yield tmp_path / "r.sock"


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


def test_a_uid_has_so_many_connections_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that hang hold up neither others nor, for long, their own user, who waits for a turn."""
    monkeypatch.setattr(client_module, "_TIMEOUT", 0.2)
    hanging = []
    for _ in range(EACH):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        hanging.append(connection)
    with pytest.raises(RegistrarRefused, match="too many"):
        Client(path).registered()
    monkeypatch.undo()
    as_nobody(monkeypatch)
    for connection in hanging:
        threading.Timer(0.2, connection.close).start()
    assert Client(path).registered() == []


def test_root_has_no_tokens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_peer_uid", lambda _: 0)
    with pytest.raises(RegistrarRefused, match="root has no tokens"):
        Client(path).add(["a" * 64])


def test_no_portal(tmp_path: Path) -> None:
    with pytest.raises(RegistrarUnavailable, match="running"):
        Client(tmp_path / "none").registered()


def test_what_is_made_and_revoked_is_in_the_audit_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With what the note says of it, and who the kernel says it was; telling a hash again is no event."""
    client = Client(path)
    note = {"token_id": "t1", "token_name": "CI", "address": "192.0.2.7", "request_id": "r1"}
    with caplog.at_level(logging.INFO, "punway.audit"):
        client.add(["a" * 64], note)
        client.add(["a" * 64])
        client.drop(["a" * 64], note)
        assert "revoked" in client.add(["a" * 64], note)[0]
    lines = [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]
    assert [(line["action"], line["outcome"]) for line in lines] == [
        ("token.made", "ok"), ("token.revoked", "ok"), ("token.made", "refused")
    ]  # fmt: skip
    for line in lines:
        assert line["user"] == USER.pw_name
        assert {key: line[key] for key in note} == note
        assert line["time"]
    assert "a" * 64 not in caplog.text


@pytest.mark.parametrize(
    "note", [[], "x", 5, {"user": "root"}, {"token_id": 5}, {"token_name": "x" * 401}, {"token_id": None}], ids=str
)
def test_a_note_says_nothing_else(path: Path, note: object) -> None:
    """No user, no time, no outcome: those are not the caller's to say."""
    with pytest.raises(RegistrarRefused, match="a note has"):
        Client(path).add(["a" * 64], note)  # type: ignore[arg-type]
    assert Client(path).registered() == []


def test_a_link_is_for_who_asked(path: Path) -> None:
    """Whom the kernel says it is; a portal without links says so."""
    assert re.fullmatch("/login/once/[0-9a-f]{64}", Client(path).login())
    account = LINKS.use(Client(path).login().rpartition("/")[2])
    assert account and (account.uid, account.name) == (USER.pw_uid, USER.pw_name)
