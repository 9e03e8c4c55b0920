"""Browser sessions, and the one-time links that begin one.

Both are in the hook's memory, so a restart ends them all. A session gives access to the pages, and never to the API.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from itsdangerous import BadSignature, Signer

from proxy_hook.accounts import UnixAccount

MAX_SESSIONS = 10_000
"""The maximum number of sessions of all users. Beyond it, the oldest session ends."""
MAX_SESSIONS_PER_USER = 20
"""The maximum number of sessions of one user. Beyond it, that user's oldest session ends."""
LINK_LIFETIME_S = 60
"""How long a one-time link is valid."""
MAX_LINKS_PER_USER = 5
"""The maximum number of unused links of one user. Beyond it, that user's oldest link becomes invalid."""


@dataclass(frozen=True)
class Session:
    """A browser session.

    ``key`` is a hash of the cookie, ``sid`` is the random name of the session for its user's PUN, and ``ends`` is
    monotonic time.
    """

    key: str
    sid: str
    account: UnixAccount
    via: str
    ends: float


class Sessions:
    """All sessions. Used only from the hook's event loop. ``lifetime`` is in seconds."""

    def __init__(
        self, lifetime: int, *, max_sessions: int = MAX_SESSIONS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lifetime = lifetime
        self._max_sessions = max_sessions
        self._clock = clock
        # The signature has no timestamp. That would be wall-clock time, and setting the clock would end all sessions.
        self._signer = Signer(secrets.token_bytes(32), salt="punway session", digest_method=hashlib.sha256)
        self._sessions: dict[str, Session] = {}

    def begin(self, account: UnixAccount, via: str) -> str:
        """Begin a session. Return the value of its cookie, which is not stored."""
        self._make_room(account)
        value = secrets.token_urlsafe(32)
        key = _digest(value)
        ends = self._clock() + self._lifetime
        self._sessions[key] = Session(key, secrets.token_urlsafe(32), account, via, ends)
        return self._signer.sign(value).decode()

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if the cookie is not valid, or the session has ended."""
        try:
            value = self._signer.unsign(cookie).decode()
        except (BadSignature, UnicodeError):
            return None
        session = self._sessions.get(_digest(value))
        if session and session.ends <= self._clock():
            self.end(session)
            return None
        return session

    def end(self, session: Session) -> None:
        """End a session, so that its cookie becomes invalid."""
        self._sessions.pop(session.key, None)

    def _make_room(self, account: UnixAccount) -> None:
        now = self._clock()
        self._sessions = {key: session for key, session in self._sessions.items() if session.ends > now}
        own = [key for key, session in self._sessions.items() if session.account.uid == account.uid]
        for key in own[: len(own) - MAX_SESSIONS_PER_USER + 1] if len(own) >= MAX_SESSIONS_PER_USER else []:
            del self._sessions[key]
        while len(self._sessions) >= self._max_sessions:
            del self._sessions[next(iter(self._sessions))]


class Links:
    """The codes of one-time links, each for one sign-in within LINK_LIFETIME_S. The registrar's threads create them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._codes: dict[str, tuple[UnixAccount, float]] = {}

    def make(self, account: UnixAccount) -> str:
        """Create a code for an account: 64 hex characters, a form that nginx writes into no log."""
        code = secrets.token_hex(32)
        with self._lock:
            now = self._clock()
            self._codes = {key: entry for key, entry in self._codes.items() if entry[1] > now}
            own = [key for key, (owner, _) in self._codes.items() if owner.uid == account.uid]
            if len(own) >= MAX_LINKS_PER_USER:
                del self._codes[own[0]]
            self._codes[_digest(code)] = (account, now + LINK_LIFETIME_S)
        return code

    def look(self, code: str) -> UnixAccount | None:
        """Return the account of a valid code, or None.

        The code stays valid, because viewing a page must not sign anybody in.
        """
        with self._lock:
            return self._valid(self._codes.get(_digest(code)))

    def use(self, code: str) -> UnixAccount | None:
        """Return the account of a valid code, or None, and make the code invalid.

        If several browsers use a code at the same time, only one gets the account.
        """
        with self._lock:
            return self._valid(self._codes.pop(_digest(code), None))

    def _valid(self, entry: tuple[UnixAccount, float] | None) -> UnixAccount | None:
        return entry[0] if entry and entry[1] > self._clock() else None


def _digest(value: str) -> str:
    # Looking up a digest means that the duration of a look-up reveals nothing about the value.
    return hashlib.sha256(value.encode()).hexdigest()
