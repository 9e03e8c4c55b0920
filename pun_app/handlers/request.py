"""What a handler is given: no WSGI object, only what the request means."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from werkzeug.datastructures import ETags

from pun_app.access import Caller
from pun_app.clusters.load import Cluster, ClusterFolder
from pun_app.errors import BadRequest
from pun_app.gate import Gates, Turn
from pun_app.idempotency import Submits
from pun_app.long_poll import LongPoll, Parked, Wait


@dataclass
class Request:
    """One authorised request, which arrived at a moment of the monotonic clock. ``turn`` is its place among those that
    ask the same cluster, in one of ``gates``. ``fresh`` is true where the client wants no answer used again.

    ``notes`` is the folder of the site's notes for agents, ``seen`` the ETags of what the client has seen, ``key``
    its Idempotency-Key, which ``submits`` knows. ``long_poll`` lets a request wait, and ``wait`` is the wait of a
    request whose handler is called again. ``age``, ``next_cursor`` and ``etag`` are what a handler sets: how many
    seconds old the answer is, for a list that is paged where its next page begins ("" after the last), what the answer
    is told by (its content, unless set), whether it is an earlier one, and its status where that is not the route's.
    """

    caller: Caller
    clusters: ClusterFolder
    long_poll: LongPoll
    notes: str = ""
    id: str = ""
    query: dict[str, list[str]] = field(default_factory=dict)
    body: Any = None
    fresh: bool = False
    seen: ETags = field(default_factory=ETags)
    key: str | None = None
    submits: Submits | None = None
    wait: Wait | None = None
    age: float = 0.0
    etag: str | None = None
    replayed: bool = False
    status: int | None = None
    next_cursor: str | None = None
    arrived: float = field(default_factory=time.monotonic)
    gates: Gates | None = None
    turn: Turn | None = None

    def given(self, name: str, *, may_be_blank: bool = False) -> str | None:
        """A parameter's one value; None where it is missing, or blank where it may be.

        Raises BadRequest where it is there twice, or blank.
        """
        given = self.query.get(name, [])
        if len(given) > 1:
            raise BadRequest(f"{name} is given more than once")
        if given and not given[0] and not may_be_blank:
            raise BadRequest(f"{name} is empty: give it a value, or leave it out")
        return given[0] if given and given[0] else None

    def cluster(self) -> Cluster:
        """The cluster that the query names, as ``entered`` gives it. Raises BadRequest and NotFound."""
        given = self.query.get("cluster", [])
        if len(given) != 1 or not given[0].strip():
            raise BadRequest("Missing cluster parameter: add ?cluster=ID (one), as GET /api/v1/clusters lists them")
        return self.entered(given[0])

    def entered(self, cluster_id: str) -> Cluster:
        """Return a cluster once this request has a place among those that ask it; call this before anything is changed.

        Raises Parked where it has to wait for one, and NotFound.
        """
        cluster = self.clusters.get(cluster_id)
        if self.wait is None:  # What has waited for a job knows most of its answer.
            self.take_turn(cluster.id)
        return cluster

    def take_turn(self, name: str) -> None:
        """Take a place in a gate. Raises Parked where the request has to wait for one."""
        if self.turn is None and self.gates is not None:
            self.turn = self.gates.enter(name)
        if self.turn is not None and not self.turn.has_place:
            raise Parked(self.turn)

    def leave(self) -> None:
        """Give up the place."""
        if self.turn is not None:
            self.turn.end()
            self.turn = None
