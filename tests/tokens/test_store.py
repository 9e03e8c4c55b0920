"""tokens/store.py and permissions.py: the token file, on which each user's access depends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path

import pytest

from tokens.permissions import MAX_FILE_BYTES
from tokens.store import MAX_TOKENS, NoSuchToken, StoreRefused, StoreUnavailable, TokenStore, hashes
from tokens.token import issue

NOW = datetime(2026, 11, 22, 18, 0, 0, tzinfo=timezone.utc)
LEGACY = {"id": "old", "name": "plugin's", "token": "ab" * 32, "created_at": "2026-01-01T00:00:00Z", "colour": "blue"}


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    tmp_path.chmod(0o700)
    return TokenStore(tmp_path)


def add(store: TokenStore, name: str = "x") -> str:
    token, _ = issue(name)
    store.add(token)
    return token.id


def write(store: TokenStore, content: str) -> None:
    store.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    store.path.write_text(content)
    store.path.chmod(0o600)


def test_the_file_is_the_users_alone(store: TokenStore) -> None:
    """Its mode is 0600, and that of its directory 0700, whatever the umask is."""
    umask = os.umask(0)
    try:
        add(store)
    finally:
        os.umask(umask)
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert not list(store.directory.glob(".tokens.json.*.*"))


def test_a_token_is_found_by_its_hash_until_it_is_removed(store: TokenStore) -> None:
    token, _ = issue("x")
    assert store.find(token.sha256) is None
    store.add(token)
    assert store.find(token.sha256) == token
    store.remove(token.id)
    assert store.find(token.sha256) is None


def test_a_file_that_is_gone_has_no_token(store: TokenStore) -> None:
    """Even after it was read: tokens are not cached beyond the life of the file."""
    token, _ = issue("x")
    store.add(token)
    assert store.find(token.sha256)
    store.path.unlink()
    assert store.find(token.sha256) is None


def test_a_change_that_keeps_size_and_mtime_is_seen(store: TokenStore) -> None:
    token, _ = issue("x")
    store.add(token)
    before = store.path.stat()
    assert store.find(token.sha256)
    other = token.sha256.replace(token.sha256[0], "f" if token.sha256[0] != "f" else "e")
    store.path.write_text(store.path.read_text().replace(token.sha256, other))
    os.utime(store.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.find(token.sha256) is None


def test_removing_an_unknown_token(store: TokenStore) -> None:
    add(store)
    with pytest.raises(NoSuchToken, match="punway token list"):
        store.remove("nope")
    assert len(store.tokens()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "not JSON"), ("[{", "not JSON"), ("{}", "not an array"), ('["x"]', "not an array"), ("null", "not an array"),
     ("[" * 100_000, "not JSON"), (" " * (MAX_FILE_BYTES + 1), "larger than")],
    ids=["empty", "half", "object", "of-text", "null", "deep", "large"],
)  # fmt: skip
def test_a_file_of_another_form_is_refused_and_left(store: TokenStore, content: str, message: str) -> None:
    """No token is accepted, and nothing is overwritten."""
    write(store, content)
    with pytest.raises(StoreRefused, match=message):
        store.tokens()
    with pytest.raises(StoreRefused, match=message):
        add(store)
    assert store.path.read_text() == content


def open_to_group(store: TokenStore) -> None:
    store.path.chmod(0o640)


def writable_directory(store: TokenStore) -> None:
    store.directory.chmod(0o770)


def writable_config(store: TokenStore) -> None:
    store.directory.parent.chmod(0o777)


def writable_home(store: TokenStore) -> None:
    store.home.chmod(0o770)


def symlink(store: TokenStore) -> None:
    store.path.rename(store.home / "real")
    store.path.symlink_to(store.home / "real")


def hard_link(store: TokenStore) -> None:
    os.link(store.path, store.home / "second")


def fifo(store: TokenStore) -> None:
    store.path.unlink()
    os.mkfifo(store.path, 0o600)


def directory(store: TokenStore) -> None:
    store.path.unlink()
    store.path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(open_to_group, "chmod 600"), (writable_directory, "chmod go-w"), (writable_config, "chmod go-w"),
     (writable_home, "chmod go-w"), (symlink, "symbolic link"), (hard_link, "hard link"), (fifo, "regular file"),
     (directory, "regular file")],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_file_that_others_could_touch_is_refused(
    store: TokenStore, spoil: Callable[[TokenStore], None], message: str
) -> None:
    """The message says what to do, as ssh's messages about its keys do."""
    add(store)
    assert store.tokens()
    spoil(store)
    with pytest.raises(StoreRefused, match=message):
        store.tokens()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
@pytest.mark.parametrize("what", ["path", "directory", "home"])
def test_a_file_or_directory_of_another_user_is_refused(store: TokenStore, what: str) -> None:
    add(store)
    os.chown(getattr(store, what), 12345, 12345)
    with pytest.raises(StoreRefused, match="belongs to another user"):
        store.tokens()


def test_a_home_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="home directory"):
        TokenStore(tmp_path / "nobody").tokens()


def _add_many(home: Path, count: int) -> None:
    store = TokenStore(home)
    for _ in range(count):
        add(store)


def test_writers_at_once_lose_no_entry(store: TokenStore) -> None:
    """Processes and threads add tokens while uses are recorded. Afterwards every entry exists."""
    first = add(store)
    context = get_context("spawn")
    workers = [context.Process(target=_add_many, args=(store.home, 12)) for _ in range(3)]
    threads = [threading.Thread(target=_add_many, args=(store.home, 12)) for _ in range(2)]
    recording = threading.Thread(target=record_uses, args=(store.home, first))
    for worker in [*workers, *threads, recording]:
        worker.start()
    for worker in [*workers, *threads, recording]:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert len(store.tokens()) == 1 + 5 * 12


def record_uses(home: Path, token_id: str) -> None:
    for _ in range(20):
        TokenStore(home).record_last_used({token_id: NOW})


def test_recording_a_use_writes_it(store: TokenStore) -> None:
    used, other = add(store), add(store)
    store.record_last_used({used: NOW})
    assert {t.id: t.last_used_at for t in store.tokens()} == {used: NOW, other: None}


def test_recording_a_use_brings_no_token_back(store: TokenStore) -> None:
    """Neither a revoked entry nor a deleted file comes back."""
    used = add(store)
    store.remove(used)
    store.record_last_used({used: NOW})
    assert store.tokens() == []
    store.path.unlink()
    store.record_last_used({used: NOW})
    assert not store.path.exists()


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_a_change_by_hand_in_the_middle_of_a_write_stays(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A person who edits or removes the file takes no lock. A concurrent write must not undo the edit."""
    used, gone = add(store), add(store)
    fsync = os.fsync
    done: list[bool] = []

    def meddle(descriptor: int) -> None:
        fsync(descriptor)
        if not done:
            done.append(True)
            if change == "remove":
                store.path.unlink()
            else:
                entries = [e for e in json.loads(store.path.read_text()) if e["id"] != gone]
                store.path.write_text(json.dumps(entries))

    monkeypatch.setattr(os, "fsync", meddle)
    store.record_last_used({used: NOW})
    assert [t.id for t in store.tokens()] == ([] if change == "remove" else [used])
    assert store.path.exists() == (change == "edit")


def test_entries_of_another_program_stay_as_they_are(store: TokenStore) -> None:
    """Unknown fields, entries of the older form and entries that are not tokens survive every change."""
    strange = {"comment": "not a token", "deep": {"a": [1, 2]}}
    write(store, json.dumps([LEGACY, strange]))
    ours = add(store)
    store.record_last_used({ours: NOW, "old": NOW})
    store.remove(ours)
    assert json.loads(store.path.read_text()) == [LEGACY, strange]
    assert [t.id for t in store.tokens()] == ["old"]


def test_secure_replaces_secrets_in_clear_text(store: TokenStore) -> None:
    """The secret is removed, the token continues to work, and other fields stay."""
    write(store, json.dumps([LEGACY]))
    before = store.tokens()[0]
    assert store.secure() == 1
    assert "ab" * 32 not in store.path.read_text()
    after = store.tokens()[0]
    assert (after.sha256, after.scopes, after.in_clear) == (before.sha256, before.scopes, False)
    assert json.loads(store.path.read_text())[0]["colour"] == "blue"
    assert store.secure() == 0


def test_a_full_disk_loses_nothing(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file is unchanged, no partial file is left, and the error says so."""
    add(store)
    before = store.path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="no space or quota is left"):
        add(store)
    assert store.path.read_bytes() == before
    assert sorted(p.name for p in store.directory.iterdir()) == [".tokens.json.lock", "tokens.json"]


def test_the_lock_is_the_plugins(store: TokenStore) -> None:
    """While another program holds flock on .tokens.json.lock, writing waits, and then fails with a message."""
    add(store)
    with (store.directory / ".tokens.json.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="locked"):
            add(TokenStore(store.home, lock_timeout_s=0.1))
    add(store)
    assert len(store.tokens()) == 2


def test_a_user_has_so_many_tokens(store: TokenStore) -> None:
    write(store, json.dumps([issue("x")[0].entry() for _ in range(MAX_TOKENS)]))
    with pytest.raises(StoreRefused, match="revoke some"):
        add(store)


def test_only_live_tokens_are_registered(store: TokenStore) -> None:
    live, _ = issue("x")
    dead = {**live.entry(), "sha256": "a" * 64, "expires_at": "2020-01-01T00:00:00Z"}
    write(store, json.dumps([live.entry(), dead]))
    assert hashes(store.tokens()) == [live.sha256]


def test_a_read_in_the_middle_of_a_replacement_finds_the_token(store: TokenStore) -> None:
    """A file that is replaced just after it was opened has no name left. That is not refused as a second name is."""
    token, _ = issue("x")
    store.add(token)
    done = threading.Event()

    def replace() -> None:
        times = [NOW, NOW.replace(year=2027)]
        while not done.is_set():
            times.reverse()
            TokenStore(store.home).record_last_used({token.id: times[0]})

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        assert all(store.find(token.sha256) for _ in range(5000))
    finally:
        done.set()
        writer.join()
