"""An array of one task has the id that its submit answered, whichever way it is asked for."""

from __future__ import annotations

import pytest

from pun_app.adapters.command_line import CommandLineAdapter
from pun_app.adapters.model import QUEUED, Job
from pun_app.adapters.registry import adapter_for


@pytest.mark.parametrize(
    ("name", "array", "task", "asked"),
    [
        ("slurm", "7", "7_3", "7"), ("lsf", "7", "7[3]", "7"), ("torque", "7[].vm", "7[3].vm", "7[].vm"),
        ("torque", "7[].vm", "7[3].vm", "7[]"), ("sge", "7", "7.3", "7"), ("htcondor", "7", "7.0", "7"),
    ],
)  # fmt: skip
def test_an_array_of_one_task(monkeypatch: pytest.MonkeyPatch, name: str, array: str, task: str, asked: str) -> None:
    adapter = adapter_for("c", name, {"adapter": name})
    assert isinstance(adapter, CommandLineAdapter)
    listed = [Job(task, name="a", status=QUEUED), Job(task.replace("7", "8", 1), name="b", status=QUEUED)]
    found = adapter.select(listed, [asked, task])
    assert (found[asked].id, found[task].id) == (array, task)
    monkeypatch.setattr(adapter, "find_tagged", lambda _: listed[:1])
    submitted = adapter.find_submitted("tag")
    assert submitted is not None and submitted.id == array
