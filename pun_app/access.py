"""assertion → token → scope → Caller: who a request is for, and that it may; for a page, → Visitor.

The PUN has the last word on a token: the hook vouches for who the caller is, and this process looks the
token's hash up in the user's own file, at every request.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from pun_app.errors import InsufficientScope, Unauthorized, Unavailable
from tokens import scopes
from tokens.assertion import Assertion, InvalidAssertion, Verifier
from tokens.errors import StoreError, StoreRefused
from tokens.store import MAX_TOKENS, TokenStore
from tokens.token import Token, utc_now

ASSERTION = "punway.assertion"
"""Where the server puts what the note said when the request arrived, in the environment."""
USE_NOTED_EVERY = 60.0
"""Seconds between two notes of a token's use in the file."""

log = logging.getLogger("punway.pun")


@dataclass(frozen=True)
class Caller:
    """Who a handler is acting for: the user that this process is, and what the credential may.

    ``expires_at`` is a token's; None for one that never expires, and for an identity provider's, which says it itself.
    """

    user: str
    via: str
    scopes: tuple[str, ...]
    token_id: str | None
    token_name: str | None
    expires_at: datetime | None = None
    token_sha256: str | None = None

    def need(self, scope: str) -> None:
        """Raise InsufficientScope unless the caller may."""
        if not scopes.allows(self.scopes, scope):
            raise InsufficientScope(scope)


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page: the user that this process is, and the name of the browser's session."""

    user: str
    sid: str


class Access:
    """The door of one PUN."""

    def __init__(self, verifier: Verifier, store: TokenStore, uid: int | None = None) -> None:
        self._verifier = verifier
        self._store = store
        self._uid = os.geteuid() if uid is None else uid
        self._uses = UseNotes(store)

    def arrived(self, note: str | None) -> Assertion | None:
        """Return what a request's note says when its head has been read: it may expire while the request waits for a
        thread. None for a note that is not good.
        """
        try:
            return self._verifier.verify(note or "", self._uid)
        except InvalidAssertion:
            return None

    def caller(self, note: str | None, arrived: Assertion | None = None) -> Caller:
        """The caller of the API that the hook's note names: by a token of ours, or by the identity provider's.
        ``arrived`` is what the note said when the request arrived.

        Raises Unauthorized, also for a browser's session, and Unavailable for a home's trouble.
        """
        assertion = arrived or self._assertion(note)
        if assertion.via == "jwt":
            return Caller(assertion.user, assertion.via, assertion.scopes, None, None)
        if assertion.via != "token" or assertion.sha256 is None:
            raise Unauthorized("Invalid or missing API token")
        now = utc_now()
        token = self._good_token(assertion.sha256, now)
        if not token.in_clear:
            self._uses.note(token.id, token.last_used_at, now)
        # The hook says what the site allows, the file what the token may.
        held = scopes.common(token.scopes, assertion.scopes)
        return Caller(assertion.user, assertion.via, held, token.id, token.name, token.expires_at, token.sha256)

    def check_again(self, caller: Caller) -> None:
        """Raise what ``caller`` raises if the caller's token has been revoked, or has expired, since then."""
        if caller.token_sha256 is not None:
            self._good_token(caller.token_sha256, utc_now())

    def _good_token(self, sha256: str, now: datetime) -> Token:
        try:
            token = self._store.find(sha256)
        except StoreRefused as error:
            raise Unauthorized(f"No token can be checked: {error}") from error
        except StoreError as error:
            raise Unavailable(f"No token can be checked just now: {error}") from error
        if token is None:
            raise Unauthorized("Invalid or missing API token: this token was revoked")
        if token.expired(now):
            raise Unauthorized("Invalid or missing API token: this token has expired", token)
        return token

    def visitor(self, note: str | None, arrived: Assertion | None = None) -> Visitor:
        """The visitor of a page. Raises Unauthorized for whoever has no browser's session."""
        assertion = arrived or self._assertion(note)
        if assertion.via != "session" or not assertion.sid:
            raise Unauthorized("You are not signed in")
        return Visitor(assertion.user, assertion.sid)

    def _assertion(self, note: str | None) -> Assertion:
        try:
            return self._verifier.verify(note or "", self._uid)
        except InvalidAssertion as error:
            raise Unauthorized("Invalid or missing API token: the request did not come through the portal") from error


class UseNotes:
    """Writes ``last_used_at``, off the request's path and at most once a minute for each token."""

    def __init__(self, store: TokenStore) -> None:
        self._store = TokenStore(store.home)
        self._noted: dict[str, float] = {}
        self._pending: queue.Queue[tuple[str, datetime]] = queue.Queue(MAX_TOKENS)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def note(self, token_id: str, last: datetime | None, now: datetime) -> None:
        """Have a use noted, unless one was within the minute. Never fails, never waits for the disk."""
        # A last use that is to come was noted before the clock was set back.
        if last is not None and 0 <= (now - last).total_seconds() < USE_NOTED_EVERY:
            return
        with self._lock:
            noted = self._noted.get(token_id)
            if noted is not None and time.monotonic() - noted < USE_NOTED_EVERY:
                return
            self._noted[token_id] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="last-used", daemon=True)
                self._thread.start()
        try:
            self._pending.put_nowait((token_id, now))
        except queue.Full:
            pass  # The home has not answered for long. A later use is noted.

    def _write(self) -> None:
        while True:
            token_id, when = self._pending.get()
            try:
                self._store.record_last_used({token_id: when})
            except StoreError as error:
                log.warning("the last use of a token could not be noted: %s", error)
