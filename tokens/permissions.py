"""Ownership and mode checks of the token file and its directories, modelled on those of sshd for authorized_keys.

They run with the user's own privilege. Each error message says what to run or to change.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tokens.errors import StoreRefused, StoreUnavailable

MAX_FILE_BYTES = 1024 * 1024
"""The maximum size of tokens.json. A larger file is refused unread."""


def check_directories(home: Path, directory: Path) -> None:
    """Check that only the user and root can replace files in ``directory``, its parent and ``home``.

    Directories that do not exist are accepted. Raises StoreRefused, or StoreUnavailable if the home directory does not
    exist (yet).
    """
    if not home.is_dir():
        raise StoreUnavailable(f"the home directory {home} does not exist (yet); try again, or ask the site's support")
    for place in (home, directory.parent, directory):
        try:
            status = place.stat()
        except FileNotFoundError:
            return
        if status.st_uid not in (os.geteuid(), 0):
            raise StoreRefused(f"{place} belongs to another user; it must belong to you")
        if status.st_mode & 0o022:
            raise StoreRefused(f"other users can write to {place}; run: chmod go-w {place}")


def check_file(path: Path, status: os.stat_result) -> None:
    """Check that a file is regular, the user's own, private, not too large, and has no second hard link.

    Raises StoreRefused.
    """
    if not stat.S_ISREG(status.st_mode):
        raise StoreRefused(f"{path} is not a regular file; move it away")
    if status.st_uid != os.geteuid():
        raise StoreRefused(f"{path} belongs to another user; it must belong to you")
    if status.st_mode & 0o077:
        raise StoreRefused(f"other users can access {path}; run: chmod 600 {path}")
    if status.st_nlink != 1:
        raise StoreRefused(f"{path} has a second name (a hard link); remove the other name")
    if status.st_size > MAX_FILE_BYTES:
        raise StoreRefused(f"{path} is larger than {MAX_FILE_BYTES} bytes; revoke some tokens or move the file away")
