"""Tests of pun_app/handlers/history.py: pages and periods, on the embedded scheduler with recorded jobs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pun_app.adapters.local.queue import DONE, LocalJob, LocalQueue
from pun_app.handlers.paging import cursor_after
from tests.pun_app.pun import Pun

NOW = int(time.time())


@pytest.fixture
def ended(pun: Pun, tmp_path: Path) -> list[str]:
    """Record seven jobs, two of which ended in the same second. Return their ids, the latest end first."""
    queue = LocalQueue(tmp_path / ".local" / "share" / "punway" / "local" / "box")
    ends = [NOW - 100, NOW - 50, NOW - 50, NOW - 86_400, NOW - 2 * 86_400, NOW - 6 * 86_400, NOW - 30]

    def job(number: int) -> LocalJob:
        outcome = "failed" if number == 2 else "succeeded"
        return LocalJob(number, "x", "/", "o", "e", None, DONE, 1, 2, ends[number - 1], outcome=outcome, exit_code=0)

    for _ in ends:
        queue.add("#!/bin/sh\n", job)
    return ["7", "2", "3", "1", "4", "5", "6"]


def ask(pun: Pun, query: str = "", status: int = 200) -> Any:
    return pun("GET", f"/api/v1/jobs/historic?cluster=box{query}", status).json


def ids(answer: Any) -> list[str]:
    return [job["job_id"] for job in answer["data"]]


def test_the_latest_come_first(pun: Pun, ended: list[str]) -> None:
    answer = ask(pun)
    assert ids(answer) == ended
    assert answer["next_cursor"] is None
    first = answer["data"][0]
    assert (first["status"], first["outcome"], first["cluster"]) == ("completed", "succeeded", "box")
    assert first["cpu_efficiency"] is None


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 1000])
def test_pages_lose_and_repeat_nothing(pun: Pun, ended: list[str], limit: int) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        answer = ask(pun, f"&limit={limit}{cursor}")
        assert len(answer["data"]) <= limit
        seen += ids(answer)
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == ended


def test_periods(pun: Pun, ended: list[str]) -> None:
    """The default is a week. Times may be in any zone, and dates are accepted."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - 86_400))
    assert ids(ask(pun, f"&from={stamp}")) == ["7", "2", "3", "1", "4"]
    assert ids(ask(pun, f"&to={stamp}")) == ["5", "6"]
    zoned = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW - 86_400 + 3600))
    assert ids(ask(pun, f"&from={zoned}%2B01:00")) == ids(ask(pun, f"&from={stamp}"))
    assert ids(ask(pun, f"&from={zoned}+01:00")) == ids(ask(pun, f"&from={stamp}"))
    day = time.strftime("%Y-%m-%d", time.gmtime(NOW - 3 * 86_400))
    assert ids(ask(pun, f"&from={day}")) == ["7", "2", "3", "1", "4", "5"]


def test_outcomes(pun: Pun, ended: list[str]) -> None:
    assert ids(ask(pun, "&status=failed")) == ["2"]
    assert ids(ask(pun, "&status=failed,succeeded")) == ended
    assert ids(ask(pun, "&status=completed")) == ended
    assert ids(ask(pun, "&status=timed_out")) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [("&limit=0", "limit"), ("&limit=1001", "limit"), ("&limit=-1", "limit"), ("&limit=x", "limit"), ("&limit=1e3", "limit"),
     ("&limit=1&limit=2", "limit"), ("&cursor=a&cursor=b", "cursor"),
     ("&from=yesterday", "from"), ("&from=2026-13-01", "from"), ("&from=2026-01-01T00:00:00", "zone"), ("&to=1e9", "to"),
     ("&limit=", "limit"), ("&status=", "status"), ("&status=done", "done"), ("&status=,", "status"), ("&status=failed&status=cancelled", "status")],
)  # fmt: skip
def test_an_invalid_query(pun: Pun, query: str, named: str) -> None:
    """The request is a 400, and the message names the parameter."""
    answer = ask(pun, query, 400)
    assert answer["error"] == "bad_request"
    assert named in answer["message"]


@pytest.mark.parametrize(
    "query",
    ["&from=2026-01-02&to=2026-01-01", "&from=2026-01-01&to=2026-01-01", "&from=1960-01-01&to=1950-01-01"],
    ids=["reversed", "equal", "before 1970"],
)
def test_a_period_whose_ends_are_in_the_wrong_order_is_a_conflict(pun: Pun, query: str) -> None:
    """Each of the two is a valid time, so this is not a 400."""
    answer = ask(pun, query, 409)
    assert answer["error"] == "conflict" and "from must be before to" in answer["message"]


@pytest.mark.parametrize(
    "query",
    [
        "&from=9999-12-31T23:59:59-23:59",
        "&from=9999-01-01&to=9999-12-31",
        "&to=1960-01-01",
        "&from=1950-01-01&to=1960-01-01",
    ],
    ids=["last year of the calendar", "year 9999", "until 1960", "the fifties"],
)
def test_in_the_future_and_long_ago_nothing_has_ended(pun: Pun, ended: list[str], query: str) -> None:
    assert ids(ask(pun, query)) == []


def test_an_empty_from_to_or_cursor_counts_as_omitted(pun: Pun, ended: list[str]) -> None:
    assert ids(ask(pun, "&from=&to=&cursor=")) == ids(ask(pun, ""))


CURSORS = {
    "not base64": "x",
    "a letter": "eA==",
    "not ASCII": "%C3%A9",
    "a cursor of the job list": "MTI=",
    "no id": "MTI6",
    "a time too large for int()": cursor_after(f"{'9' * 5000}:1"),
}


@pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS)
def test_a_cursor_that_the_list_did_not_give(pun: Pun, cursor: str) -> None:
    assert "Unknown cursor. Pass `next_cursor`" in ask(pun, f"&cursor={cursor}", 400)["message"]
