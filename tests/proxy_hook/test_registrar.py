"""proxy_hook/registrar.py and its client, over a real socket."""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
import threading
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy_hook import rate_limits as rates
from proxy_hook import registrar as module
from proxy_hook.browser.sessions import Links
from proxy_hook.registrar import MAX_CONNECTIONS_PER_UID
from proxy_hook.token_routes import RouteTable
from tests.proxy_hook.real_registrar import RULES, USER, as_nobody, real_registrar
from tokens import registrar_client as client_module
from tokens.registrar_client import RegistrarClient as Client
from tokens.registrar_client import RegistrarRefused, RegistrarUnavailable

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
    monkeypatch.setattr(client_module, "TIMEOUT_S", 0.2)
    hanging = []
    for _ in range(MAX_CONNECTIONS_PER_UID):
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


def answer_to(path: Path) -> dict[str, Any]:
    """What the registrar says to whoever sends nothing at all."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        answer: dict[str, Any] = json.loads(connection.makefile().readline())
        return answer


def test_callers_who_hang_up_on_a_refusal_end_nothing(path: Path) -> None:
    """With the share of the uid held, twenty more connect and leave at once; then there are answers as before."""
    held = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CONNECTIONS_PER_UID)]
    for connection in held:
        connection.connect(str(path))
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as short:
            short.connect(str(path))
    for connection in held:
        connection.close()
    assert Client(path).registered() == []


def test_a_conversation_has_one_deadline(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not buy more time."""
    monkeypatch.setattr(module, "DEADLINE_S", 0.3)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))

        def trickle() -> None:
            for _ in range(1200):
                connection.send(b" ")
                threading.Event().wait(0.05)

        with pytest.raises(BrokenPipeError):
            trickle()


def test_all_uids_together_have_so_many_connections(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to try again; when one has left, the next is served."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    held = socket.socket(socket.AF_UNIX)
    held.connect(str(path))
    assert answer_to(path)["busy"] is True
    threading.Timer(0.2, held.close).start()
    assert Client(path).registered() == []


@pytest.mark.parametrize(
    ("rules", "said"),
    [({"min_uid": 2**31}, "min_uid"), ({"deny_users": [USER.pw_name]}, "deny_users"),
     ({"disabled_shells": [USER.pw_shell]}, "disabled_shells"), ({"user_regex": "x"}, "user_regex"),
     ({"allow_groups": ["nobody-is-in-it"]}, "allow_groups")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_who_may_have_no_pun_is_refused_before_a_line_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any], said: str
) -> None:
    """By each of the rules, and without a request."""
    as_nobody(monkeypatch)
    with real_registrar(tmp_path / "r.sock", RouteTable.in_folder(tmp_path), LINKS, replace(RULES, **rules)):
        answer = answer_to(tmp_path / "r.sock")
    assert answer["ok"] is False and said in answer["message"]


def test_a_uid_without_an_account_is_refused_before_a_line_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As subordinate uids are. Ten thousand of them push no account out of memory."""
    Client(path).registered()
    monkeypatch.setattr(module, "_peer_uid", lambda _: 4_000_000_000)
    assert "no account" in answer_to(path)["message"]


def test_an_account_has_so_many_requests_in_a_minute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More are refused before a line is read."""
    monkeypatch.setattr(rates, "MAX_REGISTRAR_REQUESTS_PER_MINUTE", 3)
    routes = RouteTable.in_folder(path.parent)
    with real_registrar(path.with_name("few.sock"), routes):
        client = Client(path.with_name("few.sock"))
        for _ in range(3):
            client.registered()
        with pytest.raises(RegistrarRefused, match="in a minute"):
            client.registered()
    assert Client(path).registered() == []


def test_a_token_that_something_else_made_is_in_the_audit_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once, when it is first seen, with the beginning of its hash; and a refusal each time."""
    client = Client(path)
    with caplog.at_level(logging.INFO, "punway.audit"):
        client.add(["a" * 64, "b" * 64])
        client.add(["a" * 64, "b" * 64])
        client.drop(["b" * 64])
        client.add(["b" * 64])
    lines = [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]
    assert [(line["action"], line["outcome"], line.get("sha256")) for line in lines] == [
        ("token.found", "ok", "a" * 12), ("token.found", "ok", "b" * 12), ("token.revoked", "ok", None),
        ("token.found", "refused", "b" * 12)
    ]  # fmt: skip


def test_a_descriptor_shortage_passes(path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Accepting is tried again, and the log says why it failed."""
    real, failures = BaseSelectorEventLoop.sock_accept, [OSError(errno.EMFILE, "Too many open files")] * 2

    async def fails_twice(loop: Any, listener: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return await real(loop, listener)

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_accept", fails_twice)
    client = Client(path)
    for _ in range(3):
        assert client.registered() == []
    assert not failures
    assert "Too many open files" in caplog.text


def test_root_has_no_tokens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_peer_uid", lambda _: 0)
    with pytest.raises(RegistrarRefused, match="root has no tokens"):
        Client(path).add(["a" * 64])


def test_no_portal(tmp_path: Path) -> None:
    with pytest.raises(RegistrarUnavailable, match="running"):
        Client(tmp_path / "none").registered()


def test_what_is_made_and_revoked_is_in_the_audit_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With what the note says of it, and who the kernel says it was; registering a hash again is no event."""
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
