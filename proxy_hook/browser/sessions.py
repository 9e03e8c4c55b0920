"""Browser sessions, and the one-time links that begin one. In the hook's memory: a restart ends them all.

A session opens the pages and nothing else; it never opens the API.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass

from itsdangerous import BadSignature, Signer

from proxy_hook.accounts import UnixAccount

MAX_SESSIONS = 10_000
"""Sessions of all users together; beyond it the oldest goes."""
MAX_SESSIONS_PER_USER = 20
"""Sessions of one user; beyond it that user's oldest goes."""
LINK_LIFETIME_S = 60
"""Seconds for which a one-time link is good."""
MAX_LINKS_PER_USER = 5
"""One-time links of one user at once; beyond it that user's oldest goes."""


@dataclass(frozen=True)
class Session:
    """``sid`` names it to its user's PUN; ``key`` is what is kept of the cookie; ``ends`` is monotonic time."""

    key: str
    sid: str
    account: UnixAccount
    via: str
    ends: float


class Sessions:
    """The sessions there are. Used from the hook's event loop alone. ``lifetime`` is in seconds."""

    def __init__(self, lifetime: int) -> None:
        self._lifetime = lifetime
        # Without a time, which would be the wall clock's: whoever sets that must not sign everybody out.
        self._signer = Signer(secrets.token_bytes(32), salt="punway session", digest_method=hashlib.sha256)
        self._sessions: dict[str, Session] = {}

    def begin(self, account: UnixAccount, via: str) -> str:
        """A new session; the cookie's value, which is kept nowhere here."""
        self._make_room(account)
        value = secrets.token_urlsafe(32)
        key = _digest(value)
        ends = time.monotonic() + self._lifetime
        self._sessions[key] = Session(key, secrets.token_urlsafe(32), account, via, ends)
        return self._signer.sign(value).decode()

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie's value; None for one that is not ours, is over, or was ended."""
        try:
            value = self._signer.unsign(cookie).decode()
        except (BadSignature, UnicodeError):
            return None
        session = self._sessions.get(_digest(value))
        if session and session.ends <= time.monotonic():
            self.end(session)
            return None
        return session

    def end(self, session: Session) -> None:
        """Whoever has its cookie is signed out."""
        self._sessions.pop(session.key, None)

    def _make_room(self, account: UnixAccount) -> None:
        now = time.monotonic()
        self._sessions = {key: session for key, session in self._sessions.items() if session.ends > now}
        own = [key for key, session in self._sessions.items() if session.account.uid == account.uid]
        for key in own[: len(own) - MAX_SESSIONS_PER_USER + 1] if len(own) >= MAX_SESSIONS_PER_USER else []:
            del self._sessions[key]
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]


class Links:
    """One-time codes, each good for one sign-in within LINK_LIFETIME_S. The registrar's threads make them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: dict[str, tuple[UnixAccount, float]] = {}

    def make(self, account: UnixAccount) -> str:
        """A code for an account: 64 hex characters, which nginx writes into no log."""
        code = secrets.token_hex(32)
        with self._lock:
            now = time.monotonic()
            self._codes = {key: entry for key, entry in self._codes.items() if entry[1] > now}
            own = [key for key, (whose, _) in self._codes.items() if whose.uid == account.uid]
            if len(own) >= MAX_LINKS_PER_USER:
                del self._codes[own[0]]
            self._codes[_digest(code)] = (account, now + LINK_LIFETIME_S)
        return code

    def look(self, code: str) -> UnixAccount | None:
        """Whose a code is, without using it up: a page that is only looked at signs nobody in."""
        with self._lock:
            return self._good(self._codes.get(_digest(code)))

    def use(self, code: str) -> UnixAccount | None:
        """Whose a code is, once: of two browsers at once, one gets it."""
        with self._lock:
            return self._good(self._codes.pop(_digest(code), None))

    @staticmethod
    def _good(entry: tuple[UnixAccount, float] | None) -> UnixAccount | None:
        return entry[0] if entry and entry[1] > time.monotonic() else None


def _digest(value: str) -> str:
    # Looked up by digest, so that how long a look-up takes tells nothing of the value.
    return hashlib.sha256(value.encode()).hexdigest()
