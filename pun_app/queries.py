"""The query strings of the API, as msgspec Structs. decode.py reads a query string into one of them.

The descriptions are published: the OpenAPI document and the API page show them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pun_app.adapters.model import OUTCOMES

MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_WAIT_S = 300
MAX_LINES = 10_000
DEFAULT_LINES = 100
MAX_OUTPUT_BYTES = 1024 * 1024
DEFAULT_OUTPUT_BYTES = 64 * 1024

Cursor = Annotated[str, Meta(extra_json_schema={"pattern": "^([A-Za-z0-9_-]+={0,2})?$"})]
_CURSOR = Meta(description="`next_cursor` of the previous page; omit it for the first page.")
PageSize = Annotated[int, Meta(ge=1, le=MAX_PAGE, extra_json_schema={"default": DEFAULT_PAGE})]
_LIMIT = Meta(description="Number of jobs per page.")
Time = Annotated[
    str,
    Meta(
        extra_json_schema={
            "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}, {"const": ""}]
        }
    ),
]
_OUTCOME = f"({'|'.join(OUTCOMES)})"


class Query(Struct, forbid_unknown_fields=True, frozen=True):
    """The query string of an address that takes no parameters, and the base of all others."""


class ClusterQuery(Query, frozen=True):
    """The query string of everything that is asked of one cluster."""

    cluster: Annotated[
        str,
        Meta(
            description="The cluster's id.",
            examples=["owens"],
            extra_json_schema={"pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"},
        ),
    ]


class JobsQuery(ClusterQuery, frozen=True):
    """The query string of the list of jobs."""

    limit: Annotated[PageSize | None, _LIMIT] = None
    cursor: Annotated[Cursor | None, _CURSOR] = None


class HistoryQuery(ClusterQuery, frozen=True):
    """The query string of the list of jobs that have ended."""

    from_: Annotated[
        Time | None,
        Meta(
            description="Only jobs ending at or after this RFC 3339 time or date (midnight UTC). Default: a week "
            "before the end of the period.",
            examples=["2024-01-08"],
        ),
    ] = msgspec.field(default=None, name="from")
    to: Annotated[
        Time | None,
        Meta(
            description="Only jobs ending before this RFC 3339 time or date. Default: now.",
            examples=["2024-01-15"],
        ),
    ] = None
    status: Annotated[
        Annotated[
            str,
            Meta(
                pattern=rf"^(completed|{_OUTCOME}(,{_OUTCOME})*)\Z",
                extra={"write": f"completed, or one or more of {', '.join(OUTCOMES)}, separated by commas"},
            ),
        ]
        | None,
        Meta(
            description="How the jobs ended: `completed` (in any way), or outcomes separated by commas.",
            examples=["failed,timed_out"],
        ),
    ] = None
    limit: Annotated[PageSize | None, _LIMIT] = None
    cursor: Annotated[Cursor | None, _CURSOR] = None


class JobQuery(ClusterQuery, frozen=True):
    """The query string of one job, which can be waited for."""

    wait: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_WAIT_S)] | None,
        Meta(
            description="Seconds to wait until the job has reached `until` or it is known that it can never start. "
            "Default: 60 if `until` is given, otherwise 0."
        ),
    ] = None
    until: Annotated[
        Annotated[Literal["running", "completed", "change"], Meta(extra_json_schema={"default": "completed"})] | None,
        Meta(
            description="What to wait for: `running` (started), `completed` (ended in any way) "
            "or `change` (of anything)."
        ),
    ] = None


class OutputQuery(ClusterQuery, frozen=True):
    """The query string of a job's output."""

    stream: Annotated[
        Literal["stdout", "stderr"], Meta(description="The output stream. Many programs write errors to `stderr`.")
    ] = "stdout"
    tail: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_LINES, extra_json_schema={"default": DEFAULT_LINES})] | None,
        Meta(description="Number of last lines, of the file or of the piece from `offset`."),
    ] = None
    offset: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)] | None, Meta(description="Byte offset to read from.")
    ] = None
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_OUTPUT_BYTES, extra_json_schema={"default": DEFAULT_OUTPUT_BYTES})] | None,
        Meta(description="Maximum number of bytes to read or to show."),
    ] = None


class SubmitQuery(Query, frozen=True):
    """The query string of a submit."""

    validate: Annotated[
        bool, Meta(description="Ask the scheduler whether it would accept the job, and submit nothing.")
    ] = False
