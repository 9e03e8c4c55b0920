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
_PAGE = Parameter("limit", "How many jobs in a page.", _whole(1, 1000, 100))
CLUSTER = Parameter(
    "cluster",
    "A cluster's id.",
    {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"},
    required=True,
    example="owens",
)
CURSOR = Parameter(
    "cursor", "next_cursor of the page before.", {"type": "string", "pattern": "^([A-Za-z0-9_-]+={0,2})?$"}
)
PAGING = (_PAGE, CURSOR)
PERIOD = (
    Parameter("from", "Ended from then on: a time with its zone, or a date.", _TIME, example="2024-01-08"),
    Parameter("to", "Ended before then: a time with its zone, or a date.", _TIME, example="2024-01-15"),
    Parameter(
        "status",
        f"completed, or some of {', '.join(OUTCOMES)}, separated by commas.",
        {"type": "string", "pattern": f"^(completed|({'|'.join(OUTCOMES)})(,({'|'.join(OUTCOMES)}))*)$"},
        example="failed,timed_out",
    ),
)
WAITING = (
    Parameter(
        "wait", "Seconds to wait until the job is as far as until says; 60 where only until is there.", _whole(0, 300)
    ),
    Parameter(
        "until",
        "What to wait for, with wait. change is any change from what If-None-Match has seen.",
        {"type": "string", "enum": ["running", "completed", "change"], "default": "completed"},
    ),
)
SEEN = Parameter("If-None-Match", "The ETags of what was seen: 304 where it is the same.", place="header")
OUTPUT = (
    Parameter("stream", "Which output.", {"type": "string", "enum": ["stdout", "stderr"], "default": "stdout"}),
    Parameter(
        "tail",
        "The last so many lines, of the file or of a piece of it. Without offset they are as a terminal shows them: of "
        "a line that was written over with carriage returns, the last state.",
        _whole(1, 10_000, 100),
    ),
    Parameter("offset", "The byte to read from.", _whole(0, 2**63 - 1)),
    Parameter("limit", "Bytes from offset on; of the last lines, bytes at most.", _whole(1, 1024 * 1024, 64 * 1024)),
)
VALIDATE = Parameter(
    "validate",
    "Ask whether the scheduler would take the job, and submit nothing.",
    {"type": "boolean", "default": False},
)
KEY = Parameter(
    "Idempotency-Key",
    "A text of the client's own: for a day the same submit with the same key is answered as the first was.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    place="header",
)
