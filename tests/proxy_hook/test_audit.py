"""proxy_hook/audit.py: one user cannot flood the audit log."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from proxy_hook.audit import MAX_LINES_PER_MINUTE, WINDOW_S, AuditLog
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(clock: Clock, caplog: pytest.LogCaptureFixture) -> AuditLog:
    caplog.set_level(logging.INFO, "punway.audit")
    return AuditLog(clock)


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]


def test_a_user_has_so_many_lines_a_minute(audit: AuditLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Omitted lines are counted in a line of their own. Other users' lines are not affected."""
    for _ in range(MAX_LINES_PER_MINUTE + 30):
        audit.record("token.found", "refused", "alice")
    audit.record("token.made", "ok", "bob")
    assert len(lines_of(caplog)) == MAX_LINES_PER_MINUTE + 1
    audit.write_omitted()
    assert len(lines_of(caplog)) == MAX_LINES_PER_MINUTE + 1
    clock.now += WINDOW_S
    audit.write_omitted()
    audit.write_omitted()
    last = lines_of(caplog)[MAX_LINES_PER_MINUTE + 1 :]
    assert [(line["action"], line["user"], line["count"]) for line in last] == [("audit.omitted", "alice", 30)]
    audit.record("token.made", "ok", "alice")
    assert lines_of(caplog)[-1]["action"] == "token.made"


def test_sign_ins_of_nobody_are_counted_by_address(audit: AuditLog, caplog: pytest.LogCaptureFixture) -> None:
    """The limit of an address therefore cannot hide the failed sign-ins of another."""
    for _ in range(MAX_LINES_PER_MINUTE + 30):
        audit.record("sign-in", "refused", None, address="192.0.2.1")
    audit.record("sign-in", "refused", None, address="192.0.2.2")
    lines = lines_of(caplog)
    assert len(lines) == MAX_LINES_PER_MINUTE + 1
    assert lines[-1]["address"] == "192.0.2.2"
