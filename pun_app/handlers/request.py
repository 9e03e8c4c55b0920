"""Request and Answer: the input and the output of every handler. Neither has a WSGI object in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from werkzeug.datastructures import ETags

from pun_app.access import Caller
from pun_app.clusters.load import Cluster, ClusterFolder
from pun_app.gate import Gates, Turn
from pun_app.idempotency import Submits
from pun_app.long_poll import LongPoll, Parked, Wait

T = TypeVar("T")


class Place:
    """The place of one request in a gate (gate.py), which limits how many requests query a cluster at once."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._turn: Turn | None = None

    def take(self, gate: str) -> None:
        """Take a place in a gate, unless this request already has one. Raises Parked while all places are taken."""
        if self._turn is None:
            self._turn = self._gates.enter(gate)
        if not self._turn.has_place:
            raise Parked(self._turn)

    def leave(self) -> None:
        """Give the place up, or stop waiting for it."""
        if self._turn is not None:
            self._turn.end()
            self._turn = None


@dataclass(frozen=True)
class Request:
    """An authorised request.

    ``id`` is the id in the address. ``query`` is the route's Struct of queries.py, and ``body`` its Struct of
    schemas.py. ``no_cache`` is true if the client sent ``Cache-Control: no-cache``. ``site_docs`` is the path of the
    folder with the site's documents for agents. ``wait`` is set when the handler is called again because its wait for
    a job is over. ``arrived`` is the time at which the request had been read, in seconds of the monotonic clock.
    """

    caller: Caller
    clusters: ClusterFolder
    long_poll: LongPoll
    submits: Submits
    place: Place
    site_docs: str = ""
    id: str = ""
    query: Any = None
    body: Any = None
    no_cache: bool = False
    if_none_match: ETags = field(default_factory=ETags)
    idempotency_key: str | None = None
    wait: Wait | None = None
    arrived: float = field(default_factory=time.monotonic)

    def cluster(self) -> Cluster:
        """Return the cluster that the query string names, as ``entered`` does."""
        return self.entered(self.query.cluster)

    def entered(self, cluster_id: str) -> Cluster:
        """Return a cluster after taking a place in its gate.

        Call this before anything is changed: it raises Parked while all places are taken, and the handler is called
        again later. Raises NotFound for a cluster that does not exist or is not open to the caller.
        """
        cluster = self.clusters.get(cluster_id)
        if self.wait is None:  # After a wait for a job, the answer is mostly known, so the request needs no place.
            self.place.take(cluster.id)
        return cluster


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The result of a handler.

    ``data`` is sent as JSON. ``status`` is the HTTP status, if it is not the one that the route has. ``age`` is the
    age of the scheduler's data in seconds. ``etag`` replaces the hash of the content as the ETag. ``next_cursor`` is
    for lists with pages: the start of the next page, or "" on the last page.
    ``is_replayed`` is true if this answer was first given to an earlier request with the same Idempotency-Key.
    """

    data: T
    status: int | None = None
    age: float = 0.0
    etag: str | None = None
    next_cursor: str | None = None
    is_replayed: bool = False
