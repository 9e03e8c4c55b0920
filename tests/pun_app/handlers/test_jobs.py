"""Tests of pun_app/handlers/jobs.py: the list in pages, on the embedded scheduler with recorded jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pun_app.adapters.local.adapter import LocalAdapter
from pun_app.adapters.model import Job, merge_tasks
from pun_app.errors import Unavailable
from tests.pun_app.pun import Pun


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


@pytest.mark.parametrize(
    "limit",
    ["0", "-1", "1001", "x", "1e2", "%EF%BC%91"],
    ids=["zero", "negative", "too large", "letter", "exponent", "other digits"],
)
def test_an_invalid_limit_is_400(pun: Pun, listed: list[str], limit: str) -> None:
    assert "limit" in ask(pun, f"&limit={limit}", 400)["message"]


CURSORS = {
    "not base64": "x",
    "other characters": "!!",
    "a wildcard": "Kg==",
    "a command": "MTI7aWQ=",
    "an option": "LTE=",
    "not UTF-8": "%FF",
    "no padding": "MTI",
    "long": "A" * 5000,
    "an id and another character": "MT!I=",
    "an id and a blank": "MTI=+",
    "an id with other unused bits": "MTJ=",
}


@pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS)
def test_a_cursor_that_the_list_did_not_give(pun: Pun, listed: list[str], cursor: str) -> None:
    """A cursor holds an id. A pattern, a command or an option in it does not reach an adapter."""
    assert "Unknown cursor. Pass `next_cursor`" in ask(pun, f"&limit=2&cursor={cursor}", 400)["message"]


def statuses(pun: Pun, body: object, status: int = 200) -> Any:
    headers = {"Content-Type": "application/json"}
    return pun("POST", "/api/v1/jobs/status", status, body=json.dumps(body).encode(), headers=headers).json


def test_many_jobs_at_once(pun: Pun, listed: list[str]) -> None:
    """The order and the repetitions are those of the request. An unknown job has an error in its place."""
    asked = [("box", "3"), ("box", "99"), ("cloud", "1"), ("box", "3"), ("none", "1"), ("box", "x/y"), ("box", "12")]
    said = statuses(pun, {"jobs": [{"cluster": cluster, "job_id": job_id} for cluster, job_id in asked]})["data"]
    assert [(one["cluster"], one["job_id"]) for one in said] == asked
    assert [(one["status"], one["outcome"], one["error"]) for one in said] == [
        ("completed", "succeeded", None), (None, None, "not_found"), (None, None, "not_implemented"), ("completed", "succeeded", None),
        (None, None, "not_found"), (None, None, "not_found"), ("completed", "succeeded", None),
    ]  # fmt: skip
    assert "kubernetes" in said[2]["message"]
    assert "Cluster" in said[4]["message"]


@pytest.mark.parametrize(
    "body",
    [{}, {"jobs": []}, {"jobs": {}}, {"jobs": [1]}, {"jobs": [{"cluster": "box"}]}, {"jobs": [{"cluster": "box", "job_id": True}]}, [], "x",
     {"jobs": [{"cluster": "box", "job_id": "1"}] * 1001}, {"jobs": [{"cluster": "box", "job_id": "1" * 65}]}, {"jobs": None}],
    ids=[
        "no list", "empty", "object", "number", "no id", "boolean id", "array", "text", "too many", "long id", "null",
    ],
)  # fmt: skip
def test_an_invalid_list_of_jobs_is_rejected(pun: Pun, body: object) -> None:
    assert statuses(pun, body, 413 if len(json.dumps(body)) > 10_000 else 400)["error"] in (
        "bad_request",
        "payload_too_large",
    )


def test_hundreds_of_jobs_are_one_query(pun: Pun, listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = LocalAdapter.jobs

    def jobs(self: LocalAdapter) -> list[Job]:
        asked.append(1)
        return real(self)

    monkeypatch.setattr(LocalAdapter, "jobs", jobs)
    said = statuses(pun, {"jobs": [{"cluster": "box", "job_id": str(1 + n % 12)} for n in range(200)]})["data"]
    assert (len(said), len(asked)) == (200, 1)


def get(pun: Pun, query: str, status: int = 200, **headers: str) -> Any:
    return pun("GET", f"/api/v1/jobs/3?cluster=box{query}", status, headers=headers)


def test_a_job_that_has_ended_is_not_waited_for(pun: Pun, listed: list[str]) -> None:
    for query in ("&wait=300", "&wait=300&until=completed", "&wait=300&until=running", "&until=completed"):
        assert get(pun, query).json["data"]["status"] == "completed"


@pytest.mark.parametrize(
    "query",
    [
        "&wait=-1",
        "&wait=301",
        "&wait=1e9",
        "&wait=x",
        "&wait=1.5",
        "&wait=5&until=never",
        "&wait=5&wait=6",
        "&wait=%EF%BC%91",
    ],
    ids=[
        "negative", "too long", "exponent", "letter", "fraction", "unknown until", "repeated", "other digits",
    ],
)  # fmt: skip
def test_an_invalid_wait_is_400(pun: Pun, listed: list[str], query: str) -> None:
    assert get(pun, query, 400).json["error"] == "bad_request"


def test_an_unchanged_job_is_not_sent_again(pun: Pun, listed: list[str]) -> None:
    """The answer is a 304 without a body. A wait for a change ends when the time is up."""
    etag = get(pun, "").headers["ETag"]
    answer = get(pun, "", 304, **{"If-None-Match": etag})
    assert (answer.body, answer.headers["ETag"]) == (b"", etag)
    assert get(pun, "", 200, **{"If-None-Match": '"else"'}).headers["ETag"] == etag
    get(pun, "&wait=1&until=change", 304, **{"If-None-Match": etag})
    assert get(pun, "&wait=300&until=change", 200, **{"If-None-Match": '"else"'}).json["data"]["job_id"] == "3"


STUCK = {"status": "queued", "can_start": False, "reason": "It asks for more time than its queue allows"}


def test_a_job_that_can_never_start_ends_a_wait(pun: Pun, listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at once with the reason, also if this becomes known during the wait."""
    queued = Job("3", status="queued")
    stuck = Job("3", **STUCK)  # type: ignore[arg-type]
    told = [stuck]
    monkeypatch.setattr(LocalAdapter, "job", lambda self, job_id: told.pop(0) if len(told) > 1 else told[0])
    for until in ("completed", "running"):
        told[:] = [stuck]
        now = get(pun, f"&wait=300&until={until}").json["data"]
        assert {name: now[name] for name in STUCK} == STUCK
        told[:] = [queued, stuck]
        now = get(pun, f"&wait=300&until={until}", 200, **{"Cache-Control": "no-cache"}).json["data"]
        assert now["can_start"] is False


def test_a_wait_for_a_change_ends_when_a_job_can_no_longer_start(
    pun: Pun, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [Job("3", status="queued")]
    monkeypatch.setattr(LocalAdapter, "job", lambda self, job_id: told[0])
    seen = get(pun, "").headers["ETag"]
    told[0] = Job("3", **STUCK)  # type: ignore[arg-type]
    again = get(pun, "", 200, **{"If-None-Match": seen, "Cache-Control": "no-cache"})
    assert (again.json["data"]["can_start"], again.headers["ETag"] == seen) == (False, False)
    assert get(pun, "&wait=300&until=change", 200, **{"If-None-Match": seen}).json["data"]["can_start"] is False


def test_an_array_can_start_while_one_of_its_tasks_can() -> None:
    stuck, fine = Job("5_1", **STUCK), Job("5_2", status="queued")  # type: ignore[arg-type]
    running, ended = Job("5_3", status="running"), Job("5_4", status="completed", outcome="failed")
    assert merge_tasks("5", [stuck, ended]).can_start is False
    assert merge_tasks("5", [ended, stuck]).reason == STUCK["reason"]
    for tasks in ([stuck, fine], [stuck, running], [ended, ended]):
        assert (merge_tasks("5", tasks).can_start, merge_tasks("5", tasks).reason) == (None, None)


def test_every_message_is_bounded() -> None:
    """This includes the messages in a batch of statuses, which may quote a long text of a scheduler."""
    assert len(Unavailable("x" * 100_000).message) <= 1001
