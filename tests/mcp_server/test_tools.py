"""The table of tools, its arguments, and what is said of errors."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mcp_server.arguments import JobId
from mcp_server.bridge import portal_of
from mcp_server.portal import Portal, PortalError
from mcp_server.server import tools
from pun_app.errors import ApiError, BadRequest, InsufficientScope, NotFound, NotSupported, Refused, Unauthorized
from tokens.scopes import SCOPES


def test_the_scopes_are_the_apis() -> None:
    rows = tools(Portal("/nonexistent", "portal.example.org"))
    assert {row.scope for row in rows} - {None} <= set(SCOPES)
    assert len({row.name for row in rows}) == len(rows) == 18


@pytest.mark.parametrize(
    ("given", "job_id"), [("7", "7"), (7, "7"), (7.0, "7"), ("7[1].pbs", "7[1].pbs"), (10**12, "1" + "0" * 12)]
)
def test_an_id_may_be_a_number(given: Any, job_id: str) -> None:
    assert TypeAdapter(JobId).validate_python(given) == job_id


@pytest.mark.parametrize("given", [True, None, 7.5, float("inf"), float("nan"), [], {}, "", "x" * 65, 10**70])
def test_what_is_no_id(given: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(JobId).validate_python(given)


@pytest.mark.parametrize("kind", [BadRequest, Unauthorized, InsufficientScope, NotFound, Refused, NotSupported])
def test_each_error_says_what_to_do(kind: type[ApiError]) -> None:
    said = str(PortalError(kind.status, kind.error, "What is wrong"))
    assert said.startswith(f"What is wrong. ({kind.error}) ") and len(said) > 60


def test_when_to_try_again() -> None:
    assert (
        str(PortalError(503, "service_unavailable", "Busy.", "5"))
        == "Busy. (service_unavailable) Try again in 5 seconds."
    )
    assert str(PortalError(500, "internal_error", "Something")) == "Something. (internal_error)"


@pytest.mark.parametrize(
    "url",
    ["https://p.example.org", "https://p.example.org/", " https://p.example.org/mcp", "https://p.example.org/api/v1/"],
)
def test_the_portals_address_as_people_write_it(url: str) -> None:
    assert portal_of(url) == "https://p.example.org/mcp"
