"""Tests of what all adapters have in common, by the table in pun_app/adapters/registry.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pun_app.adapters.base import OPERATIONS, Adapter
from pun_app.adapters.command import Commands, Output
from pun_app.adapters.command_line import CommandLineAdapter
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import OPTIONS, JobRequest
from pun_app.adapters.registry import ADAPTERS, adapter_class, adapter_for

SCHEDULERS = [name for name in ADAPTERS if issubclass(adapter_class(name), CommandLineAdapter)]


@pytest.mark.parametrize("name", ["", "kubernetes", "base", "slurm.adapter", "../slurm", "os"])
def test_only_what_is_in_the_table_is_an_adapter(name: str) -> None:
    assert adapter_class(name) is Adapter


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_names_operations_and_options_that_there_are(name: str) -> None:
    adapter = adapter_class(name)
    assert adapter.options <= set(OPTIONS)
    for operation in ("submit", "jobs", "job", "cancel", "hold", "release"):
        assert adapter.supports(operation)
    assert all(hasattr(Adapter, operation) for operation in OPERATIONS)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_commands_print_times_without_a_zone_of_their_own(name: str) -> None:
    """In UTC or as Unix seconds, so that no hour comes twice; and a job gets nothing of that with its submit."""
    adapter = adapter_for("c", name, {"adapter": name, "host": "h"})
    assert isinstance(adapter, CommandLineAdapter)
    printing = dict(adapter.commands.environment)
    # Torque's XML and HTCondor's JSON have Unix seconds always.
    assert printing.get("TZ") == "UTC" or printing.get("SLURM_TIME_FORMAT") == "%s" or name in ("torque", "htcondor")
    assert not {"TZ", "SLURM_TIME_FORMAT", "LSB_DISPLAY_YEAR"} & set(adapter.submit_commands.environment)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_clusters_commands_are_where_its_file_says(name: str) -> None:
    """bin_overrides before bin; and with a submit_host nothing is looked for here."""
    cls = adapter_class(name)
    assert issubclass(cls, CommandLineAdapter)
    first, second = cls.programs[:2]
    adapter = adapter_for("c", name, {"adapter": name, "bin": "/b", "bin_overrides": {first: "/o/x"}})
    assert (adapter.command_path(first), adapter.command_path(second)) == ("/o/x", f"/b/{second}")
    assert adapter_for("c", name, {"adapter": name, "submit_host": "h"}).command_path(second) == second


def sent(name: str, request: JobRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int]:
    """Return the command line of a submit, and the lines of its standard input that are not the script's."""
    adapter = adapter_for("c", name, {"adapter": name, "host": "h"})
    assert isinstance(adapter, CommandLineAdapter)
    ran: list[tuple[list[str], str]] = []

    def run(_: object, argv: list[str], stdin: str = "", **__: object) -> Output:
        ran.append((list(argv), stdin))
        return Output(0, "1", "")

    monkeypatch.setattr(Commands, "run", run)
    adapter.run_submit(request)
    argv, stdin = ran[-1]
    return argv, stdin.count("\n")


@pytest.mark.parametrize(
    "value", ["-x", "--help", "a b", "; id", "$(id)", "`id`", "'", "a=b", "-", "*", "~root", "%j", "#"]
)
@pytest.mark.parametrize(
    "field", ["job_name", "queue_name", "accounting_id", "output_path", "error_path", "reservation", "qos"]
)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_value_stays_one_word(
    name: str, field: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It makes no word more than another value would, and no line more of a submit description."""
    monkeypatch.setenv("HOME", str(tmp_path))
    plain = JobRequest(content="#!/bin/sh\n", workdir=str(tmp_path))
    try:
        given: dict[str, Any] = {field: value}
        words, lines = sent(name, replace(plain, **given), monkeypatch)
    except Rejected:
        return
    given = {field: "usual"}
    usual, usual_lines = sent(name, replace(plain, **given), monkeypatch)
    assert (len(words), lines) == (len(usual), usual_lines)
    differing = [(word, other) for word, other in zip(words, usual, strict=True) if word != other]
    assert all(word.endswith(value) and word.removesuffix(value) + "usual" == other for word, other in differing)
