"""The route table, which maps the hash of a token to its account, with the time when the hook first saw the token.

Runs in the hook. The table only finds the account; the user's own token file decides whether a token is valid. Only the
registrar changes the table. Users cannot delete their rows: revoked and released rows stay in the table. So restoring
an old tokens.json gives no access, and registering a token a second time does not reset its age.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
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
    inspect,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from proxy_hook import audit
from proxy_hook.lru_cache import LruCache
from proxy_hook.sqlite_recovery import set_aside_if_damaged

MAX_ROUTES = 200
"""The maximum number of live routes of one uid."""
MAX_ENDED_ROUTES = 10_000
"""The maximum number of revoked and released routes of one uid. The oldest are deleted, to save disk space."""
MIN_AGE_TO_RELEASE_S = 60.0
"""How old a route must be before it is released because its token is not in the user's file."""
MAX_CACHED_ROUTES = 10_000
"""The maximum number of cached routes of all users. One user has at most MAX_ROUTES of them."""
READER_THREADS = 2

log = logging.getLogger("punway.hook")

_metadata = MetaData()
_routes = Table(
    "routes",
    _metadata,
    Column("sha256", String(64), primary_key=True),
    Column("uid", Integer, nullable=False, index=True),
    Column("name", String(256), nullable=False),
    # When the hook first saw the token. It does not change when the route is released and registered again.
    Column("created_at", String(32), nullable=False),
    Column("revoked_at", String(32)),
    Column("released_at", String(32)),
)
_live = _routes.c.revoked_at.is_(None) & _routes.c.released_at.is_(None)
_ended = or_(_routes.c.revoked_at.is_not(None), _routes.c.released_at.is_not(None))
_ended_at = func.coalesce(_routes.c.revoked_at, _routes.c.released_at)


@dataclass(frozen=True)
class Route:
    """The account of a token. ``first_seen`` is a Unix time in seconds."""

    uid: int
    name: str
    first_seen: float


@dataclass(frozen=True)
class Added:
    """The result of ``add``: the hashes that are new to the table, and the refused ones, each with the reason."""

    new: list[str]
    refused: dict[str, str]


class RouteTable:
    """The route table in a database, given by an SQLAlchemy URL. Its methods may be called from any thread.

    Writers take a lock. Readers do not, so a look-up never waits until a write has reached the disk. ``clock`` gives
    Unix times in seconds.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], float] = time.time, max_ended_routes: int = MAX_ENDED_ROUTES
    ) -> None:
        self._clock = clock
        self._max_ended_routes = max_ended_routes
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _tune_sqlite)
        _metadata.create_all(self._engine)
        self._add_missing_column()
        self._write_lock = threading.Lock()
        self._cache = _RouteCache()
        self._readers = ThreadPoolExecutor(READER_THREADS, "route-reader")

    @classmethod
    def in_folder(
        cls, folder: Path, *, clock: Callable[[], float] = time.time, max_ended_routes: int = MAX_ENDED_ROUTES
    ) -> RouteTable:
        """Open or create the SQLite table of one host.

        A damaged file is renamed and replaced by an empty table, which the PUNs fill when they start.
        """
        os.umask(0o077)
        path = folder / "routes.sqlite"
        if aside := set_aside_if_damaged(path):
            log.error("%s is damaged: renamed it to %s and created an empty route table", path, aside)
            audit.record("routes.replaced", "failed", None, reason=f"{path} was damaged; it was renamed to {aside}")
        return cls(f"sqlite:///{path}", clock=clock, max_ended_routes=max_ended_routes)

    def close(self) -> None:
        """Close the connections to the database."""
        self._readers.shutdown()
        self._engine.dispose()

    async def route_of(self, sha256: str) -> Route | None:
        """Return the live route of a hash, from the cache or, in a reader thread, from the table; None without one."""
        route = self._cache.get(sha256)
        if route is None:
            route = await asyncio.get_running_loop().run_in_executor(self._readers, self.find, sha256)
        return route

    def find(self, sha256: str) -> Route | None:
        """Return the live route of a hash; None if the hash is unknown, revoked or released. Blocks."""
        ticket, route = self._cache.begin(sha256), None
        try:
            with self._engine.connect() as connection:
                row = connection.execute(select(_routes).where(_routes.c.sha256 == sha256, _live)).first()
            if row is not None:
                route = Route(row.uid, row.name, _seconds(row.created_at))
        finally:
            self._cache.finish(sha256, ticket, route)
        return route

    def add(self, uid: int, name: str, hashes: Collection[str]) -> Added:
        """Register hashes for a uid. A released hash of the uid becomes live again, with its first ``created_at``."""
        added = Added([], {})
        with self._writing() as connection:
            found = connection.execute(select(_routes).where(_routes.c.sha256.in_(hashes)))
            rows = {row.sha256: row for row in found}
            live = self._count(connection, uid, _live)
            for sha256 in dict.fromkeys(hashes):
                row = rows.get(sha256)
                if row is not None and row.uid != uid:
                    added.refused[sha256] = "another user has registered this token"
                elif row is not None and row.revoked_at is not None:
                    added.refused[sha256] = "this token was revoked"
                elif row is not None and row.released_at is None:
                    continue
                elif live >= MAX_ROUTES:
                    added.refused[sha256] = f"a user can have at most {MAX_ROUTES} tokens"
                elif row is not None:
                    connection.execute(update(_routes).where(_routes.c.sha256 == sha256).values(released_at=None))
                    live += 1
                else:
                    self._insert(connection, uid, name, sha256, added)
                    live += 1
            renamed = [sha256 for sha256, row in rows.items() if row.uid == uid and row.name != name]
            if renamed:  # Without this check, each start of a PUN, which registers known hashes, would be a write.
                connection.execute(update(_routes).where(_routes.c.sha256.in_(renamed)).values(name=name))
        self._cache.forget(renamed)
        return added

    def _insert(self, connection: Connection, uid: int, name: str, sha256: str, added: Added) -> None:
        try:
            with connection.begin_nested():
                connection.execute(insert(_routes).values(sha256=sha256, uid=uid, name=name, created_at=self._now()))
        except IntegrityError:
            # Another host has just registered it.
            added.refused[sha256] = "another user has registered this token"
        else:
            added.new.append(sha256)

    def revoke(self, uid: int, hashes: Collection[str]) -> None:
        """Revoke hashes of a uid, registered or not. A revoked hash can never be registered again."""
        with self._writing() as connection:
            rows = connection.execute(select(_routes.c.sha256, _routes.c.uid).where(_routes.c.sha256.in_(hashes)))
            owners = {row.sha256: row.uid for row in rows}
            own = [sha256 for sha256, owner in owners.items() if owner == uid]
            revoked_unseen = [
                {"sha256": sha256, "uid": uid, "name": "", "created_at": self._now(), "revoked_at": self._now()}
                for sha256 in dict.fromkeys(hashes)
                if sha256 not in owners
            ]
            not_revoked = _routes.c.sha256.in_(own) & _routes.c.revoked_at.is_(None)
            connection.execute(update(_routes).where(not_revoked).values(revoked_at=self._now()))
            if revoked_unseen:
                connection.execute(insert(_routes), revoked_unseen)
            self._delete_oldest_ended(connection, uid)
        self._cache.forget(own)

    def release_others(self, uid: int, hashes: Collection[str]) -> None:
        """Release all routes of a uid except those of ``hashes``. They can be registered again.

        Routes younger than MIN_AGE_TO_RELEASE_S stay: their tokens may not be in the file yet.
        """
        before = _text(self._clock() - MIN_AGE_TO_RELEASE_S)
        with self._writing() as connection:
            mine = (_routes.c.uid == uid) & _live & (_routes.c.created_at < before)
            released = [
                row.sha256
                for row in connection.execute(select(_routes.c.sha256).where(mine, _routes.c.sha256.not_in(hashes)))
            ]
            connection.execute(update(_routes).where(_routes.c.sha256.in_(released)).values(released_at=self._now()))
            self._delete_oldest_ended(connection, uid)
        self._cache.forget(released)

    def hashes(self, uid: int) -> list[str]:
        """Return the live hashes of a uid, oldest first."""
        query = select(_routes.c.sha256).where(_routes.c.uid == uid, _live).order_by(_routes.c.created_at)
        with self._engine.connect() as connection:
            return [row.sha256 for row in connection.execute(query)]

    def _now(self) -> str:
        return _text(self._clock())

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._write_lock, self._engine.begin() as connection:
            yield connection

    @staticmethod
    def _count(connection: Connection, uid: int, which: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(_routes).where(_routes.c.uid == uid, which)
        return int(connection.execute(query).scalar_one())

    def _delete_oldest_ended(self, connection: Connection, uid: int) -> None:
        too_many = self._count(connection, uid, _ended) - self._max_ended_routes
        if too_many > 0:
            mine = (_routes.c.uid == uid) & _ended
            # Delete hashes that were never registered first: a user could invent thousands of them.
            order = (_routes.c.name != "", _ended_at)
            oldest = select(_routes.c.sha256).where(mine).order_by(*order).limit(too_many)
            connection.execute(delete(_routes).where(_routes.c.sha256.in_(oldest)))

    def _add_missing_column(self) -> None:
        """Add the column ``released_at``, which a table of version 0.1.0 does not have."""
        if "released_at" not in {column["name"] for column in inspect(self._engine).get_columns("routes")}:
            with self._engine.begin() as connection:
                connection.execute(text("ALTER TABLE routes ADD COLUMN released_at VARCHAR(32)"))


class _RouteCache:
    """A cache of routes. The least recently used one is evicted first.

    A look-up caches its result only if the hash was not forgotten during the look-up. Otherwise a look-up that began
    before a revocation could restore the route after it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routes: LruCache[str, Route] = LruCache(MAX_CACHED_ROUTES)
        self._lookups: dict[str, object] = {}

    def get(self, sha256: str) -> Route | None:
        with self._lock:
            return self._routes.get(sha256)

    def begin(self, sha256: str) -> object:
        """Return a ticket for a look-up that is about to begin."""
        ticket = object()
        with self._lock:
            self._lookups[sha256] = ticket
        return ticket

    def finish(self, sha256: str, ticket: object, route: Route | None) -> None:
        """Cache the result of a look-up, unless its ticket is no longer valid."""
        with self._lock:
            if self._lookups.get(sha256) is not ticket:
                return
            del self._lookups[sha256]
            if route is not None:
                self._routes.put(sha256, route)

    def forget(self, hashes: Collection[str]) -> None:
        with self._lock:
            for sha256 in hashes:
                self._routes.pop(sha256)
                self._lookups.pop(sha256, None)


def _tune_sqlite(connection: object, _record: object) -> None:
    # A confirmed revocation must survive a power failure. With WAL, that takes one fsync.
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _text(seconds: float) -> str:
    """Return a Unix time as it is stored: ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _seconds(stored: str) -> float:
    return datetime.fromisoformat(stored).timestamp()
