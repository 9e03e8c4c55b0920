"""The token file of a user, tokens.json, which decides whether a token of that user is valid.

The PUN and ``punway token`` use it, always with the user's own privilege. The dashboard plugin of Open OnDemand (OOD)
uses the same file, so this module takes the plugin's lock, reads its older form of entry, and keeps unknown fields.
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
from tokens.permissions import MAX_FILE_BYTES, check_directories, check_file
from tokens.token import Token, from_entry, text_of, to_text

MAX_TOKENS = 200
"""The maximum number of tokens of one user."""
MAX_WRITE_ATTEMPTS = 5
"""How often a change is tried while another program changes the file without taking the lock."""
LOCK_TIMEOUT_S = 10.0
"""How long a writer waits for the lock."""

Entry = dict[str, Any]


class TokenStore:
    """The token file below ``home``, the home directory of the user that this process runs as."""

    def __init__(self, home: str | Path, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self.home = Path(home)
        self._lock_timeout_s = lock_timeout_s
        self.directory = self.home / ".config" / "ondemand"
        self.path = self.directory / "tokens.json"
        # The identity and the tokens of the file when it was last read, in one value because several threads use them.
        self._read: tuple[tuple[int, ...] | None, list[Token]] = (None, [])

    def tokens(self) -> list[Token]:
        """Return every valid token of the file. The file is read again only if it has changed.

        The result is empty if there is no file. Raises StoreRefused and StoreUnavailable.
        """
        try:
            descriptor = self._open()
            if descriptor is None:
                return []
            # Use open() and not stat(): NFS asks its server again at open (close-to-open consistency).
            with os.fdopen(descriptor, "rb") as file:
                identity = self._identity(os.fstat(file.fileno()))
                last_identity, tokens = self._read
                if last_identity != identity:
                    entries = self._parse(file.read(MAX_FILE_BYTES + 1))
                    tokens = [token for entry in entries if (token := from_entry(entry))]
                    self._read = (identity, tokens)
        except OSError as error:
            raise StoreUnavailable(self._error_message("read", error)) from error
        return tokens

    def find(self, sha256: str) -> Token | None:
        """Return the token with this hash, even if it has expired; None if the file has none."""
        found = None
        for token in self.tokens():
            # Compare every entry, each in constant time, so that the duration reveals nothing.
            if hmac.compare_digest(token.sha256, sha256):
                found = token
        return found

    def add(self, token: Token) -> None:
        """Add a token to the file. Raises StoreRefused if it has MAX_TOKENS already."""
        self._rewrite(lambda entries: _with(entries, token, self.path))

    def remove(self, token_id: str) -> None:
        """Remove a token from the file, so that the next request with it is refused. Raises NoSuchToken."""

        def change(entries: list[Entry]) -> list[Entry]:
            kept = [entry for entry in entries if text_of(entry, "id") != token_id]
            if len(kept) == len(entries):
                raise NoSuchToken(f"no token has the id {token_id}; list your tokens with: punway token list")
            return kept

        self._rewrite(change)

    def succeed(self, token_id: str, successor: Token, until: datetime) -> None:
        """Add a token's successor, and let the old token expire at ``until`` unless it expires earlier.

        Both changes are one write, so neither is made without the other. Raises NoSuchToken. Raises StoreRefused for a
        token in clear text, because the program that wrote it ignores the new expiry.
        """

        def change(entries: list[Entry]) -> list[Entry]:
            token = next((token for token in map(from_entry, entries) if token and token.id == token_id), None)
            if token is None:
                raise NoSuchToken(f"no token has the id {token_id}; list your tokens with: punway token list")
            if token.in_clear:
                raise StoreRefused("the file contains this token in clear text; first run: punway token secure")
            ends = min(until, token.expires_at or until)
            changed = [{**e, "expires_at": to_text(ends)} if text_of(e, "id") == token_id else e for e in entries]
            return _with(changed, successor, self.path)

        self._rewrite(change)

    def record_last_used(self, used: dict[str, datetime]) -> None:
        """Set ``last_used_at`` of tokens. ``used`` maps their ids to times. Ids that are not in the file are ignored.

        Entries in clear text belong to another program and are not changed.
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
        """Replace each secret in clear text by its hash. Return the number of replaced secrets."""
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
        """Check the file and its directories, and return a descriptor of the file; None if there is no file."""
        check_directories(self.home, self.directory)
        try:
            # Opening a FIFO in the file's place would block forever without O_NONBLOCK.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise StoreRefused(f"{self.path} is a symbolic link; replace it with the file itself") from error
            if error.errno == errno.EACCES:
                check_file(self.path, self.path.lstat())
                raise StoreRefused(f"you cannot read {self.path}; run: chmod 600 {self.path}") from error
            raise
        status = os.fstat(descriptor)
        if status.st_nlink == 0:
            # The file was replaced or removed after it was opened, so open the current one.
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
            raise StoreRefused(f"{self.path} is not JSON; correct it or move it away") from error
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise StoreRefused(f"{self.path} is not an array of objects; correct it or move it away")
        return entries

    def _rewrite(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Read, change and replace the file while holding the lock, so that no entry of another writer is lost.

        A person who edits or removes the file does not take the lock. So if the file has changed before it is replaced,
        start again with the new content.
        """
        try:
            for directory in (self.directory.parent, self.directory):
                directory.mkdir(mode=0o700, exist_ok=True)
            with self._lock():
                for _ in range(MAX_WRITE_ATTEMPTS):
                    descriptor = self._open()
                    entries: list[Entry] = []
                    identity = None
                    if descriptor is not None:
                        with os.fdopen(descriptor, "rb") as file:
                            identity = self._identity(os.fstat(file.fileno()))
                            entries = self._parse(file.read(MAX_FILE_BYTES + 1))
                    changed = change(entries)
                    if changed == entries:
                        return
                    text = json.dumps(changed, indent=2, ensure_ascii=False)
                    if self._replace(text.encode("utf-8", "surrogatepass") + b"\n", identity):
                        return
            raise StoreUnavailable(f"another program keeps changing {self.path}; try again")
        except OSError as error:
            raise StoreUnavailable(self._error_message("write", error)) from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock that OOD's dashboard plugin also takes.

        It is flock on a second file, because each write replaces tokens.json by a rename.
        """
        check_directories(self.home, self.directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.directory / ".tokens.json.lock", flags, 0o600)
        try:
            deadline = time.monotonic() + self._lock_timeout_s
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise StoreUnavailable(f"another program keeps {self.path} locked; try again") from error
                    time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, content: bytes, expected: tuple[int, ...] | None) -> bool:
        """Replace the file atomically, if it is still the one with the identity ``expected``.

        Return False, and leave the file alone, if it has changed. The new file has mode 0600 from its first byte.
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
            if self._current_identity() != expected:
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

    def _current_identity(self) -> tuple[int, ...] | None:
        try:
            return self._identity(self.path.lstat())
        except FileNotFoundError:
            return None

    def _error_message(self, verb: str, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"no space or quota is left to {verb} {self.path}; nothing was changed. Free some space and try again"
            )
        return f"cannot {verb} {self.path}: {error.strerror}"

    @staticmethod
    def _identity(status: os.stat_result) -> tuple[int, ...]:
        # ctime detects a program that sets mtime back after a change.
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _with(entries: list[Entry], token: Token, path: Path) -> list[Entry]:
    if len(entries) >= MAX_TOKENS:
        raise StoreRefused(f"{path} contains {MAX_TOKENS} tokens, the maximum; revoke some first")
    return [*entries, token.entry()]


def hashes(tokens: Iterable[Token]) -> list[str]:
    """Return the hashes of the tokens that have not expired. Only these are registered."""
    return [token.sha256 for token in tokens if not token.expired()]
