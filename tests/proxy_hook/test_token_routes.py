"""proxy_hook/token_routes.py: which account a token's hash leads to."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy_hook.token_routes import MAX_ROUTES, MIN_AGE_TO_RELEASE_S, Added, RouteTable
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def table(tmp_path: Path, clock: Clock) -> Iterator[RouteTable]:
    table = RouteTable.in_folder(tmp_path, clock=clock, max_ended_routes=5)
    yield table
    table.close()


def sha(number: int) -> str:
    return f"{number:064x}"


def account_of(table: RouteTable, number: int) -> tuple[int, str] | None:
    route = table.find(sha(number))
    return (route.uid, route.name) if route else None


def test_a_route_leads_to_who_registered_it(table: RouteTable) -> None:
    assert table.find(sha(1)) is None
    assert table.add(1001, "alice", [sha(1)]) == Added([sha(1)], {})
    assert account_of(table, 1) == (1001, "alice")
    assert asyncio.run(table.route_of(sha(1))) == table.find(sha(1))
    assert table.hashes(1001) == [sha(1)]


def test_another_uid_cannot_take_revoke_or_list_it(table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    assert "another user" in table.add(1002, "bob", [sha(1)]).refused[sha(1)]
    table.revoke(1002, [sha(1)])
    assert account_of(table, 1) == (1001, "alice")
    assert table.hashes(1002) == []


def test_a_revoked_hash_is_gone_at_once_and_for_good(table: RouteTable) -> None:
    """It is removed from memory too, and cannot be registered again, even after a restart."""
    table.add(1001, "alice", [sha(1)])
    table.find(sha(1))
    table.revoke(1001, [sha(1)])
    assert asyncio.run(table.route_of(sha(1))) is None
    assert table.find(sha(1)) is None
    assert "revoked" in table.add(1001, "alice", [sha(1)]).refused[sha(1)]
    assert table.hashes(1001) == []


def test_a_hash_that_was_never_registered_can_be_revoked(table: RouteTable) -> None:
    """A revocation is effective even if the route had been lost."""
    table.revoke(1001, [sha(5)])
    assert "revoked" in table.add(1001, "alice", [sha(5)]).refused[sha(5)]


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    first = RouteTable.in_folder(tmp_path)
    first.add(1001, "alice", [sha(1), sha(2)])
    first.revoke(1001, [sha(2)])
    first.close()
    second = RouteTable.in_folder(tmp_path)
    assert account_of(second, 1) == (1001, "alice")
    assert second.find(sha(2)) is None
    second.close()


def test_a_user_has_so_many_rows(table: RouteTable) -> None:
    refused = table.add(1001, "alice", [sha(n) for n in range(MAX_ROUTES + 3)]).refused
    assert len(refused) == 3
    assert not table.add(1002, "bob", [sha(9999)]).refused
    table.revoke(1001, [sha(0)])
    assert not table.add(1001, "alice", [sha(MAX_ROUTES + 1)]).refused


def test_a_user_has_so_many_ended_rows(table: RouteTable, clock: Clock) -> None:
    """The oldest are deleted, so that nobody can fill the disk. A deleted hash can be registered again."""
    for number in range(20):
        clock.now += 1
        table.revoke(1001, [sha(number)])
    added = table.add(1001, "alice", [sha(number) for number in range(20)])
    assert list(added.refused) == [sha(number) for number in range(15, 20)]


def test_routes_of_removed_tokens_are_released(table: RouteTable, clock: Clock) -> None:
    """Routes of other users and of tokens that are just being created are not released. Revoked ones stay revoked."""
    table.add(1001, "alice", [sha(1), sha(2), sha(3)])
    table.add(1002, "bob", [sha(4)])
    table.revoke(1001, [sha(3)])
    table.release_others(1001, [sha(1)])
    assert table.find(sha(2))
    clock.now += MIN_AGE_TO_RELEASE_S + 1
    table.release_others(1001, [sha(1)])
    assert [table.find(sha(n)) is not None for n in (1, 2, 3, 4)] == [True, False, False, True]
    assert not table.add(1001, "alice", [sha(2)]).refused
    assert "revoked" in table.add(1001, "alice", [sha(3)]).refused[sha(3)]


def test_a_user_who_was_renamed(table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    table.find(sha(1))
    table.add(1001, "alicia", [sha(1)])
    assert account_of(table, 1) == (1001, "alicia")


def test_many_threads_at_once(table: RouteTable) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: table.add(1000 + n % 4, "u", [sha(n)]), range(80)))
        found = list(pool.map(lambda n: table.find(sha(n)), range(80)))
    assert [route.uid for route in found if route] == [1000 + n % 4 for n in range(80)]


def test_many_threads_of_one_user_at_once(table: RouteTable) -> None:
    """Together they create no more rows than one user may have."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: table.add(1001, "alice", [sha(1000 * n + k) for k in range(100)]), range(8)))
    assert len(table.hashes(1001)) == MAX_ROUTES


def test_the_table_is_the_hooks_alone(tmp_path: Path, table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_releasing_routes_leaves_other_users_in_the_cache(table: RouteTable, clock: Clock, tmp_path: Path) -> None:
    """Other users' routes stay in memory: they are found even if the file no longer has them."""
    table.add(1001, "alice", [sha(1)])
    table.add(1002, "bob", [sha(2)])
    assert table.find(sha(1)) and table.find(sha(2))
    clock.now += MIN_AGE_TO_RELEASE_S + 1
    table.release_others(1001, [])
    with contextlib.closing(sqlite3.connect(tmp_path / "routes.sqlite")) as file, file:
        file.execute("DELETE FROM routes")
    assert asyncio.run(table.route_of(sha(1))) is None
    assert asyncio.run(table.route_of(sha(2)))


def test_a_token_does_not_become_young_again(table: RouteTable, clock: Clock) -> None:
    """After it was released and registered again, its age is unchanged."""
    table.add(1001, "alice", [sha(1)])
    first = table.find(sha(1))
    clock.now += 1_000_000
    table.release_others(1001, [])
    assert table.find(sha(1)) is None
    assert table.add(1001, "alice", [sha(1)]) == Added([], {})
    assert first and table.find(sha(1)) == first


def test_made_up_hashes_push_no_real_token_out(table: RouteTable, clock: Clock) -> None:
    """Rows of released and revoked tokens stay, so that these tokens keep their age and stay revoked."""
    table.add(1001, "alice", [sha(1), sha(2)])
    table.revoke(1001, [sha(2)])
    clock.now += MIN_AGE_TO_RELEASE_S + 1
    table.release_others(1001, [])
    table.revoke(1001, [sha(n) for n in range(100, 200)])
    added = table.add(1001, "alice", [sha(1), sha(2)])
    assert added.new == [] and list(added.refused) == [sha(2)]


def test_a_lookup_does_not_wait_for_a_writer(table: RouteTable, tmp_path: Path) -> None:
    """It works while a change is in progress, however long that takes to reach the disk."""
    table.add(1001, "alice", [sha(1)])
    found: list[object] = []
    writer = threading.Thread(target=lambda: table.add(1002, "bob", [sha(2)]))
    reader = threading.Thread(target=lambda: found.append(account_of(table, 1)))
    with contextlib.closing(sqlite3.connect(tmp_path / "routes.sqlite")) as file:
        file.execute("BEGIN IMMEDIATE")  # The writer waits for this lock, and SQLite gives it 5 s to do so.
        writer.start()
        time.sleep(0.2)
        reader.start()
        reader.join(60)
        assert writer.is_alive() and found == [(1001, "alice")]
        file.rollback()
    writer.join(60)
    assert account_of(table, 2) == (1002, "bob")


def test_a_lookup_that_began_before_a_revocation_is_not_cached(table: RouteTable) -> None:
    """Its result may be older than the revocation. The order of the two is fixed here by calling the cache itself."""
    table.add(1001, "alice", [sha(1)])
    route = table.find(sha(1))
    table._cache.forget([sha(1)])
    ticket = table._cache.begin(sha(1))
    table.revoke(1001, [sha(1)])
    table._cache.finish(sha(1), ticket, route)
    assert asyncio.run(table.route_of(sha(1))) is None


def test_a_table_of_the_version_before(tmp_path: Path) -> None:
    """Its tokens continue to work, and can be released."""
    old = sqlite3.connect(tmp_path / "routes.sqlite")
    old.execute("CREATE TABLE routes (sha256 VARCHAR(64) NOT NULL PRIMARY KEY, uid INTEGER NOT NULL, "
                "name VARCHAR(256) NOT NULL, created_at VARCHAR(32) NOT NULL, revoked_at VARCHAR(32))")  # fmt: skip
    old.execute("INSERT INTO routes VALUES (?, 1001, 'alice', '2026-01-01T00:00:00+00:00', NULL)", [sha(1)])
    old.commit()
    old.close()
    table = RouteTable.in_folder(tmp_path)
    assert account_of(table, 1) == (1001, "alice")
    table.release_others(1001, [])
    assert account_of(table, 1) is None
    table.close()
