"""Tests of the API's ETags: a result that the client has is not sent again, whatever form If-None-Match has."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from pun_app.adapters.local.adapter import LocalAdapter
from pun_app.adapters.model import COMPLETED, RUNNING, Job
from tests.pun_app.handlers.test_jobs import get
from tests.pun_app.pun import Pun


@pytest.mark.parametrize(
    "form",
    ["W/{tag}", "{tag}", '"else", W/{tag}', '{tag}, "else"', " {tag} ,", "*"],
    ids=["weak", "strong", "last of two", "first of two", "blanks", "any"],
)
def test_if_none_match_in_any_form(pun: Pun, listed: list[str], form: str) -> None:
    """Clients and proxies write If-None-Match in these forms. A wait for a change is answered when its time is up."""
    tag = get(pun, "").headers["ETag"].removeprefix("W/")
    seen = {"If-None-Match": form.format(tag=tag)}
    assert get(pun, "", 304, **seen).headers["ETag"] == f"W/{tag}"
    began = time.monotonic()
    get(pun, "&wait=1&until=change", 304, **seen)
    assert time.monotonic() - began >= 0.9


@pytest.mark.parametrize(
    "path",
    ["clusters", "clusters/box", "jobs?cluster=box", "jobs?cluster=box&limit=2", "jobs?cluster=box&limit=2&cursor=MTE=",
     "whoami", "context"],
)  # fmt: skip
def test_every_answer_has_an_etag(pun: Pun, listed: list[str], path: str) -> None:
    """A request with the ETag is a 304. The jobs and the cursor of a page are part of its ETag."""
    headers = pun.headers()
    first = pun.app.get(f"/api/v1/{path}", headers=headers)
    again = pun.app.get(f"/api/v1/{path}", headers={**headers, "If-None-Match": first.headers["ETag"]}, status=304)
    assert again.body == b"" and again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == "no-store" and "Age" in again.headers
    other = pun.app.get(f"/api/v1/{path}", headers={**headers, "If-None-Match": 'W/"else"'}, status=200)
    assert other.body == first.body


def test_what_changes_a_lists_etag(pun: Pun, listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The run time of a job does not change it, whatever the job's name. Every other change of a job does."""
    job = Job("1", 'x","wallclock_time":5', "alice", RUNNING, "running", wallclock_time=5)
    shown = [job]
    monkeypatch.setattr(LocalAdapter, "jobs", lambda _: shown)

    def etag() -> str:
        return str(pun("GET", "/api/v1/jobs?cluster=box", 200, headers={"Cache-Control": "no-cache"}).headers["ETag"])

    before = etag()
    shown[:] = [replace(job, wallclock_time=6)]
    assert etag() == before
    tags = {before}
    for changed in (
        replace(job, name='x","wallclock_time":6'),
        replace(job, status=COMPLETED),
        replace(job, native_reason="x"),
    ):
        shown[:] = [changed]
        tags.add(etag())
    shown[:] = [job, replace(job, id="2")]
    tags.add(etag())
    assert len(tags) == 5
