"""The handler of GET /api/v1/jobs/historic: the caller's ended jobs, in pages, the latest first."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

import msgspec

from pun_app.adapters.model import OUTCOMES, PastJob, Period
from pun_app.errors import BadRequest, Conflict
from pun_app.handlers.jobs import job_answer
from pun_app.handlers.paging import cursor_after, entry_before, unknown_cursor
from pun_app.handlers.request import Answer, Request
from pun_app.queries import DEFAULT_PAGE, HistoryQuery
from pun_app.schemas import PastJobAnswer

DEFAULT_PERIOD_S = 7 * 86_400
"""Length of the period if the request has no ``from``."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def list_historic(request: Request) -> Answer[list[PastJobAnswer]]:
    """Return a page of the caller's finished jobs of a period, the latest end first.

    Raises BadRequest for a malformed time or an unknown cursor, and Conflict if ``from`` is not before ``to``.
    """
    query: HistoryQuery = request.query
    cluster = request.cluster()
    limit = query.limit or DEFAULT_PAGE
    after = _position(entry_before(query.cursor))
    period = _period(query)
    jobs = cluster.scheduler.history(period) if period.start < period.end else []
    listed = sorted(jobs, key=_order)
    rest = [past for past in listed if after is None or _order(past) > after]
    page = rest[:limit]
    data = [
        PastJobAnswer(
            **msgspec.structs.asdict(job_answer(cluster, past.job)),
            cpus=past.cpus,
            cpu_time=past.cpu_time,
            cpu_efficiency=past.cpu_efficiency,
            memory_used=past.memory_used,
            memory_requested=past.memory_requested,
            memory_efficiency=past.memory_efficiency,
        )
        for past in page
    ]
    return Answer(data, next_cursor=_cursor(page[-1]) if len(rest) > limit else "")


def _order(past: PastJob) -> tuple[int, str]:
    """Return the sort key: the latest end first. A job that ends between two pages does not move the others."""
    return -(past.job.ended_at or 0), past.job.id


def _period(query: HistoryQuery) -> Period:
    """Return the period and the outcomes that a query asks for. Raises BadRequest and Conflict."""
    now = int(time.time()) + 1
    start, to = _time("from", query.from_), _time("to", query.to)
    if start is not None and to is not None and start >= to:
        # Each of the two is well-formed, so this is not a 400.
        raise Conflict("from must be before to; a date means its midnight, so for one day write the next day as to")
    # No job has ended in the future, and schedulers do not accept every year.
    end = now if to is None else min(to, now)
    if start is None:
        start = end - DEFAULT_PERIOD_S
    outcomes = OUTCOMES if query.status is None or query.status == "completed" else tuple(query.status.split(","))
    return Period(max(0, start), max(0, end), outcomes)


def _time(name: str, text: str | None) -> int | None:
    """Return the Unix seconds of ``2026-11-22T18:00:00Z`` (RFC 3339), or of a date, which begins at midnight UTC.

    Raises BadRequest, which names the parameter.
    """
    if text is None:
        return None
    try:
        # A plus that the client did not encode arrives as a blank. fromisoformat accepts Z from Python 3.11 on.
        when = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text.replace(" ", "+")))
        if when.tzinfo is None and not _DATE.fullmatch(text):
            raise BadRequest(f"{name}: add the time zone, such as {text}Z")
        return int((when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp())
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"{name}: write a time with its time zone, such as 2026-11-22T18:00:00Z, or a date, such as 2026-11-22"
        ) from error


def _cursor(past: PastJob) -> str:
    ended, job_id = _order(past)
    return cursor_after(f"{-ended}:{job_id}")


def _position(entry: str | None) -> tuple[int, str] | None:
    """Return the place of a cursor's entry in the order of the list. Raises BadRequest for another list's cursor."""
    if entry is None:
        return None
    match = re.fullmatch("([0-9]{1,15}):(.+)", entry)
    if not match:
        raise unknown_cursor()
    return -int(match[1]), match[2]
