"""Authentication in the PUN: from the hook's assertion to a Caller of the API, or to a Visitor of a page.

The hook asserts the caller's identity. The PUN decides whether a token is valid: it looks the token's hash up in the
user's own file at every request.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pun_app.errors import InsufficientScope, Unauthorized, Unavailable
from tokens import scopes
from tokens.assertion import Assertion, InvalidAssertion, Verifier
from tokens.errors import StoreError, StoreRefused
from tokens.store import MAX_TOKENS, TokenStore
from tokens.token import Token, utc_now

ASSERTION = "punway.assertion"
"""The key in the WSGI environment of the assertion that was verified when the request arrived."""
LAST_USED_INTERVAL_S = 60.0
"""Time between two updates of a token's ``last_used_at`` in the file."""

log = logging.getLogger("punway.pun")


@dataclass(frozen=True)
class Caller:
    """The person or program that a handler acts for: this process's user, with the scopes of the credential.

    ``expires_at`` is None for a token that never expires and for a JWT, which has its own expiry.
    """

    user: str
    via: str
    scopes: tuple[str, ...]
    token_id: str | None
    token_name: str | None
    expires_at: datetime | None = None
    token_sha256: str | None = None

    def need(self, scope: str) -> None:
        """Raise InsufficientScope if the caller lacks a scope."""
        if not scopes.allows(self.scopes, scope):
            raise InsufficientScope(scope)


@dataclass(frozen=True)
class Visitor:
    """The visitor of a page: this process's user, and the id of the browser's session."""

    user: str
    sid: str


class Access:
    """The authentication of one PUN. ``uid`` is the user's, by default this process's."""

    def __init__(self, verifier: Verifier, store: TokenStore, uid: int | None = None) -> None:
        self._verifier = verifier
        self._store = store
        self._uid = os.geteuid() if uid is None else uid
        self._last_used = LastUsedWriter(store)

    def verify_assertion(self, header: str | None) -> Assertion | None:
        """Return the assertion in a header, or None if it is invalid.

        Called as soon as a request's headers have been read, because the assertion may expire while the request waits
        for a thread.
        """
        try:
            return self._verifier.verify(header or "", self._uid)
        except InvalidAssertion:
            return None

    def caller(self, header: str | None, verified: Assertion | None = None) -> Caller:
        """Return the caller of the API, who has a token of the portal or a JWT of the identity provider.

        ``verified`` is the assertion in the header, if it was verified when the request arrived. Raises Unauthorized,
        also for a browser's session, and Unavailable if the user's home does not answer.
        """
        assertion = verified or self._assertion(header)
        if assertion.via == "jwt":
            return Caller(assertion.user, assertion.via, assertion.scopes, None, None)
        if assertion.via != "token" or assertion.sha256 is None:
            raise Unauthorized("Invalid or missing API token")
        now = utc_now()
        token = self._valid_token(assertion.sha256, now)
        if not token.in_clear:
            self._last_used.update(token.id, token.last_used_at, now)
        # The hook's scopes are those that the site allows; the file's are those of the token.
        held = scopes.common(token.scopes, assertion.scopes)
        return Caller(assertion.user, assertion.via, held, token.id, token.name, token.expires_at, token.sha256)

    def check_again(self, caller: Caller) -> None:
        """Raise Unauthorized if the caller's token has been revoked or has expired since ``caller`` returned it."""
        if caller.token_sha256 is not None:
            self._valid_token(caller.token_sha256, utc_now())

    def _valid_token(self, sha256: str, now: datetime) -> Token:
        try:
            token = self._store.find(sha256)
        except StoreRefused as error:
            raise Unauthorized(f"Your tokens cannot be checked: {error}") from error
        except StoreError as error:
            raise Unavailable(f"Your tokens cannot be checked at the moment: {error}") from error
        if token is None:
            raise Unauthorized("Invalid or missing API token: this token has been revoked; make a new one")
        if token.expired(now):
            raise Unauthorized("Invalid or missing API token: this token has expired; make a new one", token)
        return token

    def visitor(self, header: str | None, verified: Assertion | None = None) -> Visitor:
        """Return the visitor of a page. Raises Unauthorized for a request without a browser's session."""
        assertion = verified or self._assertion(header)
        if assertion.via != "session" or not assertion.sid:
            raise Unauthorized("You are not signed in; sign in and try again")
        return Visitor(assertion.user, assertion.sid)

    def _assertion(self, header: str | None) -> Assertion:
        try:
            return self._verifier.verify(header or "", self._uid)
        except InvalidAssertion as error:
            raise Unauthorized("Invalid or missing API token: the request did not come through the portal") from error


class LastUsedWriter:
    """A thread that writes ``last_used_at`` to the token file, at most once a minute for each token.

    ``clock`` returns seconds of the monotonic clock.
    """

    def __init__(self, store: TokenStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = TokenStore(store.home)
        self._clock = clock
        self._updated: dict[str, float] = {}
        self._pending: queue.Queue[tuple[str, datetime]] = queue.Queue(MAX_TOKENS)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def update(self, token_id: str, last: datetime | None, now: datetime) -> None:
        """Queue an update, unless the token had one within the last minute. Never fails and never waits for the disk.

        ``last`` is the file's ``last_used_at``.
        """
        # A last use in the future was written before the clock was set back.
        if last is not None and 0 <= (now - last).total_seconds() < LAST_USED_INTERVAL_S:
            return
        with self._lock:
            updated = self._updated.get(token_id)
            if updated is not None and self._clock() - updated < LAST_USED_INTERVAL_S:
                return
            self._updated[token_id] = self._clock()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="last-used", daemon=True)
                self._thread.start()
        try:
            self._pending.put_nowait((token_id, now))
        except queue.Full:
            pass  # The home has not answered for a long time. A later use will be written.

    def _write(self) -> None:
        while True:
            token_id, when = self._pending.get()
            try:
                self._store.record_last_used({token_id: when})
            except StoreError as error:
                log.warning("failed to write a token's last use: %s", error)
