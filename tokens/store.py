"""One user's tokens.json: the file that has the last word on every token of that user.

Called by the PUN and by ``punway token``, always with that user's own privilege. The file is shared with
OOD's dashboard plugin, so its lock, its older form of entry and fields that are not ours are respected.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tokens.errors import NoSuchToken, StoreRefused, StoreUnavailable
from tokens.permissions import MAX_FILE_BYTES, check_file, check_way
from tokens.token import Token, from_entry, text_of, to_text

MAX_TOKENS = 200
"""Greatest number of tokens of one user."""
MAX_WRITE_ATTEMPTS = 5
"""How often a change is tried on a file that another program changes without the lock."""
LOCK_TIMEOUT_S = 10.0
"""How long a writer waits for another one, in seconds."""

Entry = dict[str, Any]


class TokenStore:
    """The tokens of the user that this process runs as, below ``home``."""

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home)
        self.directory = self.home / ".config" / "ondemand"
        self.path = self.directory / "tokens.json"
        # Which file was read, and what was in it: one value, as threads read and set it at the same time.
        self._read: tuple[tuple[int, ...] | None, list[Token]] = (None, [])

    def tokens(self) -> list[Token]:
        """Every usable token of the file, read again when the file is another one than last time.

        An absent file is an empty list. Raises StoreRefused and StoreUnavailable.
        """
        try:
            descriptor = self._open()
            if descriptor is None:
                return []
            # open() rather than stat(): NFS asks its server again at open (close-to-open consistency).
            with os.fdopen(descriptor, "rb") as file:
                identity = self._identity(os.fstat(file.fileno()))
                seen, tokens = self._read
                if seen != identity:
                    entries = self._parse(file.read(MAX_FILE_BYTES + 1))
                    tokens = [token for entry in entries if (token := from_entry(entry))]
                    self._read = (identity, tokens)
        except OSError as error:
            raise StoreUnavailable(self._trouble("read", error)) from error
        return tokens

    def find(self, sha256: str) -> Token | None:
        """The token with this hash, expired or not; None when the file has none."""
        found = None
        for token in self.tokens():
            # Every entry is compared, and each in constant time.
            if hmac.compare_digest(token.sha256, sha256):
                found = token
        return found

    def add(self, token: Token) -> None:
        """Write one more token. Raises StoreRefused when there are MAX_TOKENS already."""
        self._rewrite(lambda entries: _with(entries, token, self.path))

    def remove(self, token_id: str) -> None:
        """Forget a token; at the very next request it is refused. Raises NoSuchToken."""

        def change(entries: list[Entry]) -> list[Entry]:
            kept = [entry for entry in entries if text_of(entry, "id") != token_id]
            if len(kept) == len(entries):
                raise NoSuchToken(f"no token has the id {token_id}; see: punway token list")
            return kept

        self._rewrite(change)

    def succeed(self, token_id: str, successor: Token, until: datetime) -> None:
        """Write a token's successor beside it, and let the old one end at ``until`` if it would live longer.

        One write: there is never one without the other. Raises NoSuchToken, and StoreRefused for an entry in
        clear, which the program that wrote it would go on taking.
        """

        def change(entries: list[Entry]) -> list[Entry]:
            token = next((token for token in map(from_entry, entries) if token and token.id == token_id), None)
            if token is None:
                raise NoSuchToken(f"no token has the id {token_id}; see: punway token list")
            if token.in_clear:
                raise StoreRefused("this token stands in the file in clear; first run: punway token secure")
            ends = min(until, token.expires_at or until)
            changed = [{**e, "expires_at": to_text(ends)} if text_of(e, "id") == token_id else e for e in entries]
            return _with(changed, successor, self.path)

        self._rewrite(change)

    def note_use(self, used: dict[str, datetime]) -> None:
        """Set ``last_used_at`` (token id → time) of tokens that are still there; others stay gone.

        Entries in clear belong to another program and are left as they are.
        """

        def change(entries: list[Entry]) -> list[Entry]:
            return [
                {**entry, "last_used_at": to_text(used[text_of(entry, "id")])}
                if "sha256" in entry and text_of(entry, "id") in used
                else entry
                for entry in entries
            ]

        self._rewrite(change)

    def secure(self) -> int:
        """Replace each secret that stands in the file in clear by its hash; how many there were."""
        count = 0

        def change(entries: list[Entry]) -> list[Entry]:
            nonlocal count
            changed = []
            for entry in entries:
                token = from_entry(entry)
                if token and token.in_clear:
                    count += 1
                    rest = {key: value for key, value in entry.items() if key != "token"}
                    entry = {**token.entry(), **rest, "sha256": token.sha256, "scopes": list(token.scopes)}
                changed.append(entry)
            return changed

        self._rewrite(change)
        return count

    def _open(self) -> int | None:
        """A descriptor of the file once it and the way to it are found trustworthy; None if it is absent."""
        check_way(self.home, self.directory)
        try:
            # O_NONBLOCK, or a FIFO in its place would hold the caller for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise StoreRefused(f"{self.path} is a symbolic link; put the file itself there") from error
            if error.errno == errno.EACCES:
                check_file(self.path, self.path.lstat())
                raise StoreRefused(f"{self.path} is closed to yourself; run: chmod 600 {self.path}") from error
            raise
        status = os.fstat(descriptor)
        if status.st_nlink == 0:
            # Replaced or removed since it was opened: what is there now counts.
            os.close(descriptor)
            return self._open()
        try:
            check_file(self.path, status)
        except StoreRefused:
            os.close(descriptor)
            raise
        return descriptor

    def _parse(self, content: bytes) -> list[Entry]:
        try:
            entries = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise StoreRefused(f"{self.path} is not JSON; put it right or move it away") from error
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise StoreRefused(f"{self.path} is not an array of objects; put it right or move it away")
        return entries

    def _rewrite(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Read, change and replace the file under the lock, so that no writer's entry is lost.

        Whoever edits or removes the file by hand takes no lock: a file that is another one by the time
        that ours is written is read and changed anew.
        """
        try:
            for directory in (self.directory.parent, self.directory):
                directory.mkdir(mode=0o700, exist_ok=True)
            with self._lock():
                for _ in range(MAX_WRITE_ATTEMPTS):
                    descriptor = self._open()
                    entries: list[Entry] = []
                    seen = None
                    if descriptor is not None:
                        with os.fdopen(descriptor, "rb") as file:
                            seen = self._identity(os.fstat(file.fileno()))
                            entries = self._parse(file.read(MAX_FILE_BYTES + 1))
                    changed = change(entries)
                    if changed == entries:
                        return
                    text = json.dumps(changed, indent=2, ensure_ascii=False)
                    if self._replace(text.encode("utf-8", "surrogatepass") + b"\n", seen):
                        return
            raise StoreUnavailable(f"another program keeps changing {self.path}; try again")
        except OSError as error:
            raise StoreUnavailable(self._trouble("write", error)) from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """The lock that OOD's dashboard plugin takes too: flock on a file beside, as a rename replaces ours."""
        check_way(self.home, self.directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.directory / ".tokens.json.lock", flags, 0o600)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise StoreUnavailable(f"another program keeps {self.path} locked") from error
                    time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, content: bytes, seen: tuple[int, ...] | None) -> bool:
        """Put a new file in the place of the one that was ``seen``, whole or not at all.

        False when another one is there by now, which stays. The new file is 0600 from its first byte.
        """
        temporary = self.directory / f".tokens.json.{os.getpid()}.{secrets.token_hex(4)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if self._seen() != seen:
                temporary.unlink()
                return False
            temporary.rename(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return True

    def _seen(self) -> tuple[int, ...] | None:
        try:
            return self._identity(self.path.lstat())
        except FileNotFoundError:
            return None

    def _trouble(self, verb: str, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"no space or quota is left to {verb} {self.path}; nothing was changed"
        return f"cannot {verb} {self.path}: {error.strerror}"

    @staticmethod
    def _identity(status: os.stat_result) -> tuple[int, ...]:
        # ctime too: it moves where a program sets mtime back after a change.
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _with(entries: list[Entry], token: Token, path: Path) -> list[Entry]:
    if len(entries) >= MAX_TOKENS:
        raise StoreRefused(f"{path} holds {MAX_TOKENS} tokens; revoke some first")
    return [*entries, token.entry()]


def hashes(tokens: Iterable[Token]) -> list[str]:
    """The hashes of the tokens that are not expired: what the front may route."""
    return [token.sha256 for token in tokens if not token.expired()]
