"""proxy_hook/registrar.py and its client, tokens/registrar_client.py, over a real socket."""

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

from proxy_hook.browser.sessions import Links
from proxy_hook.registrar import MAX_CONNECTIONS_PER_UID
from proxy_hook.token_routes import RouteTable
from tests.proxy_hook.local_registrar import RULES, USER, local_registrar
from tokens.registrar_client import RegistrarClient as Client
from tokens.registrar_client import RegistrarRefused, RegistrarUnavailable

LINKS = Links()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The registrar's socket."""
    with local_registrar(tmp_path / "r.sock", RouteTable.in_folder(tmp_path), LINKS):
        yield tmp_path / "r.sock"


def test_add_list_revoke(path: Path) -> None:
    client = Client(path)
    assert client.add(["a" * 64, "b" * 64]) == []
    assert set(client.registered()) == {"a" * 64, "b" * 64}
    client.revoke(["a" * 64])
    assert client.registered() == ["b" * 64]
    assert "revoked" in client.add(["a" * 64])[0]


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{\n", b"[]\n", b"{}\n", b'{"action": "open", "hashes": []}\n', b'{"action": ["add"], "hashes": []}\n',
     b'{"action": "add"}\n', b'{"action": "add", "hashes": "a"}\n', b'{"action": "add", "hashes": [1]}\n',
     b'{"action": "add", "hashes": ["' + b"A" * 64 + b'"]}\n', b"[" * 60_000 + b"\n", b"x" * 100_000],
    ids=["empty line", "half an object", "array", "no action", "unknown action", "action is an array", "no hashes",
         "hashes are text", "hash is a number", "upper case", "deeply nested", "too long"],
)  # fmt: skip
def test_a_malformed_request_gets_a_message(path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(line)
        answer = json.loads(connection.makefile().readline())
    assert answer["ok"] is False
    assert answer["message"]
    assert Client(path).registered() == []


def test_a_uid_has_so_many_connections_at_once(path: Path) -> None:
    """Connections that hang block no other user, and their own user only until they end."""
    hanging = []
    for _ in range(MAX_CONNECTIONS_PER_UID):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        hanging.append(connection)
    with pytest.raises(RegistrarRefused, match="too many"):
        Client(path, timeout_s=0.2).registered()
    for connection in hanging:
        threading.Timer(0.2, connection.close).start()
    assert Client(path).registered() == []


def answer_to(path: Path) -> dict[str, Any]:
    """Return the registrar's response to a client that sends nothing."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        answer: dict[str, Any] = json.loads(connection.makefile().readline())
        return answer


def test_callers_who_hang_up_on_a_refusal_end_nothing(path: Path) -> None:
    """While a uid holds its maximum of connections, twenty more connect and hang up. Afterwards all works as before."""
    held = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CONNECTIONS_PER_UID)]
    for connection in held:
        connection.connect(str(path))
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as short:
            short.connect(str(path))
    for connection in held:
        connection.close()
    assert Client(path).registered() == []


def test_a_connection_has_one_deadline(tmp_path: Path) -> None:
    """Sending a byte now and then does not extend it."""
    path = tmp_path / "r.sock"
    with (
        local_registrar(path, RouteTable.in_folder(tmp_path), deadline_s=0.3),
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(str(path))

        def trickle() -> None:
            for _ in range(1200):
                connection.send(b" ")
                threading.Event().wait(0.05)

        with pytest.raises(BrokenPipeError):
            trickle()


def test_all_uids_together_have_so_many_connections(tmp_path: Path) -> None:
    """A connection beyond the maximum is asked to try again. When another one has ended, the next is served."""
    path = tmp_path / "r.sock"
    with local_registrar(path, RouteTable.in_folder(tmp_path), max_connections=1):
        held = socket.socket(socket.AF_UNIX)
        held.connect(str(path))
        assert answer_to(path)["busy"] is True
        threading.Timer(0.2, held.close).start()
        assert Client(path).registered() == []


@pytest.mark.parametrize(
    ("rules", "rule"),
    [({"min_uid": 2**31}, "min_uid"), ({"deny_users": [USER.pw_name]}, "deny_users"),
     ({"disabled_shells": [USER.pw_shell]}, "disabled_shells"), ({"user_regex": "x"}, "user_regex"),
     ({"allow_groups": ["nobody-is-in-it"]}, "allow_groups")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_who_may_have_no_pun_is_refused_before_a_line_is_read(tmp_path: Path, rules: dict[str, Any], rule: str) -> None:
    """Each of the rules refuses a client that has sent nothing yet."""
    with local_registrar(tmp_path / "r.sock", RouteTable.in_folder(tmp_path), LINKS, replace(RULES, **rules)):
        answer = answer_to(tmp_path / "r.sock")
    assert answer["ok"] is False and rule in answer["message"]


def test_a_uid_without_an_account_is_refused_before_a_line_is_read(tmp_path: Path) -> None:
    """Subordinate uids are such uids."""
    path = tmp_path / "r.sock"
    with local_registrar(path, RouteTable.in_folder(tmp_path), uid_of=lambda _: 4_000_000_000):
        assert "no account" in answer_to(path)["message"]


def test_an_account_has_so_many_requests_in_a_minute(tmp_path: Path) -> None:
    """Requests beyond the limit are refused before a line is read."""
    with local_registrar(tmp_path / "r.sock", RouteTable.in_folder(tmp_path), requests_per_minute=3):
        client = Client(tmp_path / "r.sock")
        for _ in range(3):
            client.registered()
        with pytest.raises(RegistrarRefused, match="in a minute"):
            client.registered()
        assert "in a minute" in answer_to(tmp_path / "r.sock")["message"]


def test_a_token_that_something_else_made_is_in_the_audit_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is recorded when it is first seen, with the beginning of its hash. A refusal is recorded each time."""
    client = Client(path)
    with caplog.at_level(logging.INFO, "punway.audit"):
        client.add(["a" * 64, "b" * 64])
        client.add(["a" * 64, "b" * 64])
        client.revoke(["b" * 64])
        client.add(["b" * 64])
    lines = [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]
    assert [(line["action"], line["outcome"], line.get("sha256")) for line in lines] == [
        ("token.found", "ok", "a" * 12), ("token.found", "ok", "b" * 12), ("token.revoked", "ok", None),
        ("token.found", "refused", "b" * 12)
    ]  # fmt: skip


def test_a_descriptor_shortage_passes(path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Accepting connections is retried, and the log says why it failed."""
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


def test_root_has_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    with (
        local_registrar(path, RouteTable.in_folder(tmp_path), uid_of=lambda _: 0),
        pytest.raises(RegistrarRefused, match="root has no tokens"),
    ):
        Client(path).add(["a" * 64])


def test_no_portal(tmp_path: Path) -> None:
    with pytest.raises(RegistrarUnavailable, match="running"):
        Client(tmp_path / "none").registered()


def test_what_is_made_and_revoked_is_in_the_audit_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each line has the client's audit_info, and the user that the kernel reports. Repeating a hash is not recorded."""
    client = Client(path)
    audit_info = {"token_id": "t1", "token_name": "CI", "address": "192.0.2.7", "request_id": "r1"}
    with caplog.at_level(logging.INFO, "punway.audit"):
        client.add(["a" * 64], audit_info)
        client.add(["a" * 64])
        client.revoke(["a" * 64], audit_info)
        assert "revoked" in client.add(["a" * 64], audit_info)[0]
    lines = [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]
    assert [(line["action"], line["outcome"]) for line in lines] == [
        ("token.made", "ok"), ("token.revoked", "ok"), ("token.made", "refused")
    ]  # fmt: skip
    for line in lines:
        assert line["user"] == USER.pw_name
        assert {key: line[key] for key in audit_info} == audit_info
        assert line["time"]
    assert "a" * 64 not in caplog.text


@pytest.mark.parametrize(
    "audit_info",
    [[], "x", 5, {"user": "root"}, {"token_id": 5}, {"token_name": "x" * 401}, {"token_id": None}],
    ids=str,
)
def test_audit_info_has_no_other_keys(path: Path, audit_info: object) -> None:
    """A client cannot set the user, time or outcome of a line of the audit log."""
    with pytest.raises(RegistrarRefused, match="audit_info must be"):
        Client(path).add(["a" * 64], audit_info)  # type: ignore[arg-type]
    assert Client(path).registered() == []


def test_a_link_is_for_who_asked(path: Path) -> None:
    """The link is for the user that the kernel reports."""
    assert re.fullmatch("/login/once/[0-9a-f]{64}", Client(path).login())
    account = LINKS.use(Client(path).login().rpartition("/")[2])
    assert account and (account.uid, account.name) == (USER.pw_uid, USER.pw_name)
