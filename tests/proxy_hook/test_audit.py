"""proxy_hook/audit.py: one user cannot flood the log."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from proxy_hook import audit
from proxy_hook.audit import MAX_LINES_PER_MINUTE


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(audit, "time", clock)
    monkeypatch.setattr(audit, "_windows", audit._Windows())
    return clock


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]


def test_a_user_has_so_many_lines_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """What is left out is counted in a line of its own; another user's lines are all there."""
    with caplog.at_level(logging.INFO, "punway.audit"):
        for _ in range(MAX_LINES_PER_MINUTE + 30):
            audit.record("token.found", "refused", "alice")
        audit.record("token.made", "ok", "bob")
        assert len(lines_of(caplog)) == MAX_LINES_PER_MINUTE + 1
        audit._windows.close_ended()
        assert len(lines_of(caplog)) == MAX_LINES_PER_MINUTE + 1
        clock.now += 60
        audit._windows.close_ended()
        audit._windows.close_ended()
        last = lines_of(caplog)[MAX_LINES_PER_MINUTE + 1 :]
        assert [(line["action"], line["user"], line["count"]) for line in last] == [("audit.omitted", "alice", 30)]
        audit.record("token.made", "ok", "alice")
    assert lines_of(caplog)[-1]["action"] == "token.made"


def test_sign_ins_of_nobody_are_counted_by_address(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """So one address cannot hide the refusals of another."""
    with caplog.at_level(logging.INFO, "punway.audit"):
        for _ in range(MAX_LINES_PER_MINUTE + 30):
            audit.record("sign-in", "refused", None, address="192.0.2.1")
        audit.record("sign-in", "refused", None, address="192.0.2.2")
    lines = lines_of(caplog)
    assert len(lines) == MAX_LINES_PER_MINUTE + 1
    assert lines[-1]["address"] == "192.0.2.2"
