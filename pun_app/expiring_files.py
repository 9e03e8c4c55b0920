"""Small things that a PUN remembers beyond its own life, each for a time: a file for each in the user's home."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pun_app.errors import Unavailable

SWEPT_EVERY = 3600.0
_LOCK = "lock-"


def folder_of_user() -> Path:
    """Where a user's PUNs keep what is theirs."""
    home = os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir
    return Path(home) / ".local" / "share" / "punway"


class ExpiringFiles:
    """The things below one folder, by their names, for ``seconds`` from when they were put there.

    Raises ``error`` for a home's trouble (full, gone, read-only).
    """

    def __init__(self, folder: Path, seconds: float, error: Callable[[str], Exception] = Unavailable) -> None:
        self._folder = folder
        self._seconds = seconds
        self._error = error
        self._swept = 0.0

    def get(self, name: str) -> bytes | None:
        """What is kept by a name; None where nothing is, or no longer."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mtime < time.time() - self._seconds:
                    return None
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble(error) from error

    def put(self, name: str, content: bytes) -> None:
        """Keep it, whole or not at all."""
        path = self._path(name)
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            self._sweep()
            with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise self._trouble(error) from error

    def remove(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._trouble(error) from error

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Only one at a time, also of several PUNs of the user: whoever comes second waits.

        Some names share a lock: there are 256 of them, which stay.
        """
        try:
            self._make()
            descriptor = os.open(
                self._folder / f"{_LOCK}{self._path(name).name[:2]}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise self._trouble(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        # By its hash: a name may be anything, and is nobody's business who sees the folder.
        return self._folder / hashlib.sha256(name.encode()).hexdigest()

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _sweep(self) -> None:
        """Let go of what is older, temporary files that a crash left among it."""
        self._make()
        if time.monotonic() - self._swept < SWEPT_EVERY and self._swept:
            return
        self._swept = time.monotonic()
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if not path.name.startswith(_LOCK) and path.stat().st_mtime < time.time() - self._seconds:
                    path.unlink()

    def _trouble(self, error: OSError) -> Exception:
        return self._error(f"{self._folder} cannot be used: {error.strerror}")
