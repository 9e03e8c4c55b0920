"""The hook's part of the audit log: one line of JSON for each sign-in, and each token made or revoked.

What is asked of the API is nginx's part, with the same keys (nginx/portal.conf.j2). No line has a secret.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

_log = logging.getLogger("punway.audit")
_LENGTH = 300


def to_stderr() -> None:
    """Write the lines as they are, without a prefix, so that each is JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False


def record(action: str, outcome: str, user: str | None, **more: str | None) -> None:
    """One line. ``more`` is among token_id, token_name, address, request_id, via and reason."""
    line = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "action": action,
        "outcome": outcome,
        "user": user,
        "token_id": None,
        "token_name": None,
        "address": None,
        "request_id": None,
        **more,
    }
    _log.info(json.dumps({key: value[:_LENGTH] if value else value for key, value in line.items()}))
