"""proxy_hook/sqlite_recovery.py: a damaged route table is renamed, and an intact one is not."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy_hook.sqlite_recovery import set_aside_if_damaged
from proxy_hook.token_routes import RouteTable
from tokens.token import issue


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A route table with tokens of a user."""
    routes = RouteTable.in_folder(tmp_path)
    routes.add(1001, "alice", [issue("x")[0].sha256 for _ in range(200)])
    routes.close()
    return tmp_path / "routes.sqlite"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut within its head": lambda content: content[:50],
    "another file": lambda _: b"hello\n" * 1000,
    "overwritten": lambda content: content[:4096] + b"\xff" * 8192 + content[12288:],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_table_is_replaced(path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The damaged database and its files are kept under a new name, which log and audit log report."""
    damaged = DAMAGES[name](path.read_bytes())
    path.write_bytes(damaged)
    for beside in ("-wal", "-shm"):
        Path(f"{path}{beside}").write_bytes(b"of the damaged one")
    with caplog.at_level(logging.INFO):
        routes = RouteTable.in_folder(path.parent)
    token, _ = issue("x")
    try:
        assert routes.add(1001, "alice", [token.sha256]).new == [token.sha256]
        assert routes.hashes(1001) == [token.sha256]
    finally:
        routes.close()
    (aside,) = path.parent.glob("routes.sqlite.damaged-*")
    assert aside.read_bytes() == damaged
    assert [file.read_bytes() for file in path.parent.glob("routes.sqlite-wal.damaged-*")] == [b"of the damaged one"]
    (line,) = [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]
    assert (line["action"], line["outcome"]) == ("routes.replaced", "failed") and str(aside) in line["reason"]
    assert any(str(aside) in record.getMessage() for record in caplog.records if record.name == "punway.hook")


@pytest.mark.parametrize("content", [None, b""], ids=["absent", "empty"])
def test_what_is_not_damaged_stays(path: Path, content: bytes | None) -> None:
    before = path.stat().st_ino
    assert set_aside_if_damaged(path) is None
    assert path.stat().st_ino == before
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert set_aside_if_damaged(path) is None
    assert not list(path.parent.glob("*damaged*"))


def test_a_folder_that_cannot_be_written_is_no_damage(path: Path) -> None:
    """The error says what is wrong, and nothing is renamed."""
    path.unlink()
    path.mkdir()
    with pytest.raises(sqlite3.OperationalError):
        set_aside_if_damaged(path)
    assert os.listdir(path.parent) == ["routes.sqlite"]
