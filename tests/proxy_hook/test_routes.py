"""proxy_hook/routes.py: sha256 → account."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy_hook import routes as module
from proxy_hook.routes import ROWS, Route, RouteTable


@pytest.fixture
def table(tmp_path: Path) -> Iterator[RouteTable]:
    table = RouteTable.in_folder(tmp_path)
    yield table
    table.close()


def sha(number: int) -> str:
    return f"{number:064x}"


def test_a_route_leads_to_who_registered_it(table: RouteTable) -> None:
    assert table.find(sha(1)) is None
    assert table.add(1001, "alice", [sha(1)]) == {}
    assert table.find(sha(1)) == Route(1001, "alice")
    assert table.remembered(sha(1)) == Route(1001, "alice")
    assert table.hashes(1001) == [sha(1)]


def test_another_uid_takes_drops_and_lists_none_of_it(table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    assert "another user" in table.add(1002, "bob", [sha(1)])[sha(1)]
    table.drop(1002, [sha(1)])
    assert table.find(sha(1)) == Route(1001, "alice")
    assert table.hashes(1002) == []


def test_a_dropped_hash_is_gone_at_once_and_for_good(table: RouteTable) -> None:
    """From memory too, with whoever asked to be told; and it cannot come back, not after a restart either."""
    told: list[str] = []
    table.on_drop = told.append
    table.add(1001, "alice", [sha(1)])
    table.find(sha(1))
    table.drop(1001, [sha(1)])
    assert told == [sha(1)]
    assert table.remembered(sha(1)) is None
    assert table.find(sha(1)) is None
    assert "revoked" in table.add(1001, "alice", [sha(1)])[sha(1)]
    assert table.hashes(1001) == []


def test_what_was_never_registered_can_be_barred(table: RouteTable) -> None:
    """A revocation counts, even where the route had been lost."""
    table.drop(1001, [sha(5)])
    assert "revoked" in table.add(1001, "alice", [sha(5)])[sha(5)]


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    first = RouteTable.in_folder(tmp_path)
    first.add(1001, "alice", [sha(1), sha(2)])
    first.drop(1001, [sha(2)])
    first.close()
    second = RouteTable.in_folder(tmp_path)
    assert second.find(sha(1)) == Route(1001, "alice")
    assert second.find(sha(2)) is None
    second.close()


def test_a_user_has_so_many_rows(table: RouteTable) -> None:
    refused = table.add(1001, "alice", [sha(n) for n in range(ROWS + 3)])
    assert len(refused) == 3
    assert table.add(1002, "bob", [sha(9999)]) == {}
    table.drop(1001, [sha(0)])
    assert table.add(1001, "alice", [sha(ROWS + 1)]) == {}


def test_a_user_has_so_many_tombstones(table: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, so that nobody fills the disk."""
    monkeypatch.setattr(module, "TOMBSTONES", 5)
    for number in range(20):
        table.drop(1001, [sha(number)])
    with table._engine.connect() as connection:
        assert table._count(connection, 1001, revoked=True) == 5


def test_routes_of_tokens_that_are_gone_are_let_go(table: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this uid, not of another, and not of a token that is just being made; a revoked one stays barred."""
    table.add(1001, "alice", [sha(1), sha(2), sha(3)])
    table.add(1002, "bob", [sha(4)])
    table.drop(1001, [sha(3)])
    table.keep(1001, [sha(1)])
    assert table.find(sha(2))
    monkeypatch.setattr(module, "SETTLED", module.timedelta(seconds=-5))
    table.keep(1001, [sha(1)])
    assert [table.find(sha(n)) is not None for n in (1, 2, 3, 4)] == [True, False, False, True]
    assert table.add(1001, "alice", [sha(2)]) == {}
    assert "revoked" in table.add(1001, "alice", [sha(3)])[sha(3)]


def test_a_user_who_was_renamed(table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    table.find(sha(1))
    table.add(1001, "alicia", [sha(1)])
    assert table.find(sha(1)) == Route(1001, "alicia")


def test_many_threads_at_once(table: RouteTable) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: table.add(1000 + n % 4, "u", [sha(n)]), range(80)))
        found = list(pool.map(lambda n: table.find(sha(n)), range(80)))
    assert [route.uid for route in found if route] == [1000 + n % 4 for n in range(80)]


def test_the_table_is_the_hooks_alone(tmp_path: Path, table: RouteTable) -> None:
    table.add(1001, "alice", [sha(1)])
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
