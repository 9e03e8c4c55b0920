"""A damaged SQLite file is set aside, so that its owner can begin with an empty one in its place."""

from __future__ import annotations

import sqlite3
import time
from datetime import datetime, timezone
from pathlib import Path

CHECK_TIME_S = 10.0
"""Seconds for looking through a file: no usual one takes so long, and a start must not."""
_OPS_BETWEEN_LOOKS = 100_000


def set_aside_if_damaged(path: Path) -> Path | None:
    """Rename a file that is no whole SQLite database, with what SQLite has beside it; return where it is now.

    None where it is in order, or absent. What the disk cannot do, or may not, is no damage: sqlite3.OperationalError.
    """
    if not path.exists() or _is_whole(path):
        return None
    suffix = datetime.now(timezone.utc).strftime("damaged-%Y%m%dT%H%M%SZ")
    # The log last: with the file itself gone, SQLite would take the others for those of a new one.
    for beside in (path, Path(f"{path}-shm"), Path(f"{path}-wal")):
        if beside.exists():
            beside.rename(f"{beside}.{suffix}")
    return Path(f"{path}.{suffix}")


def _is_whole(path: Path) -> bool:
    deadline = time.monotonic() + CHECK_TIME_S
    # For reading: closing would write SQLite's log into the file, and delete it.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _OPS_BETWEEN_LOOKS)
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return str(found) == "ok"
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            return True
        raise
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
