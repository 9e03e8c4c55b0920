"""What requests may say beside their body: the parameters of the query and the headers, as routes.py names them.

Handlers check them (handlers/request.py); these are what the OpenAPI document says of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pun_app.adapters.model import OUTCOMES


@dataclass(frozen=True, eq=False)
class Parameter:
    """``schema`` is JSON Schema; ``place`` is query or header."""

    name: str
    description: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False
    place: str = "query"
    example: Any = None


def _whole(least: int, most: int, default: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else {**schema, "default": default}


_TIME = {
    "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}, {"const": ""}],
}
_PAGE = Parameter("limit", "Number of jobs per page.", _whole(1, 1000, 100))
CLUSTER = Parameter(
    "cluster",
    "The cluster's id, such as `owens`.",
    {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"},
    required=True,
    example="owens",
)
CURSOR = Parameter(
    "cursor",
    "`next_cursor` of the previous page; omit it for the first page.",
    {"type": "string", "pattern": "^([A-Za-z0-9_-]+={0,2})?$"},
)
PAGING = (_PAGE, CURSOR)
PERIOD = (
    Parameter(
        "from",
        "Only jobs that ended at or after this moment: an RFC 3339 time, or a date (midnight UTC). Default: a week "
        "before the end of the period.",
        _TIME,
        example="2024-01-08",
    ),
    Parameter(
        "to",
        "Only jobs that ended before this moment: an RFC 3339 time, or a date (midnight UTC). Default: now.",
        _TIME,
        example="2024-01-15",
    ),
    Parameter(
        "status",
        "`completed` for any outcome, or a comma-separated list of "
        f"{', '.join(f'`{outcome}`' for outcome in OUTCOMES)}.",
        {"type": "string", "pattern": f"^(completed|({'|'.join(OUTCOMES)})(,({'|'.join(OUTCOMES)}))*)$"},
        example="failed,timed_out",
    ),
)
WAITING = (
    Parameter(
        "wait",
        "Seconds to wait until the job has reached `until` or it is known that it can never start. Default: 60 if "
        "`until` is given, otherwise 0.",
        _whole(0, 300),
    ),
    Parameter(
        "until",
        "What to wait for: `running` (it has started), `completed` (it has ended in any way) "
        "or `change` (of anything).",
        {"type": "string", "enum": ["running", "completed", "change"], "default": "completed"},
    ),
)
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    "ETags of earlier responses. The response is a 304 if the result still has one of them.",
    place="header",
)
OUTPUT = (
    Parameter(
        "stream",
        "The output stream. Many programs write errors to `stderr`.",
        {"type": "string", "enum": ["stdout", "stderr"], "default": "stdout"},
    ),
    Parameter(
        "tail",
        "Number of last lines, of the file or of the piece from `offset`. Without `offset` they look as on a terminal: "
        "a line that carriage returns overwrote has only its last state.",
        _whole(1, 10_000, 100),
    ),
    Parameter("offset", "Byte offset to read from.", _whole(0, 2**63 - 1)),
    Parameter("limit", "Maximum number of bytes to read or to show.", _whole(1, 1024 * 1024, 64 * 1024)),
)
VALIDATE = Parameter(
    "validate",
    "Ask the scheduler whether it would accept the job, and submit nothing.",
    {"type": "boolean", "default": False},
)
KEY = Parameter(
    "Idempotency-Key",
    "A text of your choice that identifies this submit. If the response is lost, repeat the request with the same key: "
    "for 24 hours it returns the first response and submits nothing.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    place="header",
)
