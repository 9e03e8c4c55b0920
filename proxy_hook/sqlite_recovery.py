"""Recovery from a damaged SQLite file: it is renamed, so that its owner can create an empty one in its place."""

from __future__ import annotations

import sqlite3
import time
from datetime import datetime, timezone
from pathlib import Path

CHECK_TIMEOUT_S = 10.0
"""The time limit for the check of a file, because it delays the hook's start. Usual files take far less."""
_OPS_BETWEEN_CHECKS = 100_000
"""The number of SQLite's virtual machine instructions after which the elapsed time is checked again."""


def set_aside_if_damaged(path: Path) -> Path | None:
    """Rename a damaged SQLite database and the files that SQLite keeps with it. Return its new path.

    Return None if the database is intact or does not exist. An unreadable file or a full disk is not damage; those
    raise sqlite3.OperationalError.
    """
    if not path.exists() or _is_intact(path):
        return None
    suffix = datetime.now(timezone.utc).strftime("damaged-%Y%m%dT%H%M%SZ")
    # Rename the log last. If the database were renamed first, SQLite would use the other files for a new database.
    for file in (path, Path(f"{path}-shm"), Path(f"{path}-wal")):
        if file.exists():
            file.rename(f"{file}.{suffix}")
    return Path(f"{path}.{suffix}")


def _is_intact(path: Path) -> bool:
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    # Open it read-only: otherwise, closing the connection would write SQLite's log into the database and delete it.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _OPS_BETWEEN_CHECKS)
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return str(result) == "ok"
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            return True
        raise
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
