"""Tests of every adapter with commands that are missing, hang, die or print garbage.

These programs do not simulate a scheduler: they print nothing that a scheduler would print.
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
    """Set short time-outs and no pauses. Check that all slots are free again afterwards."""
    assert Commands.run.__kwdefaults__
    monkeypatch.setitem(Commands.run.__kwdefaults__, "timeout", 0.15)
    monkeypatch.setattr(command, "OUTPUT_SIZE", 2**20)
    for name in SCHEDULERS:
        monkeypatch.setattr(f"{adapter_class(name).__module__}.LOOKUP_TIMEOUT_S", 0.15)
    monkeypatch.setattr("pun_app.adapters.command_line.time.sleep", lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    acquired = [command.slots.acquire(blocking=False) for _ in range(MAX_CONCURRENT_COMMANDS)]
    command.slots.release(sum(acquired))
    assert all(acquired)


def adapter_with(name: str, folder: Path, program: str | None, mode: int = 0o755) -> Any:
    """Return an adapter whose commands are all the same shell program, or are all missing if ``program`` is None."""
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
def test_a_command_that_is_missing_or_not_executable_is_not_sent(tmp_path: Path, name: str, operation: str) -> None:
    """The message does not call the outcome unknown, since nothing reached the scheduler."""
    for program in (None, "true"):
        adapter = adapter_with(name, tmp_path, program, 0o644)
        with pytest.raises(SchedulerUnavailable, match="cannot be run") as raised:
            OPERATIONS[operation](adapter)
        assert "not known" not in raised.value.message
        assert raised.value.retry_after > 0


@pytest.mark.parametrize("worst", WORST)
@pytest.mark.parametrize(("name", "operation"), CASES, ids=str)
def test_a_misbehaving_command_makes_the_scheduler_unavailable(
    tmp_path: Path, name: str, operation: str, worst: str
) -> None:
    """Only the message for a submit says that the outcome is unknown: the other operations begin with a query."""
    adapter = adapter_with(name, tmp_path, WORST[worst])
    with pytest.raises(SchedulerUnavailable) as raised:
        OPERATIONS[operation](adapter)
    assert ("not known whether" in raised.value.message) == (operation == "submit")


@pytest.mark.parametrize(
    ("printed", "code"),
    [(r"\377\376half a li", 0), ("", 0), ("<<<{{{", 0), (r"\000\001", 0), ("Error: something is wrong", 1), ("", 255)],
    ids=["cut off bytes", "nothing", "markup", "control characters", "unknown error", "exit status 255"],
)
@pytest.mark.parametrize(("name", "operation"), CASES, ids=str)
def test_garbage_is_an_error_and_never_a_job(
    tmp_path: Path, name: str, operation: str, printed: str, code: int
) -> None:
    """An adapter raises one of its errors, or returns an empty list."""
    adapter = adapter_with(name, tmp_path, f"printf '{printed}'\nexit {code}")
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
    "job_id",
    [
        pytest.param("1;id", id="semicolon"),
        pytest.param("-1", id="minus"),
        pytest.param("--help", id="option"),
        pytest.param("", id="empty"),
        pytest.param("1 2", id="blank"),
        pytest.param("a\nb", id="newline"),
        pytest.param("1\0", id="null byte"),
        pytest.param("٣", id="Arabic digit"),
        pytest.param("*", id="star"),
        pytest.param("1,2", id="two ids"),
        pytest.param("@", id="at sign"),
        pytest.param("x" * 10_000, id="10,000 characters"),
    ],
)
def test_a_malformed_id_is_not_passed_to_a_command(tmp_path: Path, name: str, job_id: str) -> None:
    adapter = adapter_with(name, tmp_path, f"touch {tmp_path}/ran")
    for operation in (adapter.job, adapter.cancel, adapter.hold, adapter.release):
        with pytest.raises(JobNotFound):
            operation(job_id)
    assert not (tmp_path / "ran").exists()
