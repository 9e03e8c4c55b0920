"""pun_app/handlers/jobs.py: the list of jobs a page at a time. On the embedded scheduler, with jobs on record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pun_app.adapters.local_queue import DONE, LocalJob, LocalQueue
from tests.pun_app.pun import Pun, pun, registrar

__all__ = ["pun", "registrar"]


@pytest.fixture
def listed(pun: Pun, tmp_path: Path) -> list[str]:
    """Twelve jobs; their ids, the latest first, which is not the order of their digits."""
    queue = LocalQueue(tmp_path / ".local" / "share" / "punway" / "local" / "box")
    now = int(time.time())
    for _ in range(12):
        queue.add(
            "#!/bin/sh\n",
            lambda number: LocalJob(
                number, "x", "/", "o", "e", None, DONE, 1, 2, now - 5, outcome="succeeded", exit_code=0
            ),
        )
    return [str(number) for number in range(12, 0, -1)]


def ask(pun: Pun, query: str = "", status: int = 200) -> Any:
    return pun("GET", f"/api/v1/jobs?cluster=box{query}", status).json


def ids(answer: Any) -> list[str]:
    return [job["job_id"] for job in answer["data"]]


@pytest.mark.parametrize("limit", [1, 2, 5, 11, 12, 13, 1000])
def test_pages_lose_and_repeat_nothing(pun: Pun, listed: list[str], limit: int) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        answer = ask(pun, f"&limit={limit}{cursor}")
        assert len(answer["data"]) <= limit
        seen += ids(answer)
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == listed


def test_without_a_limit_it_is_all_of_them(pun: Pun, listed: list[str]) -> None:
    answer = ask(pun)
    assert sorted(ids(answer)) == sorted(listed)
    assert "next_cursor" not in answer


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1e2", "%EF%BC%91"])
def test_a_limit_is_a_number_of_jobs(pun: Pun, listed: list[str], limit: str) -> None:
    assert "limit" in ask(pun, f"&limit={limit}", 400)["message"]


@pytest.mark.parametrize("cursor", ["x", "!!", "Kg==", "MTI7aWQ=", "LTE=", "%FF", "MTI", "A" * 5000])
def test_a_cursor_is_one_that_the_list_gave(pun: Pun, listed: list[str], cursor: str) -> None:
    """Not a pattern, a command or an option; what stands in it is an id, and nothing else gets near an adapter."""
    assert "cursor" in ask(pun, f"&limit=2&cursor={cursor}", 400)["message"]
