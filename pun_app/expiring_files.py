"""A file cache in the user's home whose entries expire. It outlives the PUN."""

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

SWEEP_INTERVAL_S = 3600.0
_LOCK = "lock-"


def folder_of_user() -> Path:
    """Return the folder for the files of this user's PUNs."""
    home = os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir
    return Path(home) / ".local" / "share" / "punway"


class ExpiringFiles:
    """The entries in one folder, each of which expires ``ttl_s`` seconds after it was put there.

    Every method raises ``error`` if the home is full, read-only or gone.
    """

    def __init__(self, folder: Path, ttl_s: float, error: Callable[[str], Exception] = Unavailable) -> None:
        self._folder = folder
        self._ttl_s = ttl_s
        self._error = error
        self._swept = 0.0

    def get(self, name: str) -> bytes | None:
        """Return the content of an entry, or None if there is none or it has expired."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mtime < time.time() - self._ttl_s:
                    return None
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble(error) from error

    def put(self, name: str, content: bytes) -> None:
        """Write an entry atomically, so that no reader sees half of it, even after a crash."""
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
        """Remove an entry, if it exists."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._trouble(error) from error

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock of a name. Other threads and other PUNs of the user wait for it.

        There are 256 lock files, which are never removed, so some names share a lock.
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
        # The file is named by a hash, because a name may have any characters and the folder should not reveal it.
        return self._folder / hashlib.sha256(name.encode()).hexdigest()

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _sweep(self) -> None:
        """Remove expired entries, and temporary files that a crash left, once an hour."""
        self._make()
        if time.monotonic() - self._swept < SWEEP_INTERVAL_S and self._swept:
            return
        self._swept = time.monotonic()
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if not path.name.startswith(_LOCK) and path.stat().st_mtime < time.time() - self._ttl_s:
                    path.unlink()

    def _trouble(self, error: OSError) -> Exception:
        return self._error(f"{self._folder} cannot be used: {error.strerror}. Check your home directory and its quota")
