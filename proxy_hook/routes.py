"""RouteTable: sha256(token) → account. It routes; whether a token is good, the user's own file decides.

Runs in the hook. Rows come and go through the registrar alone. A revoked hash stays as a tombstone, so that
an old tokens.json that comes back from a backup opens nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

ROWS = 200
"""Greatest number of live rows of one uid."""
TOMBSTONES = 10_000
"""Tombstones kept for one uid; beyond it the oldest go, so that no user can fill the disk."""
SETTLED = timedelta(minutes=1)
"""How old a route must be before it is let go because no token of its user has it."""
REMEMBERED = 10_000
"""Rows remembered in memory."""

_metadata = MetaData()
_routes = Table(
    "routes",
    _metadata,
    Column("sha256", String(64), primary_key=True),
    Column("uid", Integer, nullable=False, index=True),
    Column("name", String(256), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("revoked_at", String(32)),
)


@dataclass(frozen=True)
class Route:
    uid: int
    name: str


class RouteTable:
    """The table at an SQLAlchemy URL. Its methods may be called from any thread."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _tune_sqlite)
        _metadata.create_all(self._engine)
        self._remembered: dict[str, Route] = {}
        self._lock = threading.Lock()
        self.on_drop: Callable[[str], None] = lambda _sha256: None

    @classmethod
    def in_folder(cls, folder: Path) -> RouteTable:
        """The SQLite table of one host."""
        os.umask(0o077)
        return cls(f"sqlite:///{folder / 'routes.sqlite'}")

    def close(self) -> None:
        """Close the connections to the table."""
        self._engine.dispose()

    def remembered(self, sha256: str) -> Route | None:
        """The route of a hash if it is in memory; never waits."""
        return self._remembered.get(sha256)

    def find(self, sha256: str) -> Route | None:
        """The route of a hash, unless it is unknown or revoked."""
        with self._lock, self._engine.connect() as connection:
            row = connection.execute(
                select(_routes.c.uid, _routes.c.name).where(_routes.c.sha256 == sha256, _routes.c.revoked_at.is_(None))
            ).first()
            return None if row is None else self._remember(sha256, Route(row.uid, row.name))

    def add(self, uid: int, name: str, hashes: Iterable[str]) -> dict[str, str]:
        """Give hashes to a uid; those that were not taken, each with the reason."""
        with self._lock:
            with self._engine.begin() as connection:
                refused, added = self._add(connection, uid, name, hashes)
            for sha256 in added:
                self._remember(sha256, Route(uid, name))
        return refused

    def _add(
        self, connection: Connection, uid: int, name: str, hashes: Iterable[str]
    ) -> tuple[dict[str, str], list[str]]:
        """Those that were not taken, each with the reason, and those that are new."""
        refused: dict[str, str] = {}
        added: list[str] = []
        live = self._count(connection, uid, revoked=False)
        for sha256 in hashes:
            row = connection.execute(select(_routes).where(_routes.c.sha256 == sha256)).first()
            if row is None and live >= ROWS:
                refused[sha256] = f"a user has at most {ROWS} tokens"
            elif row is None:
                try:
                    with connection.begin_nested():
                        connection.execute(insert(_routes).values(sha256=sha256, uid=uid, name=name, created_at=_now()))
                    live += 1
                    added.append(sha256)
                except IntegrityError:
                    refused[sha256] = "another user holds this token"  # Another host was quicker.
            elif row.uid != uid:
                refused[sha256] = "another user holds this token"
            elif row.revoked_at is not None:
                refused[sha256] = "this token was revoked"
            elif row.name != name:
                connection.execute(update(_routes).where(_routes.c.sha256 == sha256).values(name=name))
                self._remembered.pop(sha256, None)
        return refused, added

    def _remember(self, sha256: str, route: Route) -> Route:
        if len(self._remembered) >= REMEMBERED:
            self._remembered.clear()
        self._remembered[sha256] = route
        return route

    def drop(self, uid: int, hashes: Iterable[str]) -> None:
        """Revoke hashes of a uid, registered or not: none of them can be registered again."""
        with self._lock, self._engine.begin() as connection:
            for sha256 in hashes:
                row = connection.execute(select(_routes).where(_routes.c.sha256 == sha256)).first()
                if row is None:
                    values = {"sha256": sha256, "uid": uid, "name": "", "created_at": _now(), "revoked_at": _now()}
                    connection.execute(insert(_routes).values(values))
                elif row.uid == uid and row.revoked_at is None:
                    connection.execute(update(_routes).where(_routes.c.sha256 == sha256).values(revoked_at=_now()))
                if row is None or row.uid == uid:
                    self._remembered.pop(sha256, None)
                    self.on_drop(sha256)
            self._bury(connection, uid)

    def keep(self, uid: int, hashes: Iterable[str]) -> None:
        """Let go of a uid's routes to tokens that are not among ``hashes``; they may be registered again.

        One that is younger than SETTLED stays: its token may be about to be written.
        """
        settled = (datetime.now(timezone.utc) - SETTLED).isoformat(timespec="seconds")
        with self._lock, self._engine.begin() as connection:
            mine = (_routes.c.uid == uid) & _routes.c.revoked_at.is_(None) & (_routes.c.created_at < settled)
            connection.execute(delete(_routes).where(mine, _routes.c.sha256.not_in(list(hashes))))
            self._remembered.clear()

    def hashes(self, uid: int) -> list[str]:
        """The hashes that lead to a uid."""
        with self._lock, self._engine.connect() as connection:
            rows = connection.execute(
                select(_routes.c.sha256)
                .where(_routes.c.uid == uid, _routes.c.revoked_at.is_(None))
                .order_by(_routes.c.created_at)
            )
            return [row.sha256 for row in rows]

    @staticmethod
    def _count(connection: Connection, uid: int, *, revoked: bool) -> int:
        which = _routes.c.revoked_at.is_not(None) if revoked else _routes.c.revoked_at.is_(None)
        query = select(func.count()).select_from(_routes).where(_routes.c.uid == uid, which)
        return int(connection.execute(query).scalar_one())

    def _bury(self, connection: Connection, uid: int) -> None:
        too_many = self._count(connection, uid, revoked=True) - TOMBSTONES
        if too_many > 0:
            mine = (_routes.c.uid == uid) & _routes.c.revoked_at.is_not(None)
            oldest = select(_routes.c.sha256).where(mine).order_by(_routes.c.revoked_at).limit(too_many)
            connection.execute(delete(_routes).where(_routes.c.sha256.in_(oldest)))


def _tune_sqlite(connection: object, _record: object) -> None:
    # A revocation that was answered must outlive a power cut; WAL keeps that to one fsync.
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
