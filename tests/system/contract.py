"""The contract of adapters as tests through the whole portal, which run against each scheduler on this machine.

A subclass has a fixture ``scheduler`` that describes its scheduler. An adapter must refuse an operation or an option
that it does not have, and name it in the message.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
import requests

from pun_app.adapters.model import DEPENDENCIES, OPTIONS
from pun_app.adapters.registry import adapter_class
from tests.system.portal import Client, User
from tests.system.slurm import wait_for

SLEEP = "#!/bin/sh\nsleep 100\n"
TRUE = "#!/bin/sh\ntrue\n"

INVALID_IDS = {
    "unknown": "999999",
    "letters": "abc",
    "negative": "-1",
    "shell command": "1;id",
    "command substitution": "$(id)",
    "two ids": "1 2",
    "pattern": "*",
    "all jobs": "all",
    "newline": "1\n2",
    "other digits": "１２",
    "other digit": "1２",
    "too long": "9" * 60,
    "option": "--help",
    "empty host": "@",
    "hexadecimal": "0x10",
}


@dataclass
class Scheduler:
    """The scheduler under test: its cluster in the portal, and the site's values that the tests need."""

    cluster: str
    adapter: str
    task_variable: str | None
    """The environment variable that holds the index of a task of an array."""
    site: dict[str, Any] = field(default_factory=dict)
    """The site's own values: queues with their time limits, an account, native options, directives of scripts."""
    task_id: str = "{number}[{task}]"
    """The form of a task's id."""
    stop: Callable[[], None] | None = None
    start: Callable[[], None] | None = None
    hang: Callable[[], None] | None = None
    resume: Callable[[], None] | None = None

    @property
    def options(self) -> frozenset[str]:
        return adapter_class(self.adapter).options

    def supports(self, operation: str) -> bool:
        return adapter_class(self.adapter).supports(operation)


class Caller:
    """The client of a user on one cluster."""

    def __init__(self, client: Client, cluster: str) -> None:
        self.client, self.cluster = client, cluster

    def submit(self, content: str, **options: Any) -> Any:
        return self.client.submit(content, self.cluster, **options)

    def refused(self, content: str, **options: Any) -> tuple[int, str, str]:
        body = {"cluster": self.cluster, "script": {"content": content}, "options": options}
        return self.client.error("POST", "/api/v1/jobs", body)

    def job(self, job_id: str) -> Any:
        return self.client.job(quote(job_id, safe=""), self.cluster)

    def wait(self, job_id: str, until: Callable[[Any], bool], seconds: float = 120) -> Any:
        wait_for(f"job {job_id}", lambda: until(self.job(job_id)), seconds)
        return self.job(job_id)

    def ended(self, job_id: str) -> Any:
        """Wait until a job has ended and has an outcome, and return it."""
        return self.wait(job_id, lambda job: job["status"] == "completed" and job["outcome"] is not None)

    def path(self, job_id: str, action: str = "") -> str:
        return f"/api/v1/jobs/{quote(job_id, safe='')}{action}?cluster={self.cluster}"

    def change(self, method: str, job_id: str, action: str = "") -> Any:
        return self.client.data(method, self.path(job_id, action))

    def cancel(self, job_id: str) -> None:
        self.client("DELETE", self.path(job_id))

    def listed(self) -> list[Any]:
        found: list[Any] = self.client.data(
            "GET", f"/api/v1/jobs?cluster={self.cluster}", headers={"Cache-Control": "no-cache"}
        )
        return found

    def state(self) -> Any:
        return self.client.data("GET", f"/api/v1/clusters/{self.cluster}")["state"]

    def output(self, job_id: str, query: str = "") -> Any:
        return self.client("GET", f"{self.path(job_id, '/output')}&{query}")

    def has_output(self, job_id: str) -> bool:
        return bool(self.output(job_id).status_code == 200)

    def get(self, path: str, **more: Any) -> Any:
        return self.client("GET", f"{path}{'&' if '?' in path else '?'}cluster={self.cluster}", **more)


def seconds(text: str | None) -> float:
    """Return Unix seconds of a time in a response."""
    assert text is not None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class AdapterContract:
    """The tests of every adapter. ``alice`` and ``bob`` are two users of the machine."""

    @pytest.fixture
    def mine(self, scheduler: Scheduler, as_scheduler_alice: Client) -> Caller:
        return Caller(as_scheduler_alice, scheduler.cluster)

    @pytest.fixture
    def others(self, scheduler: Scheduler, as_scheduler_bob: Client) -> Caller:
        return Caller(as_scheduler_bob, scheduler.cluster)

    def test_a_job_from_its_script_to_its_outcome(self, mine: Caller, alice: User) -> None:
        """The job has the requested name, directory, streams and limit, correct times, and the user as its owner."""
        workdir = alice.home / "work dir"
        alice.run("mkdir", "-p", str(workdir))
        out, err = alice.home / f"{mine.cluster}.out", alice.home / f"{mine.cluster}.err"
        before = time.time()
        job = mine.submit(
            "#!/bin/bash\n# a comment\nid -un; pwd; echo wrong >&2; sleep 1\n", workdir=str(workdir), job_name="errand",
            output_path=str(out), error_path=str(err), wall_time=120,
        )  # fmt: skip
        assert job["status"] == "queued"
        done = mine.ended(job["job_id"])
        assert done["outcome"] == "succeeded", done
        assert (done["job_name"], done["job_owner"], done["exit_code"]) == ("errand", alice.name, 0)
        assert done["wallclock_limit"] in (120, None)
        # The times do not depend on the time zone of the machine.
        assert before - 90 <= seconds(done["submitted_at"]) <= seconds(done["started_at"]) + 1 <= time.time() + 5
        assert seconds(done["started_at"]) <= seconds(done["ended_at"]) <= time.time() + 5
        wait_for("the output", lambda: out.is_file() and err.is_file())
        assert f"{alice.name}\n{workdir}\n" in out.read_text()
        assert "wrong\n" in err.read_text()

    def test_a_failed_job_has_its_exit_code(self, mine: Caller, alice: User) -> None:
        """Without error_path, both streams are in one file."""
        out = alice.home / f"{mine.cluster}-joined"
        job = mine.submit("#!/bin/bash\necho one; echo two >&2; exit 3\n", output_path=str(out))
        done = mine.ended(job["job_id"])
        assert (done["status"], done["outcome"], done["exit_code"]) == ("completed", "failed", 3)
        wait_for("the output", lambda: out.is_file() and "two" in out.read_text())
        assert "one\n" in out.read_text()

    def test_reading_the_output_of_a_job(self, mine: Caller, others: Caller, scheduler: Scheduler, alice: User) -> None:
        """It is read from the default path, completely, in parts, or its last lines. No other user can read it."""
        job = mine.submit("#!/bin/bash\necho 'Grüße €'; echo wrong >&2\n", hold=True)["job_id"]
        early = mine.output(job)
        assert (early.status_code, early.json()["error"]) == (404, "not_found")
        assert "has not started; its stdout will be in /" in early.json()["message"]
        mine.change("POST", job, "/release")
        mine.ended(job)
        wait_for("the output", lambda: mine.output(job).status_code == 200)
        read = mine.output(job).json()["data"]
        assert "Grüße €\n" in read["content"]
        assert "wrong\n" in mine.output(job, "stream=stderr").json()["data"]["content"]
        assert (read["may_grow"], read["lossy"], read["next_offset"]) == (False, False, read["size"])
        content, offset = "", 0
        while offset < read["size"]:
            part = mine.output(job, f"offset={offset}&limit=7").json()["data"]
            content, offset = content + part["content"], part["next_offset"]
        assert content == alice.run("cat", read["path"]).stdout
        assert mine.output(job, "tail=1").json()["data"]["content"].count("\n") == 1
        assert others.output(job).status_code == 404
        assert mine.output("999999").status_code == 404

    def test_streams_with_separate_paths(self, mine: Caller, alice: User) -> None:
        """Each stream is read from its own path. A file that was deleted is 404, and the message names it."""
        out, err = alice.home / f"{mine.cluster} 1.out", alice.home / f"{mine.cluster} 1.err"
        job = mine.submit("#!/bin/bash\necho one; echo two >&2\n", output_path=str(out), error_path=str(err))["job_id"]
        mine.ended(job)
        wait_for("the output", lambda: out.is_file() and err.is_file())
        for stream, path, text in (("stdout", out, "one\n"), ("stderr", err, "two\n")):
            read = mine.output(job, f"stream={stream}").json()["data"]
            assert (read["path"], text in read["content"]) == (str(path), True)
        out.unlink()
        gone = mine.output(job)
        assert (gone.status_code, gone.json()["message"].count(str(out))) == (404, 1)

    def test_output_of_tasks(self, mine: Caller, scheduler: Scheduler) -> None:
        """Each task has its own output. The array has none, and the message names a task to ask for."""
        if "array" not in scheduler.options:
            return
        job = mine.submit(f"#!/bin/sh\necho task ${scheduler.task_variable}\n", array="1-2")["job_id"]
        mine.ended(job)
        number = job.partition("[")[0]
        for task in (1, 2):
            task_id = scheduler.task_id.format(number=number, task=task)
            wait_for(f"the output of {task_id}", partial(mine.has_output, task_id))
            assert f"task {task}\n" in mine.output(task_id).json()["data"]["content"]
        refused = mine.output(job)
        assert (refused.status_code, "is an array" in refused.json()["message"]) == (422, True)

    def test_both_streams_in_one_path(self, mine: Caller, alice: User) -> None:
        """A path that is given twice, in two spellings, is one file with both streams."""
        out = alice.home / f"{mine.cluster}-both.out"
        other = f"{alice.home}/./{out.name}"
        job = mine.submit("#!/bin/bash\necho one; echo two >&2\n", output_path=str(out), error_path=other)["job_id"]
        mine.ended(job)
        wait_for("both streams", lambda: out.is_file() and {"one", "two"} <= set(out.read_text().split()))
        for stream in ("stdout", "stderr"):
            assert {"one", "two"} <= set(mine.output(job, f"stream={stream}").json()["data"]["content"].split())

    def test_a_path_in_the_home(self, mine: Caller, alice: User) -> None:
        """``~/`` is the home for every scheduler, and any other ``~`` is refused."""
        (alice.home / "elsewhere").mkdir(exist_ok=True)
        (alice.home / "elsewhere").chmod(0o777)
        name = f"{mine.cluster}-home.out"
        job = mine.submit("#!/bin/sh\necho at home\n", output_path=f"~/{name}", workdir=str(alice.home / "elsewhere"))[
            "job_id"
        ]
        mine.ended(job)
        wait_for("the output", lambda: mine.has_output(job))
        read = mine.output(job).json()["data"]
        assert (read["path"], "at home" in read["content"]) == (str(alice.home / name), True)
        for path in ("~root/x", "~x", "~"):
            status, _, message = mine.refused(TRUE, output_path=path)
            assert (status, "options.output_path" in message) == (422, True)

    def test_an_exit_code_is_that_of_the_script(self, mine: Caller) -> None:
        """Schedulers use some of these codes for jobs that they end, but these jobs failed by themselves."""
        jobs = {code: mine.submit(f"#!/bin/sh\nexit {code}\n")["job_id"] for code in (1, 130, 137, 140, 143, 255)}
        ended = {code: mine.ended(job) for code, job in jobs.items()}
        assert {code: (job["outcome"], job["exit_code"]) for code, job in ended.items()} == {
            code: ("failed", code) for code in jobs
        }

    def test_what_runs_is_the_script(self, mine: Caller, scheduler: Scheduler) -> None:
        """A native option that would run another script or program is refused, and nothing is submitted."""
        if "native" not in scheduler.options:
            return
        before = {job["job_id"] for job in mine.listed()}
        for native in (["/bin/id"], ["--", "/bin/id"], ["--wrap=id"], ["-b", "y", "/bin/id"]):
            status, _, message = mine.refused(TRUE, native=native)
            assert (status, "options.native" in message) == (422, True), message
        assert {job["job_id"] for job in mine.listed()} <= before

    def test_held_released_and_run(self, mine: Caller, scheduler: Scheduler) -> None:
        """A job is submitted held, can be held again, is released, and runs."""
        job = mine.submit(TRUE, hold=True)
        assert job["status"] == "queued_held"
        assert mine.job(job["job_id"])["status"] == "queued_held"
        assert mine.change("POST", job["job_id"], "/hold")["status"] == "queued_held"
        assert mine.change("POST", job["job_id"], "/release")["status"] == "queued"
        assert mine.ended(job["job_id"])["outcome"] == "succeeded"

    def test_validate_compares_with_the_queues_limits(self, mine: Caller, scheduler: Scheduler) -> None:
        """A job beyond its queue's time limit is refused without a submit."""
        if not scheduler.supports("validate"):
            return
        for name, limit in scheduler.site["queues"].items():
            for wall_time, status in ((60, 200), (7200, 200 if limit is None or limit >= 7200 else 422)):
                body = {
                    "cluster": mine.cluster,
                    "script": {"content": SLEEP},
                    "options": {"queue_name": name, "wall_time": wall_time},
                }
                answer = mine.client("POST", "/api/v1/jobs?validate=true", body)
                assert answer.status_code == status, (name, wall_time, answer.text)

    def test_a_cancelled_queued_task_is_remembered(self, mine: Caller, scheduler: Scheduler) -> None:
        """It is completed as long as its array exists, and the other tasks are unchanged."""
        if "array" not in scheduler.options:
            return
        array = mine.submit(TRUE, array="1-3", hold=True)["job_id"]
        number = array.partition("[")[0]
        first, task, other = (scheduler.task_id.format(number=number, task=index) for index in (1, 2, 3))
        assert mine.change("DELETE", task)["status"] == "cancelled"
        done = mine.job(task)
        assert (done["job_id"].partition(".")[0].startswith(number), done["status"]) == (True, "completed"), done
        assert (done["outcome"], done["started_at"], done["exit_code"]) == ("cancelled", None, None)
        named = {"jobs": [{"cluster": mine.cluster, "job_id": one} for one in (task, other)]}
        statuses = mine.client.data("POST", "/api/v1/jobs/status", named)
        assert [(one["status"], one["outcome"]) for one in statuses] == [
            ("completed", "cancelled"),
            ("queued_held", None),
        ]
        assert mine.client.error("DELETE", mine.path(task))[0] in (404, 422)
        # The task is released, or the response is an error and the task stays held.
        released = mine.client("POST", mine.path(other, "/release"))
        assert released.status_code in (200, 422), released.text
        if released.status_code == 200:
            mine.wait(other, lambda now: now["status"] != "queued_held")
        else:
            assert mine.job(other)["status"] == "queued_held"
        mine.change("POST", array, "/release")
        for one in (first, other):
            assert mine.ended(one)["outcome"] == "succeeded"
        assert mine.job(task)["outcome"] == "cancelled"

    def test_dependencies_are_checked_before_a_submit(self, mine: Caller, scheduler: Scheduler) -> None:
        """A condition that is already met is left out and reported. One that can never be met, and an unknown job, are refused."""
        names = [name for name in DEPENDENCIES if name in scheduler.options]
        if not names:
            return
        good, bad = mine.submit(TRUE)["job_id"], mine.submit("#!/bin/sh\nexit 4\n")["job_id"]
        mine.ended(good), mine.ended(bad)
        never = {("afterok", bad), ("afternotok", good)}
        for name in names:
            status, _, message = mine.refused(TRUE, **{name: ["999999"]})
            assert (status, f"options.{name}" in message, "999999" in message) == (422, True, True), message
            for job in (good, bad):
                if (name, job) in never:
                    status, _, message = mine.refused(TRUE, **{name: [job]})
                    assert (status, job in message, "ended" in message) == (422, True, True), message
                    continue
                submitted = mine.submit(SLEEP, hold=True, **{name: [job]})
                assert submitted["dependencies_met"] == {name: [job]}
                mine.cancel(submitted["job_id"])
        waits = mine.submit(SLEEP, hold=True)["job_id"]
        submitted = mine.submit(SLEEP, hold=True, **{names[0]: [waits]})
        assert submitted["dependencies_met"] == {}
        for job in (submitted["job_id"], waits):
            mine.cancel(job)
        if "array" in scheduler.options and "afterok" in names:
            array = mine.submit(f'#!/bin/sh\n[ "${scheduler.task_variable}" = 1 ]\n', array="1-2")["job_id"]
            assert mine.ended(array)["outcome"] == "failed"
            number = array.partition("[")[0]
            failed = scheduler.task_id.format(number=number, task=2)
            for job in (array, failed):
                assert mine.refused(TRUE, afterok=[job])[0] == 422, job
            fine = scheduler.task_id.format(number=number, task=1)
            submitted = mine.submit(SLEEP, hold=True, afterok=[fine])
            assert submitted["dependencies_met"] == {"afterok": [fine]}
            mine.cancel(submitted["job_id"])

    def test_the_response_to_a_submit_agrees_with_the_job(self, mine: Caller, scheduler: Scheduler) -> None:
        """Each field comes from the options or the script, and is what the scheduler made of it, or null."""
        scripts = [SLEEP, *(f"#!/bin/sh\n{line}\nsleep 100\n" for line in scheduler.site.get("directives", ()))]
        for script in scripts:
            # First the script's directives alone, then also options, with a time that some schedulers round.
            for options in ({}, {"job_name": "known", "wall_time": 61}):
                submitted = mine.submit(script, **options, **({} if "hold" in script else {"hold": True}))
                made = mine.job(submitted["job_id"])
                assert submitted["status"] == made["status"] == "queued_held", (script, submitted, made)
                for name in ("job_name", "queue_name", "accounting_id", "wallclock_limit"):
                    assert submitted[name] in (None, made[name]), (script, name, submitted, made)
                assert submitted["job_name"] == options.get("job_name", submitted["job_name"])
                mine.cancel(submitted["job_id"])

    def test_cancelled_before_it_ran(self, mine: Caller) -> None:
        """The job has neither a start nor an exit code."""
        job = mine.submit(SLEEP, hold=True)
        assert mine.change("DELETE", job["job_id"])["status"] == "cancelled"
        done = mine.ended(job["job_id"])
        assert (done["outcome"], done["started_at"], done["exit_code"]) == ("cancelled", None, None)

    def test_cancelled_while_it_ran(self, mine: Caller) -> None:
        """A running job cannot be held and needs no release. A completed job takes no change at all."""
        job = mine.submit(SLEEP)["job_id"]
        mine.wait(job, lambda now: now["status"] == "running" and now["started_at"])
        status, _, message = mine.client.error("POST", mine.path(job, "/hold"))
        assert (status, "running" in message) == (422, True)
        assert mine.change("POST", job, "/release")["status"] == "running"
        assert mine.change("DELETE", job)["status"] == "cancelled"
        assert mine.ended(job)["outcome"] == "cancelled"
        for method, action in (("DELETE", ""), ("POST", "/hold"), ("POST", "/release")):
            assert mine.client.error(method, mine.path(job, action))[0] == 422, action

    @pytest.mark.parametrize("job_id", INVALID_IDS.values(), ids=INVALID_IDS)
    def test_an_invalid_id_is_not_found(self, mine: Caller, job_id: str) -> None:
        """The scheduler's commands do not take it for an option, a list, a pattern or a queue."""
        for method, action in (("GET", ""), ("DELETE", ""), ("POST", "/hold"), ("POST", "/release")):
            assert mine.client.error(method, mine.path(job_id, action))[:2] == (404, "not_found"), (method, action)

    def test_another_users_job_is_not_found(self, mine: Caller, others: Caller) -> None:
        """The user can neither see nor change it, and it stays as it was."""
        job = mine.submit(SLEEP, hold=True)["job_id"]
        for method, action in (("GET", ""), ("DELETE", ""), ("POST", "/hold"), ("POST", "/release")):
            assert others.client.error(method, others.path(job, action))[:2] == (404, "not_found"), (method, action)
        assert all(one["job_owner"] != mine.job(job)["job_owner"] for one in others.listed())
        assert mine.job(job)["status"] == "queued_held"
        mine.cancel(job)

    def test_a_list_holds_only_the_users_jobs(self, mine: Caller, others: Caller, alice: User, bob: User) -> None:
        """Each user sees all of their own jobs and none of another user."""
        jobs = {mine.submit(SLEEP, hold=True, job_name=f"list{n}")["job_id"] for n in range(3)}
        theirs = others.submit(SLEEP, hold=True)["job_id"]
        listed = {job["job_id"]: job for job in mine.listed()}
        assert jobs <= set(listed)
        assert {job["job_owner"] for job in listed.values()} == {alice.name}
        assert {listed[job]["status"] for job in jobs} == {"queued_held"}
        assert {listed[job]["job_name"] for job in jobs} == {"list0", "list1", "list2"}
        assert {job["job_owner"] for job in others.listed()} == {bob.name}
        for job in jobs:
            mine.cancel(job)
        others.cancel(theirs)

    @pytest.mark.parametrize("name", OPTIONS)
    def test_an_option_is_taken_or_refused_by_name(self, mine: Caller, scheduler: Scheduler, name: str) -> None:
        """No option is dropped. The scheduler refuses what its site lacks, such as GPUs, in its own words."""
        given = sample_option(mine, scheduler, name)
        try:
            self.taken_or_refused(mine, scheduler, name, given)
        finally:
            for first in given[name] if name in DEPENDENCIES else ():
                mine.cancel(first)

    def taken_or_refused(self, mine: Caller, scheduler: Scheduler, name: str, given: dict[str, Any]) -> None:
        """Submit a job with the options, and check that it is accepted or refused by name."""
        if name not in scheduler.options:
            status, _, message = mine.refused(SLEEP, **given)
            assert (status, f"options.{name}" in message, scheduler.adapter in message) == (422, True, True)
            return
        body = {"cluster": mine.cluster, "script": {"content": SLEEP}, "options": {"hold": True, **given}}
        answer = mine.client("POST", "/api/v1/jobs", body)
        if answer.status_code != 201:
            assert name in ("gpus", "reservation", "qos", "memory", "nodes"), answer.text
            assert answer.status_code == 422
            assert "no such option" not in answer.json()["message"]
            return
        mine.cancel(answer.json()["data"]["job_id"])

    def test_an_array(self, mine: Caller, scheduler: Scheduler, alice: User) -> None:
        """Each task runs once, and the array has ended when all of its tasks have."""
        if "array" not in scheduler.options:
            return
        folder = alice.home / f"{mine.cluster}-array"
        alice.run("mkdir", "-p", str(folder))
        script = f"#!/bin/sh\necho ${scheduler.task_variable} >> {folder}/$$\n"
        job = mine.submit(script, array="1-5:2", output_path="/dev/null")
        # A list has an array as one row, or as one row for each task.
        number = job["job_id"].partition("[")[0]
        assert any(one["job_id"].startswith(number) for one in mine.listed())
        assert mine.ended(job["job_id"])["outcome"] == "succeeded"
        assert sorted(path.read_text() for path in folder.iterdir()) == ["1\n", "3\n", "5\n"]

    @pytest.mark.parametrize(
        "array", ["3-1", "1-4:0", "1-2000000", "1-3%0", "1,,2", "1-", "5,3", "1-5,3", "1-1000000000"]
    )
    def test_an_invalid_array_is_refused(self, mine: Caller, scheduler: Scheduler, array: str) -> None:
        """The scheduler never sees it: some would crash, and some would make one plain job of it."""
        before = {job["job_id"] for job in mine.listed()}
        status, _, message = mine.refused(TRUE, array=array, hold=True)
        assert status in (400, 422) and "array" in message
        assert {job["job_id"] for job in mine.listed()} <= before

    @pytest.mark.parametrize(
        ("array", "inside", "outside"), [("3", 3, 1), ("3-3", 3, 4), ("2-6:2", 6, 5), ("1,4%1", 4, 2)]
    )
    def test_an_array_has_the_requested_tasks(
        self, mine: Caller, scheduler: Scheduler, array: str, inside: int, outside: int
    ) -> None:
        """A scheduler that does not take this form of an array refuses it."""
        if "array" not in scheduler.options:
            return
        body = {"cluster": mine.cluster, "script": {"content": SLEEP}, "options": {"array": array, "hold": True}}
        answer = mine.client("POST", "/api/v1/jobs", body)
        if answer.status_code == 422:
            assert "options.array" in answer.json()["message"]
            return
        job = answer.json()["data"]["job_id"]
        there, nowhere = (self.task(scheduler, job, index) for index in (inside, outside))
        assert mine.job(there)["status"] == "queued_held"
        # An array of one task has the id of the array too.
        assert mine.job(job)["job_id"].partition(".")[0] == job.partition(".")[0]
        assert mine.client.error("GET", mine.path(nowhere))[0] == 404
        mine.cancel(job)

    @staticmethod
    def task(scheduler: Scheduler, job: str, index: int) -> str:
        """Return the id of a task of an array."""
        return scheduler.task_id.format(number=job.partition("[")[0], task=index)

    def test_a_running_task_is_cancelled_alone(self, mine: Caller, scheduler: Scheduler) -> None:
        """The other tasks keep running."""
        if "array" not in scheduler.options:
            return
        job = mine.submit(SLEEP.replace("100", "300"), array="1-3", output_path="/dev/null")["job_id"]
        first, second, third = (self.task(scheduler, job, index) for index in (1, 2, 3))
        for task in (first, second, third):
            running = mine.wait(task, lambda now: now["status"] == "running" and now["started_at"])
            assert running["job_id"].startswith(task)
        assert mine.change("DELETE", second)["job_id"] == second
        assert mine.ended(second)["outcome"] == "cancelled"
        for task in (first, third):
            assert mine.job(task)["status"] == "running"
        mine.cancel(job)

    def test_a_queued_task_is_held_released_and_cancelled_alone(self, mine: Caller, scheduler: Scheduler) -> None:
        """A scheduler that cannot change one task refuses to."""
        if "array" not in scheduler.options:
            return
        job = mine.submit(SLEEP.replace("100", "300"), array="1-4%1", output_path="/dev/null")["job_id"]
        tasks = [self.task(scheduler, job, index) for index in (1, 2, 3, 4)]
        mine.wait(tasks[0], lambda now: now["status"] == "running" and now["started_at"])

        def statuses(*indices: int) -> list[str]:
            return [mine.job(tasks[index - 1])["status"] for index in indices]

        before = statuses(1, 2, 4)
        held = mine.client("POST", mine.path(tasks[2], "/hold"))
        assert held.status_code in (200, 422), held.text
        if held.status_code == 200:
            assert (held.json()["data"]["status"], statuses(3)) == ("queued_held", ["queued_held"])
            assert statuses(1, 2, 4) == before
            mine.change("POST", tasks[2], "/release")
            assert statuses(3) == [before[1]]
        mine.change("DELETE", tasks[3])
        assert statuses(1, 2) == before[:2]
        assert statuses(3) == [before[1]]
        mine.cancel(job)

    def test_an_array_of_ten_thousand_tasks(self, mine: Caller, scheduler: Scheduler) -> None:
        """It is listed, read in pages and cancelled, or refused by the scheduler's limit."""
        if "array" not in scheduler.options:
            return
        body = {"cluster": mine.cluster, "script": {"content": SLEEP}, "options": {"array": "1-10000", "hold": True}}
        answer = mine.client("POST", "/api/v1/jobs", body)
        if answer.status_code == 422:
            return
        job = answer.json()["data"]["job_id"]
        assert mine.job(job)["status"] == "queued_held"
        number = job.partition("[")[0]
        listed = [one for one in mine.listed() if one["job_id"].startswith(number)]
        # As one row or by tasks, of which Torque creates some at a time.
        assert 1 <= len(listed) <= 10_000
        page = mine.get("/api/v1/jobs?limit=10").json()
        assert (len(page["data"]), bool(page["next_cursor"])) in ((10, True), (len(mine.listed()), False))
        mine.change("DELETE", job)
        mine.wait(job, lambda now: now["status"] == "completed")

    def test_a_queued_array_is_cancelled_as_a_whole(self, mine: Caller, scheduler: Scheduler) -> None:
        """The array is completed, and cancelled where the scheduler records outcomes of queued jobs."""
        if "array" not in scheduler.options:
            return
        job = mine.submit(SLEEP, array="1-3", hold=True)["job_id"]
        mine.change("DELETE", job)
        assert mine.wait(job, lambda now: now["status"] == "completed")["outcome"] in ("cancelled", None)

    def test_a_running_array_is_cancelled_as_a_whole(self, mine: Caller, scheduler: Scheduler) -> None:
        """Each of its running tasks is cancelled too."""
        if "array" not in scheduler.options:
            return
        job = mine.submit(SLEEP.replace("100", "300"), array="1-3%2", output_path="/dev/null")["job_id"]
        for index in (1, 2):
            mine.wait(self.task(scheduler, job, index), lambda now: now["status"] == "running" and now["started_at"])
        mine.change("DELETE", job)
        mine.wait(job, lambda now: now["status"] == "completed")
        for index in (1, 2):
            task = mine.ended(self.task(scheduler, job, index))
            assert (task["outcome"], task["exit_code"]) == ("cancelled", None), task

    @pytest.mark.parametrize("kind", DEPENDENCIES)
    def test_a_job_starts_when_its_dependency_is_met(
        self, mine: Caller, scheduler: Scheduler, alice: User, kind: str
    ) -> None:
        """The dependent job succeeds only if the other one has reached the required state."""
        if kind not in scheduler.options:
            return
        flag, go = (alice.home / f"{mine.cluster}-{kind}{suffix}" for suffix in ("", "-go"))
        waits = f"timeout 60 sh -c 'until test -e {go}; do sleep 0.2; done'; sleep 1; touch '{flag}'"
        script = {"after": f"touch '{flag}'; sleep 3", "afternotok": f"{waits}; exit 1"}.get(kind, waits)
        first = mine.submit(f"#!/bin/sh\n{script}\n", hold=kind == "after")["job_id"]
        if kind != "after":
            mine.wait(first, lambda now: now["status"] == "running")
        second = mine.submit(f"#!/bin/sh\nsleep 1; test -e '{flag}'\n", **{kind: [first]})["job_id"]
        assert mine.job(second)["status"] == "queued"
        if kind == "after":
            mine.change("POST", first, "/release")
        else:
            alice.run("touch", str(go))
        assert mine.ended(second)["outcome"] == "succeeded"

    def test_a_dependency_must_be_a_job_id(self, mine: Caller, scheduler: Scheduler) -> None:
        """Shell text and options are refused."""
        for kind in set(DEPENDENCIES) & scheduler.options:
            assert mine.refused(TRUE, **{kind: ["1;id"]})[0] == 422
            assert mine.refused(TRUE, **{kind: ["--help"]})[0] == 422

    def test_the_environment(self, mine: Caller, scheduler: Scheduler, alice: User) -> None:
        """Values with blanks, commas, shell text and non-ASCII characters reach the job unchanged."""
        if "environment" not in scheduler.options:
            return
        out = alice.home / f"{mine.cluster}-environment"
        values = {"COLOUR": "a, b=$(id) é", "EMPTY": ""}
        job = mine.submit(
            '#!/bin/bash\nprintf "%s|%s|" "$COLOUR" "${EMPTY-unset}"\n', environment=values, output_path=str(out)
        )
        assert mine.ended(job["job_id"])["outcome"] == "succeeded"
        wait_for("the output", lambda: out.is_file() and out.read_text().endswith("a, b=$(id) é||"))

    @pytest.mark.parametrize(
        "name", ["plain", "with blank", "a,b|c;d", "x=y", "1st", "-N", "quote'\"", "héllo", "<&>", "a\\b", "%j", "n" * 200]
    )  # fmt: skip
    def test_a_name_is_kept_or_refused(self, mine: Caller, name: str) -> None:
        """No character is taken for a separator, an option or markup."""
        body = {"cluster": mine.cluster, "script": {"content": SLEEP}, "options": {"job_name": name, "hold": True}}
        answer = mine.client("POST", "/api/v1/jobs", body)
        if answer.status_code == 422:
            assert answer.json()["message"].strip()
            return
        assert answer.status_code == 201, answer.text
        job = answer.json()["data"]["job_id"]
        assert mine.job(job)["job_name"] == name
        assert name in [one["job_name"] for one in mine.listed() if one["job_id"] == job]
        mine.cancel(job)

    def test_the_status_of_several_jobs(self, mine: Caller, others: Caller, scheduler: Scheduler) -> None:
        """The order is that of the request, and each job is as when it is read alone. Unknown jobs and those of others are errors."""
        held, good = mine.submit(SLEEP, hold=True)["job_id"], mine.submit(TRUE)["job_id"]
        bad = mine.submit("#!/bin/sh\nexit 3\n")["job_id"]
        array = mine.submit(SLEEP, array="1-2", hold=True)["job_id"] if "array" in scheduler.options else held
        theirs = others.submit(SLEEP, hold=True, job_name="theirs")["job_id"]
        for job in (good, bad):
            mine.ended(job)
        asked = [bad, "999999", held, theirs, array, good, held, "no id", "1;id"]
        body = {
            "jobs": [*({"cluster": mine.cluster, "job_id": job} for job in asked), {"cluster": "none", "job_id": "1"}]
        }
        statuses = mine.client.data("POST", "/api/v1/jobs/status", body, headers={"Cache-Control": "no-cache"})
        assert [one["job_id"] for one in statuses] == [*asked, "1"]
        known = ("status", "outcome", "exit_code")
        for place in (0, 2, 4, 5, 6):
            alone = mine.job(asked[place])
            assert [statuses[place][key] for key in known] == [alone[key] for key in known]
        errors = [one["error"] for one in statuses]
        assert [errors[place] for place in (0, 2, 4, 5, 6)] == [None] * 5
        assert [errors[place] for place in (1, 7, 8, 9)] == ["not_found"] * 4
        # The embedded scheduler numbers each user's jobs separately, so the id may be one of this user's jobs.
        assert errors[3] == "not_found" or scheduler.adapter == "local"
        for caller, job in ((mine, held), (mine, array), (others, theirs)):
            caller.cancel(job)

    def test_an_unknown_queue_is_refused(self, mine: Caller) -> None:
        """The message is that of the scheduler."""
        status, error, message = mine.refused(TRUE, queue_name="nosuchqueue")
        assert (status, error) == (422, "unprocessable_entity")
        assert "queue" in message.lower() or "partition" in message.lower()

    def test_validation_submits_nothing(self, mine: Caller, scheduler: Scheduler) -> None:
        """The scheduler accepts or refuses the job in its own words. An adapter that cannot validate is 501."""
        before = {job["job_id"] for job in mine.listed()}

        def tried(content: str, **options: Any) -> Any:
            body = {"cluster": mine.cluster, "script": {"content": content}, "options": options}
            return mine.client("POST", "/api/v1/jobs?validate=true", body)

        answer = tried(SLEEP)
        if not scheduler.supports("validate"):
            assert (answer.status_code, answer.json()["error"]) == (501, "not_implemented")
        else:
            assert answer.status_code == 200 and answer.json()["data"]["accepted"] is True, answer.text
            refused = tried(SLEEP, queue_name="no-such-queue")
            assert refused.status_code == 422 and "no-such-queue" in refused.json()["message"], refused.text
        assert {job["job_id"] for job in mine.listed()} <= before

    def test_a_submit_with_an_idempotency_key_is_one_job(self, mine: Caller) -> None:
        """The second request returns the first response."""
        body = {"cluster": mine.cluster, "script": {"content": TRUE}}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        first, again = (mine.client("POST", "/api/v1/jobs", body, headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 201), first.text + again.text
        assert first.json() == again.json() and again.headers["Idempotency-Replayed"] == "true"
        mine.ended(first.json()["data"]["job_id"])

    def test_queues(self, mine: Caller, scheduler: Scheduler) -> None:
        """Each queue can be named in a submit, and has its time limit."""
        answer = mine.get("/api/v1/queues")
        if not scheduler.supports("queues"):
            assert answer.status_code == 501
            return
        queues = {queue["name"]: queue for queue in answer.json()["data"]}
        for name, limit in scheduler.site["queues"].items():
            assert queues[name]["time_limit"] == limit
            assert queues[name]["state"] == "up"
            job = mine.submit(SLEEP, queue_name=name, hold=True)
            assert mine.job(job["job_id"])["queue_name"] == name
            mine.cancel(job["job_id"])

    def test_accounts(self, mine: Caller, scheduler: Scheduler) -> None:
        """Each account can be named in a submit, and an unknown one is refused."""
        answer = mine.get("/api/v1/accounts")
        if not scheduler.supports("accounts"):
            assert (answer.status_code, scheduler.adapter in answer.json()["message"]) == (501, True)
            return
        names = [account["name"] for account in answer.json()["data"]]
        if "account" not in scheduler.site:
            assert names == []
            return
        assert scheduler.site["account"] in names
        job = mine.submit(SLEEP, accounting_id=scheduler.site["account"], hold=True)
        assert mine.job(job["job_id"])["accounting_id"] == scheduler.site["account"]
        mine.cancel(job["job_id"])
        assert mine.refused(TRUE, accounting_id="nosuchaccount")[0] == 422

    def test_cluster_info(self, mine: Caller, scheduler: Scheduler) -> None:
        """The processors and the node of a running job are in use."""
        answer = mine.get("/api/v1/cluster_info", headers={"Cache-Control": "no-cache"})
        if not scheduler.supports("info"):
            assert answer.status_code == 501
            return
        job = mine.submit(SLEEP)["job_id"]
        mine.wait(job, lambda now: now["status"] == "running" and now["started_at"])

        def used() -> Any:
            info = mine.get("/api/v1/cluster_info", headers={"Cache-Control": "no-cache"}).json()["data"]
            assert info["total_nodes"] == 1
            assert info["total_processors"] > 0
            return info["active_processors"] >= 1 and info["active_nodes"] == 1

        wait_for("the processors of the running job", used)
        mine.cancel(job)

    def test_history(self, mine: Caller, scheduler: Scheduler, others: Caller) -> None:
        """It holds the user's completed jobs with their outcomes, filtered by time and outcome, and no other user's."""
        answer = mine.get("/api/v1/jobs/historic")
        if not scheduler.supports("history"):
            assert answer.status_code == 501
            return
        good, bad = mine.submit(TRUE)["job_id"], mine.submit("#!/bin/sh\nexit 4\n")["job_id"]
        ended = {job: mine.ended(job) for job in (good, bad)}

        def past(query: str = "", caller: Caller = mine) -> dict[str, Any]:
            found = caller.get(f"/api/v1/jobs/historic?limit=1000{query}").json()["data"]
            return {job["job_id"]: job for job in found}

        wait_for("both jobs in the history", lambda: {good, bad} <= set(past()))
        assert (past()[good]["outcome"], past()[bad]["outcome"], past()[bad]["exit_code"]) == ("succeeded", "failed", 4)
        assert bad in past("&status=failed")
        assert good not in past("&status=failed")
        for job in (good, bad):
            assert abs(seconds(past()[job]["ended_at"]) - seconds(ended[job]["ended_at"])) <= 2
        assert not {good, bad} & set(past(caller=others))
        assert not past("&from=2020-01-01&to=2020-01-02")
        assert {good, bad} <= set(past("&from=0236-03-28&to=9999-12-31"))

    def test_a_submit_whose_answer_was_lost_is_found_by_its_submit_tag(
        self, scheduler: Scheduler, as_scheduler_alice: Client
    ) -> None:
        """The command submits and then prints nothing until it times out. The response has the job, which exists once."""
        lost = f"{scheduler.cluster}-lost"
        name = f"lost{time.time_ns() % 10**9}"
        job = as_scheduler_alice.submit(SLEEP, lost, job_name=name, hold=True)
        mine = Caller(as_scheduler_alice, scheduler.cluster)
        assert [one["job_id"] for one in mine.listed() if one["job_name"] == name] == [job["job_id"]]
        assert job["status"] == "queued_held"
        mine.cancel(job["job_id"])

    def test_a_scheduler_that_is_down_and_comes_back(self, mine: Caller, scheduler: Scheduler) -> None:
        """Every request is 503 with Retry-After while the scheduler is down, and a submit succeeds afterwards."""
        if not scheduler.stop or not scheduler.start:
            return
        scheduler.stop()
        try:
            for method, path, body in (
                ("GET", f"/api/v1/jobs?cluster={mine.cluster}", None),
                ("GET", mine.path("1"), None),
                ("DELETE", mine.path("1"), None),
                ("GET", f"/api/v1/queues?cluster={mine.cluster}", None),
                ("POST", "/api/v1/jobs", {"cluster": mine.cluster, "script": {"content": TRUE}}),
            ):
                answer = mine.client(method, path, body, headers={"Cache-Control": "no-cache"})
                assert answer.status_code == 503, (method, path, answer.text)
                assert int(answer.headers["Retry-After"]) > 0
        finally:
            scheduler.start()
        wait_for("the scheduler", lambda: mine.get("/api/v1/jobs").status_code == 200)
        assert mine.ended(mine.submit(TRUE)["job_id"])["outcome"] == "succeeded"

    @pytest.mark.parametrize("way", ["hangs", "stops"])
    def test_concurrent_submits_while_the_scheduler(self, mine: Caller, scheduler: Scheduler, way: str) -> None:
        """A 201 is exactly one job, an unknown outcome at most one, and any other response none.

        A submit that is repeated with its key afterwards is one job. Requests that need no scheduler are answered while
        the scheduler is down.
        """
        halt, go_on = (scheduler.hang, scheduler.resume) if way == "hangs" else (scheduler.stop, scheduler.start)
        if not halt or not go_on:
            return
        prefix = f"{way}{time.time_ns() % 10**9}"
        mine.submit(TRUE)
        with ThreadPoolExecutor(20) as pool:
            submits = Submits(mine, pool, prefix)
            early = submits.begin(6)
            next(as_completed(early))
            halt()
            try:
                caught = submits.begin(6)
                for path in ("/api/v1/whoami", "/api/v1/clusters"):
                    assert mine.client("GET", path).status_code == 200
                next(as_completed(caught))
                refused = submits.begin(4)
                assert mine.client("GET", "/api/v1/whoami").status_code == 200
                next(as_completed(refused))
                # Whatever the commands print while the scheduler does not answer.
                wait_for("a cluster that is down", lambda: mine.state() == "down")
            finally:
                go_on()
            wait_for("all answers", lambda: all(one.done() for one in (*early, *caught, *refused)))
        submits.repeat_keyed()
        # When this job has ended, the scheduler has also handled every earlier submit.
        mine.ended(mine.submit(TRUE)["job_id"])
        submits.check()


class Submits:
    """The submits of one test: held and short jobs in turn, every other pair with a key, each with its own name."""

    def __init__(self, mine: Caller, pool: ThreadPoolExecutor, prefix: str) -> None:
        self._mine, self._pool, self._prefix = mine, pool, prefix
        self._answers: dict[str, Future[requests.Response]] = {}

    def begin(self, count: int) -> list[Future[requests.Response]]:
        """Start submits at once, and return their futures."""
        numbers = range(len(self._answers), len(self._answers) + count)
        begun = {f"{self._prefix}-{number}": self._pool.submit(self._send, number) for number in numbers}
        self._answers.update(begun)
        return list(begun.values())

    def repeat_keyed(self) -> None:
        """Repeat each submit that has a key until it succeeds, and compare it with a first response that was a success."""
        for number, first in enumerate(self._answers.values()):
            if not self._key(number):
                continue
            again = wait_for_success(f"submit {number}", partial(self._send, number))
            assert first.result().status_code == 503 or first.result().json() == again.json()

    def check(self) -> None:
        """Compare the responses with the jobs that exist."""
        jobs = self._jobs()
        results = {}
        for number, (name, answer) in enumerate(self._answers.items()):
            first = answer.result()
            assert first.status_code in (201, 503), first.text
            results[name] = (first.status_code, sorted(jobs.get(name, ())), self._key(number), first.text)
        for status, made, key, text in results.values():
            # The unknown outcome of one submit must not be reported for another one that was not sent.
            assert not ("not known whether" in text and "Try again in" in text), text
            if status == 201:
                assert made == [json.loads(text)["data"]["job_id"]], results
            elif key:
                assert len(made) == 1, results
            else:
                assert len(made) <= ("not known whether" in text), results
        for job_id in set().union(*jobs.values()):
            self._mine.cancel(job_id)

    def _jobs(self) -> dict[str, set[str]]:
        """Return the ids of the jobs by name: queued, running and completed ones, without cancelled ones."""
        past = self._mine.get("/api/v1/jobs/historic?limit=1000").json()["data"]
        found: dict[str, set[str]] = {}
        for job in (*self._mine.listed(), *past):
            # LSF's history has no name for a job without one.
            if (job["job_name"] or "").startswith(self._prefix) and job["outcome"] != "cancelled":
                found.setdefault(job["job_name"], set()).add(job["job_id"])
        return found

    def _key(self, number: int) -> str | None:
        return f"{self._prefix}-{number}" if number % 4 > 1 else None

    def _send(self, number: int) -> requests.Response:
        content, hold = (SLEEP, True) if number % 2 else (TRUE, False)
        options = {"job_name": f"{self._prefix}-{number}", "hold": hold}
        body = {"cluster": self._mine.cluster, "script": {"content": content}, "options": options}
        key = self._key(number)
        return self._mine.client("POST", "/api/v1/jobs", body, headers={"Idempotency-Key": key} if key else {})


def wait_for_success(what: str, send: Callable[[], requests.Response]) -> requests.Response:
    """Send a request until the response is not 503, and return it. Fails unless that is 201."""
    answer = send()

    def is_there() -> bool:
        nonlocal answer
        answer = answer if answer.status_code != 503 else send()
        return answer.status_code != 503

    wait_for(what, is_there)
    assert answer.status_code == 201, answer.text
    return answer


def sample_option(mine: Caller, scheduler: Scheduler, name: str) -> dict[str, Any]:
    """Return an option with a value that a job might have."""
    if name in DEPENDENCIES:
        return {name: [mine.submit(TRUE, hold="hold" in scheduler.options)["job_id"]]}
    values: dict[str, Any] = {
        "job_name": "named", "wall_time": 60, "output_path": "/dev/null", "error_path": "/dev/null", "array": "1-2", "nodes": 1,
        "cores": 1, "memory": "100M", "gpus": 1, "qos": "normal", "reservation": "nosuchreservation",
        "environment": {"A": "b"}, "hold": True, "email": "a@example.org", "native": [],
        "queue_name": next(iter(scheduler.site.get("queues", {"batch": 0}))), "accounting_id": scheduler.site.get("account", "a"),
    }  # fmt: skip
    if name == "native":
        return {"native": scheduler.site.get("native", ["-x"])}
    return {name: values[name]}
