"""Tests of pun_app/expiring_files.py."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pun_app.errors import Unavailable
from pun_app.expiring_files import ExpiringFiles


def test_it_is_there_for_its_time(tmp_path: Path) -> None:
    """Another process can read an entry, too. An expired entry is neither returned nor kept on disk."""
    kept = ExpiringFiles(tmp_path / "a" / "b", 100)
    assert kept.get("x") is None
    kept.put("x", b"1")
    kept.put("y", b"2")
    assert (ExpiringFiles(tmp_path / "a" / "b", 100).get("x"), kept.get("y")) == (b"1", b"2")
    for path in (tmp_path / "a" / "b").iterdir():
        os.utime(path, (time.time() - 101, time.time() - 101))
    assert kept.get("x") is None
    ExpiringFiles(tmp_path / "a" / "b", 100).put("z", b"3")
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1
    kept.remove("z")
    kept.remove("z")
    assert kept.get("z") is None


def test_it_is_the_users_alone(tmp_path: Path) -> None:
    """An entry may have any name, and the folder does not show the names."""
    kept = ExpiringFiles(tmp_path / "k", 100)
    kept.put("../../secret key\0", b"1")
    (path,) = (tmp_path / "k").iterdir()
    assert (path.stat().st_mode & 0o777, (tmp_path / "k").stat().st_mode & 0o777) == (0o600, 0o700)
    assert "secret" not in path.name


def test_only_one_at_a_time(tmp_path: Path) -> None:
    """The lock holds between processes. Here two objects stand for them, since flock locks descriptors."""
    order: list[str] = []

    def second() -> None:
        with ExpiringFiles(tmp_path, 100).locked("x"):
            order.append("second")

    with ExpiringFiles(tmp_path, 100).locked("x"):
        thread = threading.Thread(target=second)
        thread.start()
        with ExpiringFiles(tmp_path, 100).locked("other"):
            order.append("first")
        thread.join(0.2)
        assert order == ["first"]
    thread.join()
    assert order == ["first", "second"]


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = ExpiringFiles(tmp_path / "file" / "k", 100)
    refused = pytest.raises(Unavailable, match="cannot be used: Not a directory")
    with refused:
        kept.put("x", b"1")
    with refused:
        kept.get("x")
    with refused, kept.locked("x"):
        pass
