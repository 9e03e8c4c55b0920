"""proxy_hook/token_routes.py: sha256 → account."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy_hook import token_routes as module
from proxy_hook.token_routes import MAX_ROUTES, Added, RouteTable


@pytest.fixture
def table(tmp_path: Path) -> Iterator[RouteTable]:
    table = RouteTable.in_folder(tmp_path)
    yield table
    table.close()


def sha(number: int) -> str:
    return f"{number:064x}"


def whose(table: RouteTable, number: int) -> tuple[int, str] | None:
    route = table.find(sha(number))
    return (route.uid, route.name) if route else None


def test_a_route_leads_to_who_registered_it(table: RouteTable) -> None:
    assert table.find(sha(1)) is None
    assert table.add(1001, "alice", [sha(1)]) == Added([sha(1)], {})
    assert whose(table, 1) == (1001, "alice")
    assert asyncio.run(table.route_of(sha(1))) == table.find(sha(1))
    assert table.hashes(1001) == [sha(1)]


def test_another_uid_takes_drops_and_lists_none_of_it(table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    assert "another user" in table.add(1002, "bob", [sha(1)]).refused[sha(1)]
    table.drop(1002, [sha(1)])
    assert whose(table, 1) == (1001, "alice")
    assert table.hashes(1002) == []


def test_a_dropped_hash_is_gone_at_once_and_for_good(table: RouteTable) -> None:
    """From memory too; and it cannot come back, not after a restart either."""
    table.add(1001, "alice", [sha(1)])
    table.find(sha(1))
    table.drop(1001, [sha(1)])
    assert asyncio.run(table.route_of(sha(1))) is None
    assert table.find(sha(1)) is None
    assert "revoked" in table.add(1001, "alice", [sha(1)]).refused[sha(1)]
    assert table.hashes(1001) == []


def test_what_was_never_registered_can_be_barred(table: RouteTable) -> None:
    """A revocation counts, even where the route had been lost."""
    table.drop(1001, [sha(5)])
    assert "revoked" in table.add(1001, "alice", [sha(5)]).refused[sha(5)]


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    first = RouteTable.in_folder(tmp_path)
    first.add(1001, "alice", [sha(1), sha(2)])
    first.drop(1001, [sha(2)])
    first.close()
    second = RouteTable.in_folder(tmp_path)
    assert whose(second, 1) == (1001, "alice")
    assert second.find(sha(2)) is None
    second.close()


def test_a_user_has_so_many_rows(table: RouteTable) -> None:
    refused = table.add(1001, "alice", [sha(n) for n in range(MAX_ROUTES + 3)]).refused
    assert len(refused) == 3
    assert not table.add(1002, "bob", [sha(9999)]).refused
    table.drop(1001, [sha(0)])
    assert not table.add(1001, "alice", [sha(MAX_ROUTES + 1)]).refused


def test_a_user_has_so_many_ended_rows(table: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, so that nobody fills the disk."""
    monkeypatch.setattr(module, "MAX_ENDED_ROUTES", 5)
    for number in range(20):
        table.drop(1001, [sha(number)])
    with table._engine.connect() as connection:
        assert table._count(connection, 1001, module._ended) == 5


def test_routes_of_tokens_that_are_gone_are_let_go(table: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this uid, not of another, and not of a token that is just being made; a revoked one stays barred."""
    table.add(1001, "alice", [sha(1), sha(2), sha(3)])
    table.add(1002, "bob", [sha(4)])
    table.drop(1001, [sha(3)])
    table.keep(1001, [sha(1)])
    assert table.find(sha(2))
    monkeypatch.setattr(module, "MIN_AGE_TO_RELEASE", module.timedelta(seconds=-5))
    table.keep(1001, [sha(1)])
    assert [table.find(sha(n)) is not None for n in (1, 2, 3, 4)] == [True, False, False, True]
    assert not table.add(1001, "alice", [sha(2)]).refused
    assert "revoked" in table.add(1001, "alice", [sha(3)]).refused[sha(3)]


def test_a_user_who_was_renamed(table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    table.find(sha(1))
    table.add(1001, "alicia", [sha(1)])
    assert whose(table, 1) == (1001, "alicia")


def test_many_threads_at_once(table: RouteTable) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: table.add(1000 + n % 4, "u", [sha(n)]), range(80)))
        found = list(pool.map(lambda n: table.find(sha(n)), range(80)))
    assert [route.uid for route in found if route] == [1000 + n % 4 for n in range(80)]


def test_many_threads_of_one_user_at_once(table: RouteTable) -> None:
    """No more rows than one user may have."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: table.add(1001, "alice", [sha(1000 * n + k) for k in range(100)]), range(8)))
    assert len(table.hashes(1001)) == MAX_ROUTES


def test_the_table_is_the_hooks_alone(tmp_path: Path, table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_a_users_keep_touches_that_users_entries_alone(table: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users' routes stay in memory, so their next request needs no look-up."""
    monkeypatch.setattr(module, "MIN_AGE_TO_RELEASE", module.timedelta(seconds=-5))
    table.add(1001, "alice", [sha(1)])
    table.add(1002, "bob", [sha(2)])
    assert table.find(sha(1)) and table.find(sha(2))
    table.keep(1001, [])
    assert table._cache.get(sha(1)) is None
    assert table._cache.get(sha(2))


def test_a_token_does_not_become_young_again(table: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released and registered again, it has the age that it had."""
    monkeypatch.setattr(module, "_now", lambda: "2020-01-01T00:00:00+00:00")
    table.add(1001, "alice", [sha(1)])
    monkeypatch.undo()
    first = table.find(sha(1))
    table.keep(1001, [])
    assert table.find(sha(1)) is None
    assert table.add(1001, "alice", [sha(1)]) == Added([], {})
    assert first and table.find(sha(1)) == first


def test_made_up_hashes_push_no_real_token_out(table: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A released row is kept, so that its token stays as old as it is; so is a revoked one."""
    monkeypatch.setattr(module, "MIN_AGE_TO_RELEASE", module.timedelta(seconds=-5))
    monkeypatch.setattr(module, "MAX_ENDED_ROUTES", 5)
    table.add(1001, "alice", [sha(1), sha(2)])
    table.drop(1001, [sha(2)])
    table.keep(1001, [])
    table.drop(1001, [sha(n) for n in range(100, 200)])
    added = table.add(1001, "alice", [sha(1), sha(2)])
    assert added.new == [] and list(added.refused) == [sha(2)]


def test_a_lookup_does_not_wait_for_a_writer(table: RouteTable) -> None:
    """While a change is under way, and for as long as it takes to reach the disk."""
    table.add(1001, "alice", [sha(1)])
    with table._writing() as connection:
        connection.execute(module.text("UPDATE routes SET name = 'x'"))
        found: list[object] = []
        reader = threading.Thread(target=lambda: found.append(whose(table, 1)))
        reader.start()
        reader.join(60)
        assert found == [(1001, "alice")]


def test_a_lookup_that_began_before_a_revocation_is_not_cached(table: RouteTable) -> None:
    """Its answer may be older than the revocation."""
    table.add(1001, "alice", [sha(1)])
    route = table.find(sha(1))
    table._cache.forget([sha(1)])
    ticket = table._cache.begin(sha(1))
    table.drop(1001, [sha(1)])
    table._cache.finish(sha(1), ticket, route)
    assert asyncio.run(table.route_of(sha(1))) is None


def test_a_table_of_the_version_before(tmp_path: Path) -> None:
    """Its tokens work on, and can be released."""
    old = sqlite3.connect(tmp_path / "routes.sqlite")
    old.execute("CREATE TABLE routes (sha256 VARCHAR(64) NOT NULL PRIMARY KEY, uid INTEGER NOT NULL, "
                "name VARCHAR(256) NOT NULL, created_at VARCHAR(32) NOT NULL, revoked_at VARCHAR(32))")  # fmt: skip
    old.execute("INSERT INTO routes VALUES (?, 1001, 'alice', '2026-01-01T00:00:00+00:00', NULL)", [sha(1)])
    old.commit()
    old.close()
    table = RouteTable.in_folder(tmp_path)
    assert whose(table, 1) == (1001, "alice")
    table.keep(1001, [])
    assert whose(table, 1) is None
    table.close()
