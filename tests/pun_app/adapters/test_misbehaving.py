"""Commands that misbehave: every adapter of a scheduler, with programs in place of its commands that do the worst.

No pretended scheduler: these programs answer nothing that a scheduler would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pun_app.adapters import command
from pun_app.adapters.command import MAX_CONCURRENT_COMMANDS, Commands
from pun_app.adapters.command_line import CommandLineAdapter
from pun_app.adapters.errors import JobNotFound, Rejected, SchedulerUnavailable
from pun_app.adapters.model import JobRequest, Period
from pun_app.adapters.registry import ADAPTERS, adapter_class

SCHEDULERS = [name for name in ADAPTERS if issubclass(adapter_class(name), CommandLineAdapter)]

OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "submit": lambda adapter: adapter.submit(JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp")),
    "jobs": lambda adapter: adapter.jobs(),
    "job": lambda adapter: adapter.job("1"),
    "cancel": lambda adapter: adapter.cancel("1"),
    "hold": lambda adapter: adapter.hold("1"),
    "release": lambda adapter: adapter.release("1"),
    "history": lambda adapter: adapter.history(Period(0, 100)),
    "queues": lambda adapter: adapter.queues(),
    "accounts": lambda adapter: adapter.accounts(),
    "info": lambda adapter: adapter.info(),
    "version": lambda adapter: adapter.version(),
}

WORST = {
    "hangs": "exec sleep 600",
    "is killed": "kill -9 $$",
    "prints without end": "exec head -c 10000000 /dev/zero",
    "leaves a child that holds its output": "sleep 600 & exit 0",
}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A short time-out, no pauses; and all places are free again afterwards, so that the next request runs."""
    assert Commands.run.__kwdefaults__
    monkeypatch.setitem(Commands.run.__kwdefaults__, "timeout", 0.15)
    monkeypatch.setattr(command, "OUTPUT_SIZE", 2**20)
    for name in SCHEDULERS:
        monkeypatch.setattr(f"{adapter_class(name).__module__}.LOOKUP_TIMEOUT_S", 0.15)
    monkeypatch.setattr("pun_app.adapters.command_line.time.sleep", lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    assert command._places._value == MAX_CONCURRENT_COMMANDS


def adapter_with(name: str, folder: Path, program: str | None, mode: int = 0o755) -> Any:
    """An adapter whose commands are all the same program; without one, there is none of them."""
    cls = adapter_class(name)
    assert issubclass(cls, CommandLineAdapter)
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    for one in cls.programs:
        if program is not None:
            (bin_folder / one).write_text(f"#!/bin/sh\n{program}\n")
            (bin_folder / one).chmod(mode)
    return adapter_class(name)("c", {"adapter": name, "bin": str(bin_folder), "host": "h"})


def operations(name: str) -> list[str]:
    cls = adapter_class(name)
    return [
        operation
        for operation in OPERATIONS
        # HTCondor's accounts are in a file.
        if (operation == "version" or cls.supports(operation)) and (name, operation) != ("htcondor", "accounts")
    ]


CASES = [(name, operation) for name in SCHEDULERS for operation in operations(name)]


@pytest.mark.parametrize(("name", "operation"), CASES, ids=str)
def test_a_command_that_is_missing_or_cannot_run(tmp_path: Path, name: str, operation: str) -> None:
    """Nothing was sent, so nothing is in doubt."""
    for program in (None, "true"):
        adapter = adapter_with(name, tmp_path, program, 0o644)
        with pytest.raises(SchedulerUnavailable, match="cannot be run") as raised:
            OPERATIONS[operation](adapter)
        assert "not known" not in raised.value.message
        assert raised.value.retry_after > 0


@pytest.mark.parametrize("worst", WORST)
@pytest.mark.parametrize(("name", "operation"), CASES, ids=str)
def test_a_command_at_its_worst(tmp_path: Path, name: str, operation: str, worst: str) -> None:
    """SchedulerUnavailable, with when to try again; of a submit it is said that it may have been taken."""
    adapter = adapter_with(name, tmp_path, WORST[worst])
    with pytest.raises(SchedulerUnavailable) as raised:
        OPERATIONS[operation](adapter)
    assert ("not known whether" in raised.value.message) == (operation == "submit")


@pytest.mark.parametrize(
    ("said", "code"),
    [(r"\377\376half a li", 0), ("", 0), ("<<<{{{", 0), (r"\000\001", 0), ("Error: something is wrong", 1), ("", 255)],
    ids=range(6),
)
@pytest.mark.parametrize(("name", "operation"), CASES, ids=str)
def test_an_answer_that_is_none(tmp_path: Path, name: str, operation: str, said: str, code: int) -> None:
    """Half a line, bytes that are no text, nothing at all: an error of ours by name, or nothing found; never a job."""
    adapter = adapter_with(name, tmp_path, f"printf '{said}'\nexit {code}")
    allowed = (
        (SchedulerUnavailable, JobNotFound, Rejected) if operation == "submit" else (SchedulerUnavailable, JobNotFound)
    )
    try:
        found = OPERATIONS[operation](adapter)
    except allowed:
        return
    assert operation not in ("submit", "job", "cancel", "hold", "release")
    assert operation in ("info", "version") or found == []


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(
    "job_id", ["1;id", "-1", "--help", "", "1 2", "a\nb", "1\0", "٣", "*", "1,2", "@", "x" * 10_000]
)
def test_what_is_no_id_gets_near_no_command(tmp_path: Path, name: str, job_id: str) -> None:
    adapter = adapter_with(name, tmp_path, f"touch {tmp_path}/ran")
    for operation in (adapter.job, adapter.cancel, adapter.hold, adapter.release):
        with pytest.raises(JobNotFound):
            operation(job_id)
    assert not (tmp_path / "ran").exists()
