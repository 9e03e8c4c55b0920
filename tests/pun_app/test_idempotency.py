"""Tests of idempotency keys: their form, and the outcome of a submit wherever it is interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pun_app.adapters.errors import NotSent, Rejected, SchedulerUnavailable, Unsupported
from pun_app.adapters.model import JobRequest
from pun_app.errors import BadRequest, Conflict, Refused, Unavailable
from pun_app.expiring_files import ExpiringFiles
from pun_app.idempotency import LISTED_S, ReplayedRefusal, Submits, checked_key
from pun_app.schemas import JobAnswer, Script, SubmitBody, SubmittedJobAnswer

BODY = SubmitBody("owens", Script("#!/bin/sh"))
FIELDS = [field.name for field in msgspec.structs.fields(JobAnswer)]


def job(number: int) -> SubmittedJobAnswer:
    fields: dict[str, Any] = {**dict.fromkeys(FIELDS), "job_id": str(number), "cluster": "owens"}
    return SubmittedJobAnswer(**fields)


class World:
    """A scheduler that counts its jobs, and that fails or loses its answer on request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, SubmittedJobAnswer] = {}
        self.fails: Exception | None = None
        self.loses = False
        self.unmakeable = False
        self.elapsed_s = 0.0

    def files(self) -> ExpiringFiles:
        return ExpiringFiles(self.folder, 1000)

    def submits(self) -> Submits:
        return Submits(self.files(), lambda: time.time() + self.elapsed_s)

    def submit(self, request: JobRequest) -> SubmittedJobAnswer:
        if self.fails and not self.loses:
            raise self.fails
        self.jobs[request.submit_tag] = job(len(self.jobs) + 1)
        if self.fails:
            raise self.fails
        return self.jobs[request.submit_tag]

    def make(self) -> JobRequest:
        if self.unmakeable:
            raise Refused("script.workdir does not exist")
        return JobRequest("#!/bin/sh", "/")

    def once(self, key: str = "k", body: SubmitBody = BODY) -> tuple[str, bool]:
        answer, replayed = self.submits().once(key, body, self.make, self.submit, self.jobs.get)
        return answer.job_id, replayed


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "submits")


def test_a_retry_is_answered_as_the_first(world: World) -> None:
    assert world.once() == ("1", False)
    assert world.once() == ("1", True)
    assert world.once("other") == ("2", False)


def test_a_retry_is_answered_whatever_became_of_the_folder(world: World) -> None:
    """A submit that would be refused now gets its first answer. A refusal before any submit is not kept."""
    world.once()
    world.unmakeable = True
    assert world.once() == ("1", True)
    with pytest.raises(Refused, match="workdir"):
        world.once("other")
    world.unmakeable = False
    assert world.once("other") == ("2", False)


def test_another_body_is_refused(world: World) -> None:
    world.once()
    with pytest.raises(Refused, match="another body"):
        world.once(body=SubmitBody("owens", Script("#!/bin/bash")))
    assert len(world.jobs) == 1


def test_a_refusal_is_the_answer_too(world: World) -> None:
    """The scheduler is not asked again, and the header says so."""
    world.fails = Rejected("no such partition")
    with pytest.raises(Rejected):
        world.once()
    world.fails = None
    with pytest.raises(ReplayedRefusal, match="no such partition") as second:
        world.once()
    assert second.value.headers() == {"Idempotency-Replayed": "true"} and not world.jobs


@pytest.mark.parametrize(
    "error", [NotSent("no sbatch"), Unsupported("x"), BadRequest("x")], ids=lambda e: type(e).__name__
)
def test_a_submit_that_reached_no_scheduler_can_be_repeated(world: World, error: Exception) -> None:
    """This holds at any later time, because there is certainly no job."""
    world.fails = error
    with pytest.raises(type(error)):
        world.once()
    world.fails = None
    world.elapsed_s = LISTED_S + 1
    assert world.once() == ("1", False)


@pytest.mark.parametrize(
    "error", [SchedulerUnavailable("lost"), RuntimeError("a bug"), SystemExit()], ids=lambda e: type(e).__name__
)
def test_a_lost_answer_is_looked_up_by_the_submit_tag(world: World, error: Exception) -> None:
    """The process may have ended in between, so the next one has only the record."""
    world.fails, world.loses = error, True
    with pytest.raises(type(error)):
        world.once()
    world.fails = None
    assert world.once() == ("1", True)
    assert world.once() == ("1", True)
    assert len(world.jobs) == 1


def test_a_lost_submit_that_made_no_job_is_made_with_the_same_submit_tag(world: World) -> None:
    world.fails = SchedulerUnavailable("hangs")
    with pytest.raises(SchedulerUnavailable):
        world.once()
    world.fails = None
    assert world.once() == ("1", False)
    assert world.once() == ("1", True)


def test_a_first_submit_that_is_taken_late_leaves_one_job(world: World) -> None:
    """A hung scheduler may take the first submit when the second one has been sent. The first job is kept."""
    world.fails = SchedulerUnavailable("hangs")
    with pytest.raises(SchedulerUnavailable):
        world.once()
    world.fails = None
    looks = iter([None, job(7)])
    submits = world.submits()
    answer, is_replayed = submits.once("k", BODY, world.make, world.submit, lambda _: next(looks))
    assert (answer.job_id, is_replayed) == ("7", False)
    assert world.once() == ("7", True)


@pytest.mark.parametrize("error", [SchedulerUnavailable("hangs"), Unavailable("late")], ids=["scheduler", "deadline"])
def test_a_second_look_that_fails_keeps_the_answer(world: World, error: Exception) -> None:
    world.fails = SchedulerUnavailable("hangs")
    with pytest.raises(SchedulerUnavailable):
        world.once()
    world.fails = None
    looks = []

    def find(submit_tag: str) -> None:
        looks.append(submit_tag)
        if len(looks) == 2:
            raise error

    answer, _ = world.submits().once("k", BODY, world.make, world.submit, find)
    assert answer.job_id == "1"
    assert world.once() == ("1", True)


def test_an_unknown_outcome_is_a_conflict(world: World) -> None:
    """Long after a lost answer, its job may have run and ended, so a second submit might run it twice."""
    world.fails = SchedulerUnavailable("hangs")
    with pytest.raises(SchedulerUnavailable):
        world.once()
    world.fails = None
    world.elapsed_s = LISTED_S + 1
    with pytest.raises(Conflict, match="not known"):
        world.once()
    assert not world.jobs


def test_two_submits_at_once_are_one(world: World) -> None:
    """The second submit waits for the first, even in another process."""
    inside, go = threading.Event(), threading.Event()
    answers: list[tuple[str, bool]] = []
    real: Callable[[JobRequest], SubmittedJobAnswer] = world.submit

    def slow(request: JobRequest) -> SubmittedJobAnswer:
        inside.set()
        assert go.wait(30)
        return real(request)

    world.submit = slow  # type: ignore[method-assign]
    threads = [threading.Thread(target=lambda: answers.append(world.once())) for _ in range(2)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    threads[1].join(0.5)  # Let it run until it waits for the first.
    go.set()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [("1", False), ("1", True)]


def test_nothing_is_submitted_if_the_record_cannot_be_written(world: World) -> None:
    world.folder.parent.mkdir(exist_ok=True)
    world.folder.write_text("in the way")
    with pytest.raises(Unavailable):
        world.once()
    assert not world.jobs


def test_a_disk_that_fills_up_during_a_submit_loses_no_answer(world: World) -> None:
    puts: list[str] = []

    class Filling(ExpiringFiles):
        """A folder on a disk that is full after the first file."""

        def put(self, name: str, content: bytes) -> None:
            puts.append(name)
            if len(puts) > 1:
                raise Unavailable("full")
            super().put(name, content)

    submits = Submits(Filling(world.folder, 1000))
    answer, replayed = submits.once("k", BODY, world.make, world.submit, world.jobs.get)
    assert (answer.job_id, replayed, len(puts)) == ("1", False, 2)
    assert world.once() == ("1", True)


def test_a_key_with_an_unreadable_record_counts_as_unused(world: World) -> None:
    ExpiringFiles(world.folder, 100).put("k", b'{"nothing": 1}')
    assert world.once() == ("1", False)


@pytest.mark.parametrize(
    "key",
    ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", '"quoted"', "x" * 255],
    ids=["letter", "UUID", "quoted", "longest"],
)
def test_valid_keys(key: str) -> None:
    assert checked_key(key) == key


@pytest.mark.parametrize(
    "key",
    ["x" * 256, "x" * 10_000, "two words", "é", "a\tb", "a\x7f"],
    ids=["too long", "far too long", "blank", "not ASCII", "tab", "delete"],
)
def test_an_invalid_key_is_rejected(key: str) -> None:
    with pytest.raises(BadRequest, match="255"):
        checked_key(key)


def test_without_a_key() -> None:
    assert checked_key(None) is None
    assert checked_key("") is None
