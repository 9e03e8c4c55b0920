"""Whether a user's token file, and the way to it, may be trusted: as sshd looks at its keys.

Runs with that user's own privilege. Each refusal says what to ``chmod``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tokens.errors import StoreRefused, StoreUnavailable

MAX_FILE_BYTES = 1024 * 1024
"""Greatest size of tokens.json, in bytes; a larger one is refused unread."""


def check_way(home: Path, directory: Path) -> None:
    """Nobody but the user and root may put another file in this one's place.

    Raises StoreRefused, and StoreUnavailable where there is no home (yet). What is not there is not refused.
    """
    if not home.is_dir():
        raise StoreUnavailable(f"the home directory {home} is not there (yet)")
    for place in (home, directory.parent, directory):
        try:
            status = place.stat()
        except FileNotFoundError:
            return
        if status.st_uid not in (os.geteuid(), 0):
            raise StoreRefused(f"{place} belongs to another user; it must be your own")
        if status.st_mode & 0o022:
            raise StoreRefused(f"{place} can be written by others; run: chmod go-w {place}")


def check_file(path: Path, status: os.stat_result) -> None:
    """The user's own regular file, with one name, of a size to read, closed to others. Raises StoreRefused."""
    if not stat.S_ISREG(status.st_mode):
        raise StoreRefused(f"{path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise StoreRefused(f"{path} belongs to another user; it must be your own")
    if status.st_mode & 0o077:
        raise StoreRefused(f"{path} is open to others; run: chmod 600 {path}")
    if status.st_nlink != 1:
        raise StoreRefused(f"{path} has a second name (a hard link); remove that one")
    if status.st_size > MAX_FILE_BYTES:
        raise StoreRefused(f"{path} is larger than {MAX_FILE_BYTES} bytes")
